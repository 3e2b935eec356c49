//! `bourn commands`: the commands that steps may say, and what they stand for.

use bourn_engine::api::Registry;
use bourn_engine::spec::Routing;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::args::Form;
use crate::failure::Failure;
use crate::given::Text;

/// All of them, with those of a routing file in their places.
///
/// # Errors
/// When the file can't be read, or has problems.
pub fn list(registry: &Registry, routing: Option<&str>, form: Form) -> Result<String, Failure> {
    let known = Routing::default();
    let routing = match routing {
        Some(path) => {
            let Text { name, text } = Text::read(path)?;
            Routing::parse(&text, &name).map_err(Failure::Problems)?
        }
        None => known.clone(),
    };
    let is_known =
        |name: &str, kind: &str| known.commands().any(|(known, route)| (known, route.kind.as_str()) == (name, kind));
    let is_there = |kind: &str| registry.stages().contains_key(kind);
    if form == Form::Json {
        let one = |(name, route): (&str, &bourn_engine::spec::Route)| {
            json!({
                "command": name, "kind": route.kind, "args": route.args, "defaults": route.defaults,
                "is_own": !is_known(name, &route.kind), "is_there": is_there(&route.kind),
            })
        };
        return Ok(format!("{:#}", routing.commands().map(one).collect::<Value>()));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["command", "kind", "args fill", "defaults", ""]);
    for (name, route) in routing.commands() {
        let defaults =
            if route.defaults.is_empty() { String::new() } else { Value::Object(route.defaults.clone()).to_string() };
        let remark = match (is_there(&route.kind), is_known(name, &route.kind)) {
            (false, _) => "there is no such kind",
            (true, false) => "of the routing file",
            (true, true) => "",
        };
        let args = route.args.clone().unwrap_or_default();
        table.add_row([name.to_owned(), route.kind.clone(), args, defaults, remark.to_owned()]);
    }
    let lines = table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n");
    Ok(format!("{lines}\n\nEvery kind of stage that gives one row for one is a command too: `bourn list` shows them."))
}
