//! The rows of a case as the batches that a source gives.

use bourn_connectors::codec::json::{Columns, Decoder, Inference};
use bourn_connectors::codec::types::Declared;
use bourn_engine::Result;
use bourn_engine::api::Rejected;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::spec::case::{Case, Row};

use super::memory::Given;

/// The columns of a source: those that the case declares, else those that its configuration does, else those that the rows
/// suggest.
///
/// # Errors
/// A type that is not known, and nothing that says which columns there are. Paths begin at the root of the document of the
/// cases.
pub fn columns(source: &str, case: &Case, configured: Option<Vec<(String, String)>>) -> Result<Columns, Problems> {
    let feeds = || case.moves.iter().flat_map(|m| &m.give).filter(|f| f.source == source);
    let declared = feeds().find_map(|f| f.schema.clone().map(|s| (s, f.path.clone())));
    if let Some((columns, path)) = declared {
        let schema = Declared(columns).schema().map_err(|problems| {
            path.iter().rev().fold(problems.under("schema"), |problems, key| problems.under(key.clone()))
        })?;
        return Ok(Columns::new(schema, &[]));
    }
    if let Some(columns) = configured {
        return Ok(Columns::new(Declared(columns).schema()?, &[]));
    }
    let mut inference = Inference::default();
    for rows in feeds().flat_map(|f| f.rows.batches()) {
        inference.look(&lines(rows.0));
    }
    let inferred = inference.finish();
    if inferred.schema.fields().is_empty() {
        let problem = Problem::new(format!("nothing says which columns `{source}` has"));
        let problem = problem.help(format!(
            "give it rows, or declare them: `given: {{ {source}: {{ schema: {{ id: bigint }}, rows: [] }} }}`"
        ));
        return Err(Problem { path: case.path.clone(), ..problem }.into());
    }
    Ok(Columns::new(inferred.schema, &inferred.mixed))
}

/// The batch of some rows; those that do not fit the columns are rejected, as a source of JSON lines does it.
///
/// # Errors
/// When a column has a type that JSON can't be read into.
pub fn batches(columns: &Columns, rows: &[Row]) -> Result<Vec<Given>> {
    let (mut decoder, text) = (Decoder::new(columns.clone())?, lines(rows));
    let (mut rest, mut all) = (text.as_slice(), Vec::new());
    while !rest.is_empty() {
        let part = decoder.decode(rest)?;
        let text = |range| String::from_utf8_lossy(&rest[range]).into_owned();
        let rejected = part.faults.into_iter().map(|f| Rejected::text(text(f.range), f.error)).collect();
        all.push((part.batch, rejected));
        rest = &rest[part.bytes..];
    }
    Ok(all)
}

fn lines(rows: &[Row]) -> Vec<u8> {
    let line = |row: &Row| serde_json::Value::Object(row.clone()).to_string() + "\n";
    rows.iter().map(line).collect::<String>().into_bytes()
}
