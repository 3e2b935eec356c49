//! What was expected beside what came.

use bourn_engine::data::secret::Secrets;
use bourn_engine::diagnostic::Key;
use bourn_engine::spec::case::{Case, Letter, RunWant, Want};
use bourn_engine::testing::mocked::covers;
use serde_json::{Map, Number, Value};

/// Why a case failed.
#[derive(Debug)]
pub struct Fault {
    /// Where the case says what it expects.
    pub path: Vec<Key>,
    /// What is wrong, lower case.
    pub message: String,
    /// The rows that were expected and those that came, a line each, when they differ.
    pub rows: Option<(Vec<String>, Vec<String>)>,
}

impl Fault {
    /// One that says it all.
    pub fn new(path: &[Key], message: impl Into<String>) -> Self {
        Self { path: path.to_vec(), message: message.into(), rows: None }
    }

    /// The same without secrets: a stage may put one into a row.
    pub fn concealed(self, secrets: &Secrets) -> Self {
        let conceal = |text: &String| secrets.conceal_in_data(text).to_string();
        let lines = |all: Vec<String>| all.iter().map(conceal).collect();
        let rows = self.rows.map(|(expected, found)| (lines(expected), lines(found)));
        Self { message: conceal(&self.message), rows, ..self }
    }
}

/// What is wrong with the rows that came where `want` looked.
pub fn rows(want: &Want, found: &[Value]) -> Option<Fault> {
    let target = want.target();
    if let Some(count) = want.count.filter(|c| *c != found.len()) {
        return Some(Fault::new(&want.path, format!("`{target}` got {}, not {count}", rows_in_words(found.len()))));
    }
    let expected: Vec<Value> =
        want.rows.as_ref()?.batches().into_iter().flat_map(|(rows, _)| rows).map(plain).collect();
    let is_same = |e: &Value, f: &Value| if want.partial { covers(e, f) } else { e == f };
    let found: Vec<Value> = found.iter().map(canonical).collect();
    let (mut missing, mut extra) = (expected.clone(), found.clone());
    if want.unordered {
        missing.retain(|e| match extra.iter().position(|f| is_same(e, f)) {
            Some(at) => {
                extra.remove(at);
                false
            }
            None => true,
        });
    } else if expected.len() == found.len() && expected.iter().zip(&found).all(|(e, f)| is_same(e, f)) {
        return None;
    }
    if missing.is_empty() && extra.is_empty() {
        return None;
    }
    let is_there = |e: &Value| found.iter().any(|f| is_same(e, f));
    let message = match (expected.len() == found.len(), expected.iter().all(is_there)) {
        (true, true) => format!("`{target}` got its rows in another order, which `unordered: true` would allow"),
        (true, false) => format!("`{target}` got other rows than expected"),
        (false, _) => format!("`{target}` got {}, and {} expected", rows_in_words(found.len()), were(expected.len())),
    };
    let shown = |row: &Value| if want.partial { part(row, &expected) } else { row.clone() };
    let found = extra.iter().map(|f| shown(f).to_string()).collect();
    let expected = missing.iter().map(|e| ordered(e, extra.first()).to_string()).collect();
    Some(Fault { rows: Some((expected, found)), ..Fault::new(&want.path, message) })
}

/// What is wrong with the rows that were rejected: each must be expected, in any order.
pub fn letters(case: &Case, found: &[Value]) -> Option<Fault> {
    let expected = case.letters.as_deref().unwrap_or_default();
    let mut extra: Vec<&Value> = found.iter().collect();
    let mut missing = Vec::new();
    for letter in expected {
        match extra.iter().position(|f| is_letter(letter, f)) {
            Some(at) => drop(extra.remove(at)),
            None => missing.push(letter),
        }
    }
    if missing.is_empty() && extra.is_empty() {
        return None;
    }
    let path = match &case.letters {
        Some(_) => [case.path.as_slice(), &["dead_letters".into()]].concat(),
        None => case.path.clone(),
    };
    let message = if found.len() == expected.len() {
        "other rows were rejected than expected".to_owned()
    } else {
        format!("{} rejected, and {} expected", was(found.len()), were(expected.len()))
    };
    let says_time = expected.iter().any(|l| l.time.is_some());
    let missing = missing.iter().filter_map(|l| serde_json::to_value(l).ok()).map(|l| l.to_string()).collect();
    let extra = extra.iter().map(|f| short_letter(f, says_time).to_string()).collect();
    Some(Fault { rows: Some((missing, extra)), ..Fault::new(&path, message) })
}

/// What is wrong with how a run ended; `document` is its result.
pub fn run(case: &Case, want: &RunWant, document: &Value) -> Vec<Fault> {
    let at = |key: &str| [case.path.as_slice(), &["expect".into(), key.into()]].concat();
    let mut faults = Vec::new();
    let wanted = want.status.as_deref().unwrap_or(if want.error.is_some() { "FAILED" } else { "COMPLETED" });
    let detail = document["error_analysis"]["detail"].as_str();
    if document["status"].as_str() != Some(wanted) {
        let why = detail
            .map_or_else(String::new, |why| format!(": {}: {why}", text(&document["error_analysis"]["instance"])));
        faults.push(Fault::new(&at("status"), format!("the run is {}, not {wanted}{why}", text(&document["status"]))));
    }
    if let Some(part) = want.error.as_deref().filter(|part| !detail.unwrap_or_default().contains(part)) {
        let message = format!("the error says {:?}, and not {part:?}", detail.unwrap_or("nothing"));
        faults.push(Fault::new(&at("error"), message));
    }
    let mut value = |path: &[Key], what: String, expected: &Value, found: &Value| {
        let (expected, found) = (canonical(expected), canonical(found));
        if expected != found && !(want.partial && covers(&expected, &found)) {
            let lines = |v: &Value| format!("{v:#}").lines().map(str::to_owned).collect();
            let rows = Some((lines(&ordered(&expected, Some(&found))), lines(&found)));
            faults.push(Fault { rows, ..Fault::new(path, what) });
        }
    };
    if let Some(output) = &want.output {
        value(&at("output"), "the final output differs".to_owned(), output, &document["final_output"]);
    }
    let results = if document["workflow_results"].as_object().is_some_and(Map::is_empty) {
        "partial_results"
    } else {
        "workflow_results"
    };
    for (id, expected) in want.steps.iter().flatten() {
        let path = [at("steps"), vec![id.as_str().into()]].concat();
        value(&path, format!("step `{id}` gave something else"), expected, &document[results][id.as_str()]);
    }
    for id in &want.skipped {
        let status = &document["execution_metrics"]["steps"][id.as_str()]["status"];
        if status != "SKIPPED" {
            faults.push(Fault::new(&at("skipped"), format!("step `{id}` is {}, not SKIPPED", text(status))));
        }
    }
    faults
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn rows_in_words(count: usize) -> String {
    if count == 1 { "1 row".into() } else { format!("{count} rows") }
}

fn were(count: usize) -> String {
    if count == 1 { "1 was".into() } else { format!("{count} were") }
}

fn was(count: usize) -> String {
    if count == 1 { "1 row was".into() } else { format!("{count} rows were") }
}

fn is_letter(want: &Letter, found: &Value) -> bool {
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    want.stage.as_deref().is_none_or(|stage| stage == text("stage"))
        && want.kind.as_deref().is_none_or(|kind| kind == text("kind"))
        && want.time.as_deref().is_none_or(|time| text("time").starts_with(time.trim_end_matches('Z')))
        && want.reason.as_deref().is_none_or(|part| text("reason").contains(part))
        && want.row.as_ref().is_none_or(|row| covers(&Value::Object(row.clone()), &row_of(found)))
}

/// The row of a dead letter; one that could not be read is its text, which may hold an object all the same.
fn row_of(letter: &Value) -> Value {
    let inner = letter["row"].as_str().and_then(|text| serde_json::from_str(text).ok());
    inner.unwrap_or_else(|| letter["row"].clone())
}

/// What a case can say of a dead letter.
fn short_letter(found: &Value, with_time: bool) -> Value {
    let member = |key: &str| (key.to_owned(), if key == "row" { row_of(found) } else { found[key].clone() });
    let keys = ["stage", "reason", "kind", "time", "row"].into_iter().filter(|key| with_time || *key != "time");
    Value::Object(keys.map(member).collect())
}

fn plain(row: &Map<String, Value>) -> Value {
    canonical(&Value::Object(row.clone()))
}

/// The same with `5.0` as `5`: YAML and Arrow do not agree which of them is written how.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Number(n) if !n.is_i64() && !n.is_u64() => Value::Number(whole(n).unwrap_or_else(|| n.clone())),
        Value::Array(all) => all.iter().map(canonical).collect(),
        Value::Object(all) => Value::Object(all.iter().map(|(name, value)| (name.clone(), canonical(value))).collect()),
        other => other.clone(),
    }
}

fn whole(number: &Number) -> Option<Number> {
    // Beyond 2^53 a double does not tell whole numbers apart.
    let value = number.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 9e15)?;
    format!("{value:.0}").parse::<i64>().ok().map(Number::from)
}

/// The members of a row that any expected row has.
fn part(row: &Value, expected: &[Value]) -> Value {
    let Value::Object(members) = row else { return row.clone() };
    let is_said = |name: &str| expected.iter().any(|e| e.get(name).is_some());
    Value::Object(members.iter().filter(|(name, _)| is_said(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
}

/// The members in the order of those of `like`, so that a difference shows what differs alone.
fn ordered(row: &Value, like: Option<&Value>) -> Value {
    let (Value::Object(members), Some(Value::Object(like))) = (row, like) else { return row.clone() };
    let known = like.iter().filter_map(|(name, other)| Some((name.clone(), ordered(members.get(name)?, Some(other)))));
    let rest = members.iter().filter(|(name, _)| !like.contains_key(*name)).map(|(n, v)| (n.clone(), v.clone()));
    Value::Object(known.chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn want(rows: &Value, unordered: bool, partial: bool) -> Want {
        let rows = rows.as_array().unwrap().iter().map(|r| r.as_object().unwrap().clone()).collect();
        let rows = Some(bourn_engine::spec::case::Rows::Rows { rows, path: Vec::new() });
        Want { id: "out".into(), port: None, rows, unordered, partial, count: None, path: Vec::new() }
    }

    fn differ(expected: &Value, found: &Value, unordered: bool, partial: bool) -> Option<(Vec<String>, Vec<String>)> {
        rows(&want(expected, unordered, partial), found.as_array().unwrap()).map(|f| f.rows.unwrap())
    }

    #[test]
    fn rows_are_compared_exactly_and_in_order_unless_the_case_says_otherwise() {
        let (a, b) =
            (json!([{"n": 1, "t": "x"}, {"n": 2, "t": null}]), json!([{"t": null, "n": 2.0}, {"n": 1, "t": "x"}]));
        assert!(differ(&a, &a, false, false).is_none());
        assert!(differ(&a, &b, false, false).is_some(), "the order counts");
        assert!(differ(&a, &b, true, false).is_none());
        assert!(differ(&json!([{"n": 1}, {"n": 2}]), &a, false, false).is_some(), "a column more counts");
        assert!(differ(&json!([{"n": 1}, {"n": 2}]), &a, false, true).is_none());
        assert!(differ(&json!([{"n": 1}]), &a, false, true).is_some(), "a row more counts");
        assert!(differ(&json!([{"n": "1", "t": "x"}, {"n": 2, "t": null}]), &a, false, false).is_some());
    }

    #[test]
    fn of_unordered_rows_only_those_are_shown_that_differ() {
        let found = json!([{"n": 3}, {"n": 1}, {"n": 1}]);
        let shown = differ(&json!([{"n": 1}, {"n": 2}, {"n": 3}]), &found, true, false).unwrap();
        assert_eq!(shown, (vec![r#"{"n":2}"#.to_owned()], vec![r#"{"n":1}"#.to_owned()]));
    }

    #[test]
    fn a_partial_difference_shows_the_columns_that_are_meant_in_one_order() {
        let shown = differ(&json!([{"b": 1, "a": 1}]), &json!([{"a": 1, "x": 9, "b": 2}]), false, true).unwrap();
        assert_eq!(shown, (vec![r#"{"a":1,"b":1}"#.to_owned()], vec![r#"{"a":1,"b":2}"#.to_owned()]));
    }
}
