//! A query of rows that are there: a list of objects as a table.

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow_json::ReaderBuilder;
use arrow_json::reader::infer_json_schema_from_iterator;
use bourn_engine::data::json::row_value;
use bourn_engine::data::secret::shortened;
use bourn_engine::{Error, Result};
use bourn_expr::Query;
use serde_json::Value;

/// What the query gives for these rows.
pub fn ask(query: &str, rows: &Value, most: usize) -> Result<Value> {
    let Value::Array(rows) = rows else {
        return Err(Error::validation("`rows` is no list of objects"));
    };
    if let Some(other) = rows.iter().find(|row| !row.is_object()) {
        return Err(Error::validation(format!("`rows` is no list of objects: it has {}", cut(other))));
    }
    if rows.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    let unlike = |e| Error::validation(format!("the rows are not alike: {e}"));
    let schema: Arc<Schema> =
        Arc::new(infer_json_schema_from_iterator(rows.iter().map(|row| Ok(row.clone()))).map_err(unlike)?);
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(rows.len()).build_decoder()?;
    decoder.serialize(rows).map_err(unlike)?;
    let batch = decoder.flush()?.ok_or_else(|| Error::engine("rows give no batch"))?;
    let query = Query::compile(query, &schema).map_err(|problem| {
        let help = problem.help.map(|help| format!(" ({help})")).unwrap_or_default();
        Error::validation(format!("the query: {}{help}", problem.message))
    })?;
    let answer = query.run(&batch)?;
    if answer.num_rows() > most {
        return Err(super::too_many(most));
    }
    (0..answer.num_rows()).map(|row| row_value(&answer, row).map(Value::Object)).collect()
}

fn cut(value: &Value) -> String {
    let text = value.to_string();
    shortened(&text, 40)
}
