//! `bourn models`: the names of models, what they stand for, and who answers.

use bourn_stages::model::registry::{ALIASES, IDS};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::args::Form;

/// All of them.
pub fn list(form: Form, width: usize) -> String {
    let aliases = ALIASES.iter().map(|alias| (alias.name, alias.id, alias.service.name()));
    let names: Vec<_> = aliases.chain(IDS.iter().map(|(id, service)| (*id, *id, service.name()))).collect();
    if form == Form::Json {
        let one = |(name, id, provider): &(&str, &str, &str)| json!({ "name": name, "id": id, "provider": provider });
        return Value::Array(names.iter().map(one).collect()).to_string();
    }
    let mut table = Table::new();
    let width = u16::try_from(width.clamp(60, 140)).unwrap_or(140);
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table.set_header(["  name", "id", "provider"]);
    for (name, id, provider) in names {
        table.add_row([format!("  {name}"), id.to_owned(), provider.to_owned()]);
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    let rest = "Other names that begin with `claude-` are asked at Anthropic, those that begin with `gpt-` or are like `o3` at OpenAI.\n\
                Everything else says who answers: `provider: openai` with a `base_url` for what is compatible with it.";
    format!("{}\n\n{rest}", lines.join("\n"))
}
