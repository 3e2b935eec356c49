//! What may be spent, as the command line says it over the spec.

use bourn_engine::api::Budget;
use bourn_engine::spec::Spec;
use serde_json::{Map, Value, json};

/// What can be said of a budget.
const NAMES: [&str; 3] = ["usd", "tokens", "on_exceeded"];

/// A part of a budget: its name and value.
pub type Part = (String, Value);

/// `usd=5`, of the command line.
///
/// # Errors
/// When there is no such part, or it can't have this value.
pub fn parse(text: &str) -> Result<Part, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no budget: write `usd=5`"))?;
    if !NAMES.contains(&name) {
        return Err(format!("a budget has no `{name}`; it has {}", NAMES.join(", ")));
    }
    let value: Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    if value.as_f64().is_some_and(|number| number < 0.0) {
        return Err(format!("`{name}` is not below 0"));
    }
    serde_json::from_value::<Budget>(json!({ name: value })).map_err(|e| e.to_string())?;
    Ok((name.to_owned(), value))
}

/// Says it over the budget of a spec.
pub fn apply(spec: &mut Spec, said: &[Part]) {
    let budget = match spec {
        Spec::Pipeline(spec) => &mut spec.budget,
        Spec::Chain(spec) => &mut spec.budget,
    };
    if said.is_empty() {
        return;
    }
    let mut parts = match serde_json::to_value(budget.unwrap_or_default()) {
        Ok(Value::Object(parts)) => parts,
        _ => Map::new(),
    };
    parts.extend(said.iter().cloned());
    // Each part was checked when it was read.
    *budget = serde_json::from_value(Value::Object(parts)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_that_a_budget_has() {
        assert_eq!(parse("usd=2.5"), Ok(("usd".to_owned(), json!(2.5))));
        assert_eq!(parse("on_exceeded=pause"), Ok(("on_exceeded".to_owned(), json!("pause"))));
        let wrong =
            ["usd", "euro=1", "tokens=many", "tokens=-1", "on_exceeded=stop"].map(|text| parse(text).unwrap_err());
        insta::assert_debug_snapshot!(wrong, @r#"
        [
            "`usd` is no budget: write `usd=5`",
            "a budget has no `euro`; it has usd, tokens, on_exceeded",
            "invalid type: string \"many\", expected u64",
            "`tokens` is not below 0",
            "unknown variant `stop`, expected one of `fail`, `pause`, `degrade`",
        ]
        "#);
    }
}
