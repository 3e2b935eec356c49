//! DataFusion's errors in the engine's words: problems of a text at planning, errors of rows at run time.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use bourn_engine::diagnostic::{Problem, did_you_mean};
use bourn_engine::{Error, Kind};
use datafusion_common::{DataFusionError, SchemaError};
use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::Location;

use crate::text::{Text, offset};

/// A text that can't be read at `at`, in bytes.
pub fn unreadable(sql: &str, message: &str, at: usize) -> Problem {
    let end = sql[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    Problem::new(tidy(message)).part(at..end)
}

/// What the parser says. It puts the place at the end of its message: ` at Line: 1, Column: 5`.
pub fn parser(sql: &str, error: &ParserError) -> Problem {
    let message = match error {
        ParserError::TokenizerError(m) | ParserError::ParserError(m) => m,
        ParserError::RecursionLimitExceeded => {
            return Problem::new("the expression is nested too deeply").help("split it over several stages");
        }
    };
    let (said, place) = message.rsplit_once(" at Line: ").unwrap_or((message, ""));
    let said =
        said.replace("found: EOF", "found the end").replace("found: ", "found ").replacen("Expected: ", "expected ", 1);
    let location = place
        .split_once(", Column: ")
        .and_then(|(line, column)| Some(Location { line: line.parse().ok()?, column: column.parse().ok()? }));
    // Without a place it is the end.
    unreadable(sql, &said, location.map_or(sql.len(), |l| offset(sql, l)))
}

/// What the planner says.
pub fn planner(text: &Text<'_>, schema: &SchemaRef, error: &DataFusionError) -> Problem {
    if let DataFusionError::SchemaError(e, _) = error.find_root()
        && let SchemaError::FieldNotFound { field, .. } = e.as_ref()
    {
        // `a.b` where there is neither a column `a` nor a table.
        let name = field.relation.as_ref().map_or(field.name.as_str(), |r| r.table());
        return unknown_column(text, schema, name);
    }
    let problem = problem(error);
    // What is said of types does not say which of the columns it is.
    let is_text = |f: &&Arc<Field>| *f.data_type() == DataType::Utf8 && text.find(f.name()).is_some();
    match schema.fields().iter().find(is_text).filter(|_| problem.message.starts_with("cannot coerce arithmetic")) {
        Some(column) => {
            let name = column.name();
            problem.help(format!("`{name}` is text: `cast({name} as double)`, or a type in the `schema` of its source"))
        }
        None => problem,
    }
}

fn unknown_column(text: &Text<'_>, schema: &SchemaRef, name: &str) -> Problem {
    let known = || schema.fields().iter().map(|f| f.name().as_str());
    let mut problem = Problem::new(format!("unknown column `{name}`"));
    problem = if schema.fields().is_empty() {
        let help = "a source whose files have no rows yet says their columns with `schema`";
        problem.label("there is no column at all").help(help)
    } else {
        problem.label(format!("there is: {}", known().collect::<Vec<_>>().join(", ")))
    };
    let part = text.find(name);
    if let Some(near) = did_you_mean(name, known()) {
        problem = problem.help(near);
    } else if part.as_ref().is_some_and(|p| text.is_quoted(p)) {
        problem = problem.help(format!("a text stands in single quotes: `'{name}'`"));
    }
    match part {
        Some(part) => problem.part(part),
        None => problem,
    }
}

/// Any other error of planning.
pub fn problem(error: &DataFusionError) -> Problem {
    match error.find_root() {
        DataFusionError::ArrowError(e, _) => Problem::new(tidy(&e.to_string())),
        DataFusionError::Internal(m) => Problem::new(format!("the expression can't be planned: {}", tidy(m))),
        e => Problem::new(tidy(&e.message())),
    }
}

/// An error at run time: rows that do not fit, as a rule.
pub fn error(error: DataFusionError) -> Error {
    match error {
        DataFusionError::ArrowError(e, _) => match *e {
            ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
                Ok(inner) => self::error(*inner),
                Err(other) => Error::new(Kind::Other, other.to_string()).with_source(other),
            },
            ArrowError::NotYetImplemented(m) => Error::unsupported(tidy(&m)),
            e @ (ArrowError::IoError(..) | ArrowError::MemoryError(_)) => Error::from(e),
            e => Error::validation(tidy(&e.to_string())).with_source(e),
        },
        DataFusionError::IoError(e) => Error::from(e),
        DataFusionError::Context(_, e) | DataFusionError::Diagnostic(_, e) => self::error(*e),
        DataFusionError::NotImplemented(m) => Error::unsupported(tidy(&m)),
        DataFusionError::ResourcesExhausted(m) => Error::new(Kind::Budget, tidy(&m)),
        DataFusionError::Internal(m) => Error::engine(tidy(&m)),
        e => Error::validation(tidy(&e.message())).with_source(e),
    }
}

/// The first line, without the library's prefixes, in lower case, with SQL's names of types.
fn tidy(message: &str) -> String {
    let mut text = message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(message).trim();
    for prefix in [
        "Arrow error: ",
        "Error during planning: ",
        "Execution error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "Invalid argument error: ",
        "Internal error: ",
        "Arithmetic overflow: ",
        "Schema error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    if text.contains("quote_style: ") || text.contains("WildcardOptions {") {
        // A dump of a syntax tree says nothing to the author of the text.
        return "the expression uses a part of SQL that is not supported here".into();
    }
    if let Some((_, reason)) =
        text.split_once("error: ").filter(|_| text.to_lowercase().starts_with("regex parse error"))
    {
        return format!("not a regular expression: {reason}");
    }
    let text = text.lines().next().unwrap_or_default().trim_end_matches([' ', '.', ':']);
    let mut words = text.split_inclusive(|c: char| !c.is_alphanumeric()).map(|piece| {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        TYPES.iter().find(|(arrow, _)| *arrow == word).map_or(piece.into(), |(arrow, sql)| piece.replace(arrow, sql))
    });
    let mut text = words.next().map(|first| lower_first(&first)).unwrap_or_default();
    text.extend(words);
    text
}

fn lower_first(word: &str) -> String {
    let mut chars = word.chars();
    match chars.next() {
        // `NULL` and `SQL` stay; `Cannot` does not.
        Some(first) if chars.clone().next().is_none_or(|c| !c.is_uppercase()) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => word.to_owned(),
    }
}

const TYPES: [(&str, &str); 11] = [
    ("Utf8", "text"),
    ("Utf8View", "text"),
    ("LargeUtf8", "text"),
    ("Boolean", "boolean"),
    ("Int8", "tinyint"),
    ("Int16", "smallint"),
    ("Int32", "int"),
    ("Int64", "bigint"),
    ("Float32", "float"),
    ("Float64", "double"),
    ("Date32", "date"),
];
