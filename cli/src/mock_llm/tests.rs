//! Tests of what `mock-llm` says, without a network: those over one are in `cli/tests/cli/mock_llm.rs`.

use serde_json::{Value, json};

use super::answer::{Stop, say};
use super::ask::Asked;
use super::script::Script;
use super::{anthropic, openai};

fn asked(text: &str) -> Asked {
    Asked { model: "claude-opus-5".into(), text: text.into(), ..Asked::default() }
}

#[test]
fn the_first_rule_that_fits_says_what_becomes_of_a_question() {
    let text = "rules:
  - match: { text: '(?i)weather', model: claude- }
    answer: { tool_calls: [ { name: get_weather, input: { city: Oslo } } ] }
    times: 1
  - match: { text: weather }
    answer: { text: it rains }
  - fault: { status: 503, retry_after: 2 }
    one_in: 2
";
    let (script, mut seen) = (Script::parse(text).unwrap(), Vec::new());
    let mut ask = |text: &str| {
        let verdict = script.judge(&asked(text), &mut seen);
        let said = say(&asked(text), verdict.answer);
        (verdict.fault.and_then(|f| f.status), said.text, said.tool_calls.len())
    };
    assert_eq!(ask("The Weather?"), (None, String::new(), 1));
    assert_eq!(ask("weather"), (None, "it rains".into(), 0));
    let echo = |hash: &str| format!("mock answer {hash} of claude-opus-5 to: x");
    let (_, first, _) = ask("x");
    assert_eq!(first, echo(&first[12..28]));
    assert_eq!([ask("x").0, ask("x").0, ask("x").0], [Some(503), None, Some(503)]);
}

#[test]
fn what_is_wrong_in_a_script_is_told() {
    let told = |text: &str| Script::parse(text).unwrap_err().message().to_owned();
    assert!(
        told("rules: [ { match: { text: '(' } } ]").contains("unclosed group"),
        "{}",
        told("rules: [ { match: { text: '(' } } ]")
    );
    assert!(told("rules: [ { answr: {} } ]").contains("answr"));
    assert_eq!(told("rules: [ { fault: {} } ]"), "rule 1 has a fault without a `status` or a `kind`");
    assert_eq!(
        told("rules: [ { fault: { status: 200 } } ]"),
        "rule 1 has a fault whose `status` is none from 400 to 599"
    );
    assert_eq!(told("rules: [ { one_in: 0 } ]"), "rule 1 has a zero: `times` and `one_in` begin at 1");
}

#[test]
fn an_answer_ends_where_it_is_to_end() {
    let say = |asked: Asked| {
        say(&asked, Some(super::script::Answer { text: Some("one two three".into()), ..Default::default() }))
    };
    let said = say(Asked { max_tokens: Some(2), ..asked("x") });
    assert_eq!((said.text.as_str(), said.output_tokens, said.stop), ("one two ", 2, Stop::Length));
    let said = say(Asked { stop: vec!["three".into(), "two".into()], ..asked("x") });
    assert_eq!((said.text.as_str(), said.stop), ("one ", Stop::Text("two".into())));
}

#[test]
fn a_document_that_must_fit_a_schema_fits_it() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "kind": { "enum": ["a", "b"] },
            "scores": { "type": "array", "minItems": 2, "items": { "type": "integer", "minimum": 3 } },
            "parent": { "$ref": "#/$defs/parent" },
        },
        "$defs": { "parent": { "type": ["object", "null"], "properties": { "ok": { "type": "boolean" } } } },
    });
    let said = say(&Asked { json: true, schema: Some(schema.clone()), ..asked("x") }, None);
    let document: Value = serde_json::from_str(&said.text).unwrap();
    assert_eq!(document, json!({ "name": "mock", "kind": "a", "scores": [3, 3], "parent": { "ok": false } }));
    assert!(jsonschema::is_valid(&schema, &document));
}

#[test]
fn what_the_services_refuse_is_refused_in_their_words() {
    let anthropic = |body: Value| {
        anthropic::read(&body, true).map_err(|r| r.body(super::refusal::Dialect::Anthropic)["error"]["message"].clone())
    };
    let ask = |more: Value| {
        let mut body =
            json!({ "model": "claude-opus-5", "max_tokens": 2_000, "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        anthropic(body).map(|asked| asked.text)
    };
    assert_eq!(ask(json!({})), Ok("hi".into()));
    assert_eq!(ask(json!({ "response_format": {} })), Err(json!("response_format: Extra inputs are not permitted")));
    let budget = json!({ "thinking": { "type": "enabled", "budget_tokens": 1_024 } });
    assert!(ask(budget.clone()).unwrap_err().as_str().unwrap().contains("thinking.type.adaptive"));
    let older = json!({ "thinking": budget["thinking"], "model": "claude-haiku-4-5" });
    assert_eq!(ask(older), Ok("hi".into()));
    let least = "max_tokens: Input should be a whole number greater than or equal to 1";
    assert_eq!(ask(json!({ "max_tokens": 0 })), Err(json!(least)));
    assert_eq!(ask(json!({ "temperature": 1.5 })), Err(json!("temperature: Input should be a number from 0 to 1")));

    let openai =
        |body: Value| openai::read(&body, true).map_err(|r| r.body(super::refusal::Dialect::OpenAi)["error"].clone());
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "thinking": {} });
    let told = openai(body).unwrap_err();
    assert_eq!(told["message"], "Unrecognized request argument supplied: thinking");
    assert_eq!((&told["type"], &told["param"]), (&json!("invalid_request_error"), &json!("thinking")));
    let two = openai(json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "n": 2 })).unwrap_err();
    assert_eq!(two["param"], "n");
}

#[test]
fn texts_with_the_same_words_are_near_each_other() {
    let texts = ["the cat sat".to_owned(), "The cat, sat!".to_owned(), "stock prices fell".to_owned()];
    let answer = openai::embeddings(&asked("x"), &texts, 64);
    let vector = |n: usize| {
        answer["data"][n]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>()
    };
    let near = |a: usize, b: usize| vector(a).iter().zip(vector(b)).map(|(x, y)| x * y).sum::<f64>();
    assert!((near(0, 1) - 1.0).abs() < 1e-6 && near(0, 2) < 0.5, "{} {}", near(0, 1), near(0, 2));
}
