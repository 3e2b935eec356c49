//! The columns of a source, from the first answer.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{ConnectContext, Outage};
use bourn_engine::{Error, Result};
use bourn_http::Attempts;
use reqwest::header::HeaderMap;

use super::ask::Asking;
use super::config::Reading;
use super::page::{Decoding, Page};
use super::{Format, Http, Planned, read};
use crate::codec::csv;
use crate::codec::json::infer::BYTES_MAX;
use crate::codec::json::{Inference, Inferred};
use crate::codec::lines::BYTE_ORDER_MARK;

/// Asks once, and looks at the first rows.
pub async fn columns(config: &Http, reading: Reading, context: &ConnectContext) -> Result<(SchemaRef, Planned)> {
    let env = &context.env;
    let asking = Asking::new(config, env)?;
    let nothing = Arc::new(arrow::datatypes::Schema::empty());
    let decoding = Decoding::new(config, &reading, nothing, Planned::default());
    let outage = Outage::of(&context.id, env);
    let mut attempts = Attempts::new(&config.retry.0, env.random(), &outage);
    let (text, all) = loop {
        match first(config, &asking, &decoding).await {
            Ok(first) => {
                outage.passed();
                break first;
            }
            Err(error) => env.sleep(attempts.after(error)?).await,
        }
    };
    if config.format == Format::Csv {
        let mut inference = csv::infer::Inference::new(reading.dialect);
        inference.look(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text), all)?;
        let (names, schema) = inference.finish();
        return some(schema, Planned { names, ..Planned::default() });
    }
    let mut inference = Inference::default();
    inference.look(&text);
    let Inferred { schema, mixed } = inference.finish();
    some(schema, Planned { mixed, ..Planned::default() })
}

async fn first(config: &Http, asking: &Asking, decoding: &Decoding) -> Result<(Vec<u8>, bool)> {
    let url = read::first_url(config, asking);
    let response = asking.ask(&url, &HeaderMap::new()).await?;
    Page::open(asking, decoding, &url, response).await?.beginning(asking, BYTES_MAX).await
}

fn some(schema: SchemaRef, planned: Planned) -> Result<(SchemaRef, Planned)> {
    if schema.fields().is_empty() {
        return Err(Error::validation("the first answer has no rows to tell columns by"));
    }
    Ok((schema, planned))
}
