//! Tests of `model` with the mock model.

use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::Usage;
use bourn_engine::api::{Call, CallContext, Reply};
use bourn_engine::error::Retry;
use bourn_engine::rows;
use bourn_engine::testing::conformance;
use bourn_engine::testing::harness::rows_of;
use bourn_engine::testing::simulation::Simulation;
use mock::When;
use provider::Said;
use serde_json::json;

use super::*;

fn model(config: Value) -> Model {
    serde_json::from_value(config).unwrap()
}

/// What is answered for `{"topic": "rust ${topic}"}`, at the attempt number `attempt`.
fn ask(config: Value, mock: Mock, attempt: u32) -> Result<Reply> {
    told(config, mock, attempt, None)
}

/// The same, of a request that is made again because of what was wrong with the last answer.
fn told(config: Value, mock: impl Provider, attempt: u32, feedback: Option<&str>) -> Result<Reply> {
    let rows = rows![{"topic": "rust ${topic}"}];
    let config = model(config);
    config.schema(&[rows.schema()]).unwrap();
    let Operator::Call(call, _) = config.over(mock, &rows.schema())? else { panic!("a call") };
    let simulation = Simulation::new(1);
    let context = CallContext {
        idempotency_key: Arc::from("k"),
        attempt,
        deadline: Duration::from_mins(1),
        feedback: feedback.map(Arc::from),
        ..CallContext::of(simulation.env(), "m")
    };
    simulation.run(async move { call.call(rows, &context).await }).done()
}

fn answer(reply: &Reply) -> Value {
    rows_of(&reply.rows).remove(0)["result"].take()
}

#[test]
fn it_keeps_the_promises_of_a_call() {
    let config = model(json!({"prompt": "about ${id}", "limits": {"rows": 2}}));
    let simulation = Simulation::new(1);
    let rows = rows![{"id": 1}, {"id": 2}, {"id": 3}];
    simulation.run(conformance::call(config, rows).passing("id").check(&simulation.env())).done();
}

#[test]
fn the_mock_names_what_was_asked_and_says_the_same_each_time() {
    let config = json!({"prompt": "analyze ${topic}", "system": "be short"});
    let reply = ask(config.clone(), Mock::default(), 1).unwrap();
    // Fixed for good: other processes and later versions answer the same.
    assert_eq!(answer(&reply), "mock answer bd56a33d3fd0be00 of mock to: analyze rust ${topic}");
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (8, 16));
    assert_eq!(answer(&ask(config, Mock::slow(Duration::from_secs(9)), 7).unwrap()), answer(&reply));
    let other = ask(json!({"prompt": "analyze ${topic}", "model": "opus"}), Mock::default(), 1).unwrap();
    assert!(answer(&other).as_str().unwrap().contains(" of opus to: "));
    let cut = ask(json!({"prompt": "analyze ${topic}", "max_tokens": 3}), Mock::default(), 1).unwrap();
    assert_eq!((answer(&cut), cut.usage.output_tokens), (json!("mock answer "), 3));
}

#[test]
fn who_is_asked_again_is_told_what_was_wrong() {
    let config = json!({"prompt": "analyze ${topic}"});
    let said = answer(&told(config, Mock::default(), 2, Some("/n: \"one\" is no number")).unwrap());
    let said = said.as_str().unwrap();
    assert!(
        said.contains("to: analyze rust ${topic}\n\nYour last answer could not be used: /n: \"one\" is no number. "),
        "{said}"
    );
}

#[test]
fn a_document_that_was_asked_for_is_read_and_rubbish_is_refused() {
    let config = json!({"prompt": "x", "parse": "json"});
    let document = answer(&ask(config.clone(), Mock::default(), 1).unwrap());
    assert_eq!((&document["model"], &document["asked"]), (&json!("mock"), &json!("x")));
    let always = When { one_in: 1, attempts: u32::MAX };
    let e = ask(config, Mock::faulty(Fault::Rubbish, always), 1).unwrap_err();
    assert_eq!((e.class(), e.retry()), ("validation", Retry::Soon));
    assert!(e.message().contains("control characters"), "{e}");
}

#[test]
fn an_answer_that_is_none_is_refused_whatever_was_asked() {
    let always = When { one_in: 1, attempts: u32::MAX };
    let told = |fault| {
        let config = json!({"prompt": "x", "model": "m", "provider": "openai", "max_tokens": 9});
        let e = ask(config, Mock::faulty(fault, always), 1).unwrap_err();
        (e.class(), e.message().to_owned())
    };
    let refused = |what: &str| ("validation", format!("model `m` {what}"));
    assert_eq!(told(Fault::Empty), refused("gave an empty answer"));
    assert_eq!(told(Fault::Rubbish), refused("gave an answer with control characters: that is no text"));
    assert_eq!(told(Fault::TooLong), refused("wrote 23 tokens where `max_tokens` allows 9"));
}

/// A model that never answers, in a graph.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Hanging(Model);

impl StageConfig for Hanging {
    const NAME: &'static str = "hanging";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        self.0.schema(inputs)
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let always = When { one_in: 1, attempts: u32::MAX };
        self.0.over(Mock::faulty(Fault::Hang, always), &context.inputs[0])
    }
}

#[test]
fn the_engine_gives_up_a_model_that_hangs() {
    let limits = json!({"timeout": "30s", "retry": {"max_attempts": 2, "initial_interval": "1s", "jitter": false}});
    let config = Hanging(model(json!({"prompt": "${topic}", "limits": limits})));
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let (ended, rows) = simulation.run(crate::testing::run(env, config, rows![{"topic": "x"}])).done();
    let e = ended.unwrap_err();
    assert_eq!((e.kind(), rows.len()), (bourn_engine::Kind::Timeout, 0), "{e}");
    // Two attempts of 30 s each, with the wait between them.
    assert_eq!(simulation.elapsed().as_secs(), 61);
}

#[test]
fn a_faulty_mock_fails_as_a_service_would() {
    let twice = When { one_in: 1, attempts: 2 };
    let told = |fault, attempt| {
        let reply = ask(json!({"prompt": "x"}), Mock::faulty(fault, twice), attempt);
        reply.map(|r| r.rows.num_rows()).map_err(|e| (e.class(), e.retry()))
    };
    assert_eq!(told(Fault::Overloaded, 2), Err(("transient", Retry::Soon)));
    assert_eq!(told(Fault::Overloaded, 3), Ok(1));
    let wait = Duration::from_secs(3);
    assert_eq!(told(Fault::RateLimited(wait), 1), Err(("rate_limit", Retry::After(wait))));
    assert_eq!(told(Fault::Refused, 1), Err(("validation", Retry::Never)));
}

#[test]
fn a_model_that_hangs_says_nothing_and_can_be_given_up() {
    let rows = rows![{"topic": "x"}];
    let always = When { one_in: 1, attempts: u32::MAX };
    let hanging = model(json!({"prompt": "x"})).over(Mock::faulty(Fault::Hang, always), &rows.schema()).unwrap();
    let Operator::Call(call, _) = hanging else { panic!("a call") };
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let context = CallContext {
        idempotency_key: Arc::from("k"),
        deadline: Duration::from_mins(1),
        ..CallContext::of(env.clone(), "m")
    };
    let given_up = simulation.run(async move {
        let asked = std::pin::pin!(call.call(rows, &context));
        matches!(
            futures::future::select(asked, env.sleep(Duration::from_hours(1))).await,
            futures::future::Either::Right(_)
        )
    });
    assert!(given_up.done());
}

#[test]
fn without_a_provider_the_way_out_is_named() {
    let rows = rows![{"topic": "x"}];
    let env = Simulation::new(1).env();
    let context = |mock| BuildContext { mock, ..BuildContext::of(env.clone(), "m", vec![rows.schema()]) };
    let config = model(json!({"prompt": "x"}));
    let Err(e) = config.build(&context(false)) else { panic!("there is a provider") };
    assert!(e.message().contains("`bourn models`") && e.message().contains("`--mock`"), "{e}");
    assert!(config.build(&context(true)).is_ok());
    let Err(e) = model(json!({"prompt": "x", "model": "opus"})).build(&context(false)) else {
        panic!("there is a key")
    };
    assert!(e.message().contains("ANTHROPIC_API_KEY") && e.message().contains("`--mock`"), "{e}");
}

/// A service that does not keep to the schema that it was given.
struct Says(&'static str);

impl Provider for Says {
    async fn answer(&self, _: &provider::Prompt, _: &CallContext) -> Result<Said> {
        Ok(Said { text: self.0.to_owned(), usage: Usage::default(), limits: None, model: None, finish: None })
    }

    fn request(&self, _: &provider::Prompt) -> String {
        String::new()
    }
}

#[test]
fn an_answer_fits_the_schema_that_was_asked_for_or_is_none() {
    let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    let config = json!({"prompt": "${topic}", "json_schema": schema});
    let says = |text| told(config.clone(), Says(text), 1, None);
    assert_eq!(answer(&says("```json\n{\"n\": 7}\n```").unwrap()), json!({"n": 7}));
    for (text, wrong) in
        [("{\"n\": \"one\"}", "/n: \"one\" is not of type \"integer\""), ("{}", "\"n\" is a required property")]
    {
        let e = says(text).unwrap_err();
        assert_eq!(e.message(), format!("the answer does not fit `json_schema`: {wrong}"));
        assert_eq!((e.class(), e.retry()), ("validation", Retry::Soon));
    }
    let broken = model(json!({"prompt": "x", "json_schema": {"type": 7}}));
    let problems = broken.schema(&[rows![{"topic": "x"}].schema()]).unwrap_err().0;
    assert!(problems[0].message.starts_with("this is no JSON Schema: "), "{problems:?}");
}

#[test]
fn problems_stand_at_their_place() {
    let config = model(json!({
        "prompt": "${topc}", "system": "${", "model": "sonet", "base_url": "", "json_schema": 1,
    }));
    let config = Model { base_url: None, ..config };
    let problems = config.schema(&[rows![{"topic": "x"}].schema()]).unwrap_err().0;
    assert_eq!(
        (&problems[0].path, problems[0].help.as_deref()),
        (&vec!["prompt".into()], Some("did you mean `topic`?"))
    );
    assert_eq!(problems[1].path, ["system".into()]);
    assert_eq!(problems[2].message, "there is no model `sonet`");
    assert!(problems[2].help.as_ref().unwrap().starts_with("did you mean `sonnet`?"), "{problems:?}");
    assert_eq!(problems[3].path, ["json_schema".into()]);
}
