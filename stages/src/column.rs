//! The columns that a configuration names, found in the schema of the input.

use arrow::datatypes::{Field, Schema};
use bourn_engine::data::columns::RESERVED_PREFIX;
use bourn_engine::diagnostic::{Problem, did_you_mean};

/// The place and the field of a column.
///
/// # Errors
/// When there is none of this name; the problem names the nearest one.
pub fn find<'a>(schema: &'a Schema, name: &str) -> Result<(usize, &'a Field), Problem> {
    schema.column_with_name(name).ok_or_else(|| unknown(schema, name))
}

/// Says that there is no such column, which there are, and which may be meant.
pub fn unknown(schema: &Schema, name: &str) -> Problem {
    let known = || schema.fields().iter().map(|f| f.name().as_str());
    let there_is = known().collect::<Vec<_>>().join(", ");
    let problem = Problem::new(format!("unknown column `{name}`")).label(format!("there is: {there_is}"));
    match did_you_mean(name, known()) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// Says that a name belongs to the engine.
pub fn reserved(name: &str) -> Problem {
    Problem::new(format!("`{name}` can't be a name here: what begins with `{RESERVED_PREFIX}` belongs to the engine"))
}

/// Whether a name belongs to the engine.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

/// Problems as one line each, for tests: `path | message | help`.
#[cfg(test)]
pub fn told<T: std::fmt::Debug>(result: Result<T, bourn_engine::diagnostic::Problems>) -> Vec<String> {
    use bourn_engine::diagnostic::Key;
    let show = |k: &Key| match k {
        Key::Name(name) => name.clone(),
        Key::Index(i) => i.to_string(),
    };
    let line = |p: &Problem| {
        let path = p.path.iter().map(show).collect::<Vec<_>>().join(".");
        [path, p.message.clone(), p.help.clone().unwrap_or_default()].join(" | ")
    };
    result.unwrap_err().0.iter().map(line).collect()
}
