//! The pages of docs/reference: what `bourn list KIND` shows, as Markdown; a test writes them, and fails when they are stale.
//!
//! `BOURN_WRITE=1 cargo test -p bourn-cli --all-features reference` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Kind, examples, fields, kinds};
use crate::prepare::registry;

const HEAD: &str =
    "<!-- Written by a test from the code: change the doc comments there, see cli/src/list/reference.rs. -->\n";

/// The pages by their names.
fn pages() -> BTreeMap<String, String> {
    let registry = registry();
    let mut by_name: BTreeMap<&str, Vec<Kind<'_>>> = BTreeMap::new();
    for kind in kinds(&registry) {
        by_name.entry(kind.name).or_default().push(kind);
    }
    let mut pages: BTreeMap<String, String> =
        by_name.iter().map(|(name, kinds)| (format!("{name}.md"), page(name, kinds))).collect();
    pages.insert("README.md".into(), index(&by_name));
    pages
}

fn index(by_name: &BTreeMap<&str, Vec<Kind<'_>>>) -> String {
    let mut text = format!("{HEAD}# Reference\n\nA page for each kind; `bourn list KIND` shows the same.\n");
    for (role, title) in [("stage", "Stages"), ("connector", "Sources and sinks")] {
        let _ = writeln!(text, "\n## {title}\n\n| | |\n|---|---|");
        for kind in by_name.values().flatten().filter(|kind| kind.role == role) {
            let _ = writeln!(text, "| [{0}]({0}.md) | {1} |", kind.name, cell(kind.summary));
        }
    }
    text
}

fn page(name: &str, kinds: &[Kind<'_>]) -> String {
    let mut text = format!("{HEAD}# {name}\n");
    for kind in kinds {
        let schema = kind.schema.as_value();
        let role = if kind.role == "stage" { "Stage" } else { "Source or sink" };
        let _ = writeln!(text, "\n*{role}.* {}", fields::description(schema).trim());
        // A map inside a configuration has a table of its own, below; each once.
        let (mut todo, mut told) = (vec![(String::new(), schema)], BTreeSet::new());
        while !todo.is_empty() {
            let (path, part) = todo.remove(0);
            let found = fields::of_part(part, schema);
            if found.is_empty() || !told.insert(path.clone()) {
                continue;
            }
            let title = if path.is_empty() { "\n## Fields\n".into() } else { format!("\n### `{path}`\n") };
            let _ = writeln!(text, "{title}\n| field | type | default | |\n|---|---|---|---|");
            for field in found {
                let inner = fields::inner(part, schema, &field.name);
                let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                let default = match inner {
                    Some(_) if field.default != "required" => String::new(),
                    _ => code(&field.default),
                };
                let _ =
                    writeln!(text, "| `{}` | {} | {default} | {} |", field.name, cell(&field.kind), cell(&field.about));
                // A configuration may hold itself; no one reads on below this.
                todo.extend(inner.filter(|_| path.matches('.').count() < 3).map(|inner| (path, inner)));
            }
        }
    }
    if let Some(example) = examples::of(name) {
        let _ = writeln!(text, "\n## Example\n\n```yaml\n{}\n```", example.trim_end());
    }
    text
}

fn code(default: &str) -> String {
    if default.is_empty() || default == "required" { default.into() } else { format!("`{}`", cell(default)) }
}

/// Text for a cell of a table: one line, in which no `|` ends it.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[expect(clippy::disallowed_methods, reason = "this test writes into the repository itself")]
#[test]
fn the_pages_of_the_reference_are_what_the_code_says() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    let pages = pages();
    let is_writing = std::env::var("BOURN_WRITE").is_ok_and(|value| value == "1");
    let there = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut stale: Vec<String> = there.filter(|name| !pages.contains_key(name)).collect();
    for name in stale.iter().filter(|_| is_writing) {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    for (name, text) in &pages {
        if std::fs::read_to_string(folder.join(name)).ok().as_ref() != Some(text) {
            stale.push(name.clone());
            if is_writing {
                std::fs::write(folder.join(name), text).unwrap();
            }
        }
    }
    let way_out = "BOURN_WRITE=1 cargo test -p bourn-cli --all-features reference";
    assert!(is_writing || stale.is_empty(), "{stale:?} are not what the code says: `{way_out}`");
    assert!(pages["filter.md"].contains("```yaml"), "a page has its example");
}

#[test]
fn a_map_inside_a_configuration_has_its_own_table() {
    let pages = pages();
    assert!(pages["http.md"].contains("\n### `limits`\n"), "{}", pages["http.md"]);
    assert!(pages["http.md"].contains("\n### `limits.retry`\n"), "{}", pages["http.md"]);
}
