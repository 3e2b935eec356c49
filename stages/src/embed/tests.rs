//! Tests of `embed`: bounds of requests, texts that are refused, and what a service answers.

use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float32Type;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Call, CallContext, Reply, Usage};
use bourn_engine::env::Env;
use bourn_engine::rows;
use bourn_engine::testing::conformance;
use bourn_engine::testing::simulation::Simulation;
use serde_json::{Value, json};
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{MockServer, ResponseTemplate};

use super::call::Embedded;
use super::*;
use crate::column::told;

fn embed(config: Value) -> Embed {
    serde_json::from_value(config).unwrap()
}

/// Notes the texts of each request; refuses those with `bad`.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<Vec<String>>>>);

impl Embedder for Noting {
    async fn embed(&self, texts: &[String], dimensions: u32, context: &CallContext) -> Result<Embedded> {
        self.0.lock().unwrap().push(texts.to_vec());
        if texts.iter().any(|text| text.contains("bad")) {
            return Err(Error::validation("this text is bad"));
        }
        Mock.embed(texts, dimensions, context).await
    }

    fn manner(&self, dimensions: u32) -> String {
        Mock.manner(dimensions)
    }
}

fn context(env: &Env) -> CallContext {
    CallContext {
        idempotency_key: Arc::from("k"),
        deadline: std::time::Duration::from_mins(1),
        ..CallContext::of(env.clone(), "e")
    }
}

fn ask(config: Value, rows: RecordBatch) -> (Result<Reply>, Vec<Vec<String>>) {
    let (config, noting) = (embed(config), Noting::default());
    config.schema(&[rows.schema()]).unwrap();
    let Operator::Call(call, limits) = config.over(noting.clone(), &rows.schema()).unwrap() else { panic!("a call") };
    assert_eq!((limits.rows, limits.adaptive), (config.rows_max, Some(true)));
    let simulation = Simulation::new(1);
    let context = context(&simulation.env());
    let reply = simulation.run(async move { call.call(rows, &context).await }).done();
    let asked = noting.0.lock().unwrap().clone();
    (reply, asked)
}

#[test]
fn it_keeps_the_promises_of_a_call() {
    let config = embed(json!({"text": "about ${id}", "model": "m", "dimensions": 4, "rows_max": 2}));
    let simulation = Simulation::new(1);
    let rows = rows![{"id": 1}, {"id": 2}, {"id": 3}];
    simulation.run(conformance::call(config, rows).passing("id").check(&simulation.env())).done();
}

#[test]
fn requests_are_bounded_by_rows_and_by_tokens() {
    let rows = rows![{"t": "aaaa"}, {"t": "bbbb"}, {"t": "cccccccc"}, {"t": "dddddddddddddddd"}, {"t": "e"}];
    let config = |rows_max, tokens_max| json!({"text": "${t}", "model": "m", "dimensions": 4, "rows_max": rows_max, "tokens_max": tokens_max});
    let sizes = |config| ask(config, rows.clone()).1.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(config(2, 100)), [2, 2, 1]);
    // 1 + 1, 2, and 4, which is more than a request may have but a text of its own.
    assert_eq!(sizes(config(9, 3)), [2, 1, 1, 1]);
}

#[test]
fn a_row_without_a_text_gets_a_null_and_the_vectors_stay_with_their_rows() {
    let (reply, asked) = ask(
        json!({"text": "${t}", "model": "m", "dimensions": 4}),
        rows![{"t": "one"}, {"t": "  "}, {"t": "two"}, {"t": null}],
    );
    let reply = reply.unwrap();
    assert_eq!(asked, [["one", "two"]]);
    let column = reply.rows.column_by_name("embedding").unwrap().as_fixed_size_list();
    let vector = |row: usize| column.value(row).as_primitive::<Float32Type>().values().to_vec();
    assert_eq!((vector(0), vector(2)), (mock::vector("one", 4), mock::vector("two", 4)));
    assert_eq!((column.is_null(1), column.is_null(3), column.null_count()), (true, true, 2));
    assert_eq!(reply.usage, Usage { input_tokens: 2, output_tokens: 0, usd: 0.0 });
}

#[test]
fn a_text_that_is_refused_is_rejected_alone() {
    let rows = rows![{"t": "a"}, {"t": "b"}, {"t": "bad"}, {"t": "d"}, {"t": "e"}];
    let (reply, asked) = ask(json!({"text": "${t}", "model": "m", "dimensions": 4}), rows.clone());
    let reply = reply.unwrap();
    assert_eq!((reply.rows.num_rows(), reply.rejected.len()), (4, 1));
    assert_eq!(reply.rejected[0].error.message(), "this text is bad");
    assert_eq!(asked.iter().map(Vec::len).collect::<Vec<_>>(), [5, 2, 3, 1, 2]);
    let (alone, _) = ask(json!({"text": "${t}", "model": "m", "dimensions": 4}), rows.slice(2, 1));
    assert_eq!(alone.unwrap_err().message(), "this text is bad");
}

#[test]
fn what_does_not_fit_is_told_at_its_place() {
    let schema = rows![{"t": "a"}].schema();
    let of = |config: Value| told(embed(config).schema(std::slice::from_ref(&schema)));
    let unknown = of(json!({"text": "${x}", "model": "m", "dimensions": 0, "output": "t"}));
    assert_eq!(unknown.len(), 3, "{unknown:?}");
    assert_eq!(unknown[1..], ["dimensions | 0 has no meaning here | ", "output | there is a column `t` already | "]);
}

/// What comes of one row when the service answers so.
async fn answered(answer: Value, dimensions: u32) -> Result<Reply> {
    let server = MockServer::start().await;
    let asked = json!({"model": "m", "input": ["one"], "encoding_format": "float", "dimensions": dimensions});
    wiremock::Mock::given(method("POST"))
        .and(path("/v1/embeddings"))
        .and(header("authorization", "Bearer the-key"))
        .and(body_json(asked))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(answer).insert_header("x-ratelimit-limit-requests", "60"),
        )
        .mount(&server)
        .await;
    let (env, rows) = (Env::system(), rows![{"t": "one"}]);
    let config = embed(json!({
        "text": "${t}", "model": "m", "dimensions": dimensions, "shorten": true, "base_url": server.uri(), "api_key": "the-key",
        "price": {"input": 1_000_000.0, "output": 0.0},
    }));
    let context_of = BuildContext::of(env.clone(), "e", vec![rows.schema()]);
    let Operator::Call(call, _) = config.build(&context_of)? else { panic!("a call") };
    call.call(rows, &context(&env)).await
}

#[tokio::test]
async fn a_service_is_asked_in_its_words_and_its_answer_is_checked() {
    let data = json!({"data": [{"index": 0, "embedding": [0.5, -1]}], "usage": {"prompt_tokens": 3}});
    let reply = answered(data.clone(), 2).await.unwrap();
    assert_eq!(reply.usage, Usage { input_tokens: 3, output_tokens: 0, usd: 3.0 });
    assert_eq!(reply.limits.unwrap().requests.per_minute, Some(60));
    let wrong = answered(data, 3).await.unwrap_err();
    assert_eq!(wrong.message(), "model `m` makes vectors of 2 numbers, where `dimensions` says 3");
    let few = answered(json!({"data": []}), 2).await.unwrap_err();
    assert_eq!((few.message(), few.class()), ("the answer has fewer vectors than texts were asked", "transient"));
}
