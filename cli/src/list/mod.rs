//! `bourn list`: the kinds of stages, sources and sinks, from the registry.

pub mod examples;
pub mod fields;
#[cfg(test)]
mod reference;

use std::collections::BTreeMap;
use std::fmt::Write;

use bourn_engine::api::Registry;
use bourn_engine::diagnostic::did_you_mean;
use comfy_table::{ContentArrangement, Table, presets};
use schemars::Schema;
use serde_json::{Value, json};

use crate::args::Form;
use crate::failure::Failure;
use fields::Field;

/// A kind, whichever of the two it is.
struct Kind<'a> {
    name: &'static str,
    role: &'static str,
    summary: &'a str,
    schema: &'a Schema,
}

fn kinds(registry: &Registry) -> Vec<Kind<'_>> {
    let stages = registry.stages().values().map(|e| Kind {
        name: e.name,
        role: "stage",
        summary: e.summary(),
        schema: &e.schema,
    });
    let connectors = registry.connectors().values().map(|e| Kind {
        name: e.name,
        role: "connector",
        summary: e.summary(),
        schema: &e.schema,
    });
    stages.chain(connectors).collect()
}

/// The names of the kinds, each once, with what they do.
pub fn summaries(registry: &Registry) -> BTreeMap<&'static str, &str> {
    kinds(registry).into_iter().map(|kind| (kind.name, kind.summary)).collect()
}

/// All kinds.
pub fn all(registry: &Registry, form: Form, width: usize) -> String {
    let kinds = kinds(registry);
    if form == Form::Json {
        let one = |k: &Kind<'_>| json!({ "kind": k.name, "role": k.role, "summary": k.summary });
        return Value::Array(kinds.iter().map(one).collect()).to_string();
    }
    let mut text = String::new();
    for (role, title) in [("stage", "Stages"), ("connector", "Sources and sinks")] {
        let mut table = plain_table(width);
        for kind in kinds.iter().filter(|k| k.role == role) {
            table.add_row([format!("  {}", kind.name), one_line(kind.summary)]);
        }
        let _ = writeln!(text, "{title}\n{}\n", trimmed(&table));
    }
    text + "`bourn list KIND` shows one with its fields and an example."
}

/// One kind. A stage and a connector may share a name; both are shown then.
///
/// # Errors
/// When there is no such kind.
pub fn one(registry: &Registry, name: &str, form: Form, width: usize) -> Result<String, Failure> {
    let all = kinds(registry);
    let found: Vec<_> = all.iter().filter(|k| k.name == name).collect();
    if let Some(feature) = registry.feature_of(name).filter(|_| found.is_empty()) {
        return Err(Failure::invalid(format!("`{name}` is not in this build: build with `--features {feature}`")));
    }
    if found.is_empty() {
        let near = way_out(name, &all);
        return Err(Failure::invalid(format!("there is no stage, source or sink `{name}` ({near})")));
    }
    if form == Form::Json {
        let one = |k: &&Kind<'_>| {
            json!({
                "kind": k.name, "role": k.role, "summary": k.summary, "schema": k.schema, "example": examples::of(k.name),
            })
        };
        return Ok(Value::Array(found.iter().map(one).collect()).to_string());
    }
    Ok(found.iter().map(|k| k.page(width)).collect::<Vec<_>>().join("\n"))
}

/// Where a word leads that is no kind: to the kinds that speak of it, or to one that is written nearly so.
fn way_out(name: &str, all: &[Kind<'_>]) -> String {
    if ["function", "functions", "expression", "expressions"].contains(&name.to_lowercase().as_str()) {
        return "expressions are SQL, in `filter`, `map`, `route` and `sql`; docs/functions.md has their functions"
            .into();
    }
    let words =
        |text: &str| text.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|w| w == name.to_lowercase());
    let mut speaking: Vec<_> = all.iter().filter(|k| words(k.summary)).map(|k| format!("`{}`", k.name)).collect();
    speaking.dedup();
    let is_same = all.iter().any(|k| k.name.eq_ignore_ascii_case(name));
    match did_you_mean(name, all.iter().map(|k| k.name)) {
        _ if !is_same && !speaking.is_empty() => {
            format!("{} speak{} of it", speaking.join(", "), if speaking.len() == 1 { "s" } else { "" })
        }
        Some(near) => near,
        None => "`bourn list` shows all".into(),
    }
}

impl Kind<'_> {
    fn page(&self, width: usize) -> String {
        let mut text =
            format!("{} ({})\n\n{}\n", self.name, self.role, fields::description(self.schema.as_value()).trim());
        let fields = fields::with_inner(self.schema.as_value());
        if !fields.is_empty() {
            let mut table = plain_table(width);
            table.set_header(["  field", "type", "default", ""]);
            for Field { name, kind, default, about } in fields {
                table.add_row([format!("  {name}"), kind, default, one_line(&about)]);
            }
            let _ = writeln!(text, "\n{}", trimmed(&table));
        }
        if let Some(example) = examples::of(self.name) {
            let _ = writeln!(text, "\nExample\n\n{}", indented(example));
        }
        text
    }
}

fn plain_table(width: usize) -> Table {
    let mut table = Table::new();
    let width = u16::try_from(width.clamp(60, 140)).unwrap_or(140);
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn indented(text: &str) -> String {
    text.trim().lines().fold(String::new(), |all, line| all + "  " + line + "\n")
}
