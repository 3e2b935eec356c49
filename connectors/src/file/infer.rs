//! The columns of files, from their first rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bourn_engine::Error;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Problem, Problems};

use super::{at_path, no_column};
use crate::codec::compression::Text;
use crate::codec::csv::{self, Dialect};
use crate::codec::json::infer::BYTES_MAX;
use crate::codec::json::{Inference, Inferred};
use crate::codec::lines::{BYTE_ORDER_MARK, LineBuffer, Piece, Place};

/// How much is read at once, in bytes.
const STEP: usize = 64 << 10;

/// The columns of JSON lines.
pub fn json(paths: &[PathBuf], open: impl Fn(&Path) -> Result<Text, Problem>) -> Result<Inferred, Problem> {
    let mut inference = Inference::default();
    let mut budget = BYTES_MAX;
    for path in paths {
        let mut input = open(path)?;
        let mut lines = LineBuffer::at(Place::default());
        while !lines.is_done() {
            match lines.piece() {
                Some(Piece::Lines(text)) => {
                    let (count, more) = (text.len(), inference.look(text));
                    lines.consume(count, 0);
                    budget = budget.saturating_sub(count);
                    if !more || budget == 0 {
                        return Ok(inference.finish());
                    }
                }
                Some(Piece::Overlong(long)) => {
                    budget = 0;
                    lines.consume_overlong(&long);
                }
                None => {
                    let count = input.read(lines.space(STEP));
                    lines.filled(count.map_err(|e| at_path(&e.context(path.display())))?);
                }
            }
        }
    }
    Ok(inference.finish())
}

/// The names of all fields of CSV, and its columns: those that are declared, or all.
pub fn csv(
    paths: &[PathBuf],
    open: impl Fn(&Path) -> Result<Text, Problem>,
    dialect: &Dialect,
    declared: Option<SchemaRef>,
) -> Result<(Vec<String>, SchemaRef), Problems> {
    readable(declared.as_ref())?;
    if let Some(schema) = &declared
        && (!dialect.header || paths.is_empty())
    {
        return Ok((schema.fields().iter().map(|f| f.name().clone()).collect(), schema.clone()));
    }
    let mut inference = csv::infer::Inference::new(Arc::new(dialect.clone()));
    let mut budget = BYTES_MAX;
    for path in paths {
        let (text, is_whole) = beginning(open(path)?, budget).map_err(|e| at_path(&e.context(path.display())))?;
        budget -= text.len();
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
        let more = inference.look(text, is_whole).map_err(|e| at_path(&e.context(path.display())))?;
        if !more || budget == 0 || (declared.is_some() && inference.has_names()) {
            break;
        }
    }
    let (names, found) = inference.finish();
    let Some(schema) = declared else { return Ok((names, found)) };
    if names.is_empty() {
        // Nothing is there yet that could say otherwise.
        return Ok((schema.fields().iter().map(|f| f.name().clone()).collect(), schema));
    }
    let known: Vec<_> = names.iter().map(String::as_str).collect();
    let missing = schema.fields().iter().filter(|f| !names.contains(f.name()));
    Problems::check(missing.map(|f| no_column(f.name(), &known).under(f.name().as_str()).under("schema")).collect())?;
    Ok((names, schema))
}

/// Whether CSV can be read into all declared columns.
pub fn readable(declared: Option<&SchemaRef>) -> Result<(), Problems> {
    let unreadable = declared.into_iter().flat_map(|s| s.fields()).filter(|f| !csv::is_readable(f.data_type()));
    let unreadable = unreadable.map(|f| {
        let problem = Problem::new(format!("CSV can't be read into a column of {}", sql_name(f.data_type())));
        problem.under(f.name().as_str()).under("schema").help("declare it as `json`, and take it apart in a `map`")
    });
    Problems::check(unreadable.collect())
}

/// The whole lines among the first `most` bytes of a text, and whether these are all of it.
fn beginning(mut input: Text, most: usize) -> Result<(Vec<u8>, bool), Error> {
    let mut text = Vec::new();
    loop {
        let had = text.len();
        if had >= most {
            text.truncate(memchr::memrchr(b'\n', &text).map_or(0, |i| i + 1));
            return if text.is_empty() {
                Err(Error::validation("its first line is longer than 1 MiB"))
            } else {
                Ok((text, false))
            };
        }
        text.resize(had + STEP.min(most - had), 0);
        let count = input.read(&mut text[had..])?;
        text.truncate(had + count);
        if count == 0 {
            return Ok((text, true));
        }
    }
}
