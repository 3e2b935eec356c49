//! What may be spent, as the command line says it over the spec.

use bourn_engine::api::Budget;
use bourn_engine::spec::Spec;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// What can be said of a budget.
const NAMES: [&str; 3] = ["usd", "tokens", "on_exceeded"];
/// What stands before the same of what each run may spend.
const PER_RUN: &str = "per_run.";

/// A part of a budget: its name and value.
pub type Part = (String, Value);

/// `usd=5`, of the command line.
///
/// # Errors
/// When there is no such part, or it can't have this value.
pub fn parse(text: &str) -> Result<Part, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no budget: write `usd=5`"))?;
    let part = name.strip_prefix(PER_RUN).unwrap_or(name);
    if !NAMES.contains(&part) {
        return Err(format!("a budget has no `{name}`; it has {0}, and {PER_RUN}usd and the like", NAMES.join(", ")));
    }
    let value: Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    if value.as_f64().is_some_and(|number| number < 0.0) {
        return Err(format!("`{name}` is not below 0"));
    }
    serde_json::from_value::<Budget>(json!({ part: value })).map_err(|e| e.to_string())?;
    Ok((name.to_owned(), value))
}

/// Says it over the budget of a spec.
///
/// # Errors
/// When it is said of runs, and the spec has none.
pub fn apply(spec: &mut Spec, said: &[Part]) -> Result<(), Failure> {
    let (runs, job): (Vec<_>, Vec<_>) = said.iter().cloned().partition(|(name, _)| name.starts_with(PER_RUN));
    let runs: Vec<Part> = runs.into_iter().map(|(name, value)| (name.replacen(PER_RUN, "", 1), value)).collect();
    match spec {
        Spec::Pipeline(_) if !runs.is_empty() => {
            return Err(Failure::invalid(format!("a pipeline has no runs: `--budget {PER_RUN}…` is for workflows")));
        }
        Spec::Pipeline(spec) => over(&mut spec.budget, job),
        Spec::Chain(spec) => {
            over(&mut spec.budget, job);
            over(&mut spec.run_budget, runs);
        }
    }
    Ok(())
}

fn over(budget: &mut Option<Budget>, said: Vec<Part>) {
    if said.is_empty() {
        return;
    }
    let mut parts = match serde_json::to_value(budget.unwrap_or_default()) {
        Ok(Value::Object(parts)) => parts,
        _ => Map::new(),
    };
    parts.extend(said);
    // Each part was checked when it was read.
    *budget = serde_json::from_value(Value::Object(parts)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_that_a_budget_has() {
        assert_eq!(parse("usd=2.5"), Ok(("usd".to_owned(), json!(2.5))));
        assert_eq!(parse("per_run.tokens=7"), Ok(("per_run.tokens".to_owned(), json!(7))));
        assert_eq!(parse("on_exceeded=pause"), Ok(("on_exceeded".to_owned(), json!("pause"))));
        let wrong =
            ["usd", "euro=1", "tokens=many", "tokens=-1", "on_exceeded=stop"].map(|text| parse(text).unwrap_err());
        insta::assert_debug_snapshot!(wrong, @r#"
        [
            "`usd` is no budget: write `usd=5`",
            "a budget has no `euro`; it has usd, tokens, on_exceeded, and per_run.usd and the like",
            "invalid type: string \"many\", expected u64",
            "`tokens` is not below 0",
            "unknown variant `stop`, expected one of `fail`, `pause`, `degrade`",
        ]
        "#);
    }
}
