//! What the tables of every database share: names, what a sink does with its rows, pages by a cursor.

mod decimal;
mod epochs;
mod ledger;
mod page;

use bourn_engine::diagnostic::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use decimal::exact;
pub(crate) use epochs::{Database, Inserted, Purpose, Transactional};
pub(crate) use ledger::{Entry, NAME as LEDGER, Value, creation as ledger_creation};
pub(crate) use page::{Page, Step};

/// What a sink does with its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each row is a new one. A row that comes again after a crash is there twice, unless the table forbids it.
    #[default]
    Insert,
    /// A row replaces the one with the same `key`. A row that comes again changes nothing.
    Upsert,
}

/// An identifier as SQL takes it, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table as SQL takes it: `orders`, `shop.orders`; a part that holds a dot itself stands in quotes: `"my.orders"`.
pub(crate) fn table_name(text: &str) -> Result<String, Problem> {
    Ok(table_parts(text)?.iter().map(|p| quoted(p)).collect::<Vec<_>>().join("."))
}

/// Another table in the same schema, as SQL takes it.
#[cfg(any(feature = "postgres", test))]
pub(crate) fn beside(text: &str, name: &str) -> Result<String, Problem> {
    let mut parts = table_parts(text)?;
    parts.pop();
    parts.push(name.to_owned());
    Ok(parts.iter().map(|p| quoted(p)).collect::<Vec<_>>().join("."))
}

fn table_parts(text: &str) -> Result<Vec<String>, Problem> {
    let (mut parts, mut part, mut in_quotes) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if in_quotes && chars.peek() == Some(&'"') => {
                part.push('"');
                chars.next();
            }
            '"' => in_quotes = !in_quotes,
            '.' if !in_quotes => parts.push(std::mem::take(&mut part)),
            '\0' => return Err(unnamed(text)),
            c => part.push(c),
        }
    }
    parts.push(part);
    if in_quotes || parts.iter().any(String::is_empty) {
        return Err(unnamed(text));
    }
    Ok(parts)
}

fn unnamed(text: &str) -> Problem {
    let problem = Problem::new(format!("`{}` is no name of a table", text.escape_debug())).under("table");
    problem.help("a name is `orders`, `shop.orders` or `\"my.orders\"`")
}

/// What the rows are selected from: a table, or a query in brackets.
pub(crate) fn selected_from(table: Option<&str>, query: Option<&str>) -> Result<String, Problem> {
    match (table, query) {
        (Some(table), None) => table_name(table),
        // On lines of its own, so that a comment at its end does not hide the bracket.
        (None, Some(query)) => Ok(format!("(\n{}\n)", query.trim().trim_end_matches(';'))),
        (Some(_), Some(_)) => Err(Problem::new("`table` and `query` are two ways to say the same").under("query")),
        (None, None) => Err(Problem::new("neither `table` nor `query` says what to read")),
    }
}

/// The columns of `key` that are not there, or what else is wrong with it.
pub(crate) fn key_problems(mode: Mode, key: &[String], columns: &[&str]) -> Vec<Problem> {
    match mode {
        Mode::Upsert if key.is_empty() => {
            vec![Problem::new("`mode: upsert` needs `key`, the columns that tell rows apart")]
        }
        Mode::Insert if !key.is_empty() => {
            vec![Problem::new("`key` is for `mode: upsert`").under("key")]
        }
        _ => {
            let missing = key.iter().enumerate().filter(|(_, k)| !columns.contains(&k.as_str()));
            missing.map(|(i, k)| crate::file::no_column(k, columns).under(i).under("key")).collect()
        }
    }
}

/// The values of an upsert behind its `on conflict`: all columns but the key.
pub(crate) fn on_conflict(key: &[String], columns: &[&str]) -> String {
    let target: Vec<_> = key.iter().map(|k| quoted(k)).collect();
    let others = columns.iter().filter(|c| !key.iter().any(|k| k == *c));
    let set: Vec<_> = others.map(|c| format!("{0} = excluded.{0}", quoted(c))).collect();
    let action = if set.is_empty() { "nothing".to_owned() } else { format!("update set {}", set.join(", ")) };
    format!(" on conflict ({}) do {action}", target.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert_eq!(table_name("orders").unwrap(), "\"orders\"");
        assert_eq!(table_name("shop.Order s").unwrap(), "\"shop\".\"Order s\"");
        assert_eq!(table_name("\"a.b\".c\"; drop table x; --\"").unwrap(), "\"a.b\".\"c; drop table x; --\"");
        assert_eq!(table_name("a\"\"b").unwrap(), "\"ab\"");
        assert_eq!(table_name("\"a\"\"b\"").unwrap(), "\"a\"\"b\"");
        assert_eq!(beside("orders", "e").unwrap(), "\"e\"");
        assert_eq!(beside("\"a.b\".c", "e").unwrap(), "\"a.b\".\"e\"");
        for none in ["", ".", "a.", "\"a", "a\0"] {
            assert!(table_name(none).is_err(), "{none:?}");
        }
    }

    #[test]
    fn an_upsert_of_keys_alone_changes_nothing() {
        let key = ["a".to_owned()];
        assert_eq!(on_conflict(&key, &["a"]), " on conflict (\"a\") do nothing");
        assert_eq!(on_conflict(&key, &["a", "b"]), " on conflict (\"a\") do update set \"b\" = excluded.\"b\"");
    }

    #[test]
    fn a_key_is_needed_for_upserts_and_must_be_among_the_columns() {
        let told = |mode, key: &[&str]| {
            let key: Vec<_> = key.iter().map(ToString::to_string).collect();
            key_problems(mode, &key, &["id", "name"]).into_iter().map(|p| p.message).collect::<Vec<_>>()
        };
        assert_eq!(told(Mode::Upsert, &["id"]), Vec::<String>::new());
        assert_eq!(told(Mode::Upsert, &[]), ["`mode: upsert` needs `key`, the columns that tell rows apart"]);
        assert_eq!(told(Mode::Upsert, &["ident"]), ["there is no column `ident`"]);
        assert_eq!(told(Mode::Insert, &["id"]), ["`key` is for `mode: upsert`"]);
    }
}
