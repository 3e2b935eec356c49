//! Tests of `http` against a server on this machine.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::{BoxCall, Call, CallContext};
use bourn_engine::env::Env;
use bourn_engine::error::Retry;
use bourn_engine::testing::conformance;
use bourn_engine::testing::harness::rows_of;
use bourn_engine::{Error, Kind, rows};
use serde_json::json;
use wiremock::matchers::{body_json, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

fn http(config: Value) -> Http {
    serde_json::from_value(config).unwrap()
}

fn built(config: &Http, input: &SchemaRef, env: &Env) -> BoxCall {
    let inputs = vec![input.clone()];
    config.schema(&inputs).unwrap();
    let context = BuildContext::of(env.clone(), "h", inputs);
    match config.build(&context).unwrap() {
        Operator::Call(call, _) => call,
        _ => panic!("it builds a call"),
    }
}

/// What is answered for the row `{"id": "a b", "n": 7}`.
async fn ask(config: Value) -> Result<Value, Error> {
    let (env, rows) = (Env::system(), rows![{"id": "a b", "n": 7}]);
    let call = built(&http(config), &rows.schema(), &env);
    let reply = call.call(rows, &context(&env)).await?;
    Ok(rows_of(&reply.rows).remove(0)["result"].take())
}

fn context(env: &Env) -> CallContext {
    CallContext {
        idempotency_key: Arc::from("key-1"),
        deadline: env.monotonic() + Duration::from_mins(1),
        ..CallContext::of(env.clone(), "h")
    }
}

async fn answering(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any()).respond_with(template).mount(&server).await;
    server
}

/// Answers each connection with these bytes, whatever is asked, and closes it.
fn raw(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the other side of the test")]
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _request = stream.read(&mut [0; 4096]);
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}/")
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_call() {
    let server = answering(ResponseTemplate::new(200).set_body_json(json!({"ok": true}))).await;
    let config =
        http(json!({"url": format!("{}/${{id}}", server.uri()), "body": {"id": "${id}"}, "limits": {"rows": 2}}));
    let rows = rows![{"id": 1}, {"id": 2}, {"id": 3}];
    conformance::call(config, rows).passing("id").check(&Env::system()).await;
}

#[tokio::test]
async fn a_request_is_made_of_the_row_and_the_answer_is_read() {
    let server = MockServer::start().await;
    Mock::given(method("PUT"))
        .and(path("/users/7"))
        .and(query_param("q", "a b&x=${y}"))
        .and(header("x-id", "<a b>"))
        .and(header("idempotency-key", "key-1"))
        .and(header("content-type", "application/json"))
        .and(body_json(json!({"n": 7, "who": ["a b"]})))
        .respond_with(ResponseTemplate::new(201).set_body_json(json!({"done": [1]})))
        .expect(1)
        .mount(&server)
        .await;
    let config = json!({
        "url": format!("{}/users/${{n}}", server.uri()), "method": "PUT", "query": {"q": "${id}&x=$${y}"},
        "headers": {"X-Id": "<${id}>"}, "body": {"n": "${n}", "who": ["${id}"]},
    });
    assert_eq!(ask(config).await.unwrap(), json!({"done": [1]}));
}

#[tokio::test]
async fn a_value_asks_for_nothing_else_than_what_its_place_is_for() {
    let server = answering(ResponseTemplate::new(200)).await;
    let rows = rows![{"id": "../a/b?x=1&y=2#z ü%2F"}];
    let config = json!({"url": format!("{}/users/${{id}}?full=${{id}}", server.uri()), "query": {"q": "${id}"}});
    let call = built(&http(config), &rows.schema(), &Env::system());
    call.call(rows, &context(&Env::system())).await.unwrap();
    let asked = server.received_requests().await.unwrap().remove(0).url;
    let encoded = "..%2Fa%2Fb%3Fx%3D1%26y%3D2%23z%20%C3%BC%252F";
    assert_eq!(asked.path(), format!("/users/{encoded}"));
    let parameters: Vec<_> = asked.query_pairs().into_owned().collect();
    let value = "../a/b?x=1&y=2#z ü%2F".to_owned();
    assert_eq!(parameters, [("full".to_owned(), value.clone()), ("q".to_owned(), value)]);
}

#[tokio::test]
async fn what_of_the_answer_is_taken_is_said_in_the_spec() {
    let server = answering(ResponseTemplate::new(200).set_body_raw("[1]", "application/problem+json; x=y")).await;
    let with = |response: &str| json!({"url": server.uri(), "response": response});
    assert_eq!(ask(with("auto")).await.unwrap(), json!([1]));
    assert_eq!(ask(with("text")).await.unwrap(), "[1]");
    assert_eq!(ask(with("json")).await.unwrap(), json!([1]));
    let full = ask(with("full")).await.unwrap();
    assert_eq!((&full["status"], &full["body"]), (&json!(200), &json!([1])));
    assert_eq!(full["headers"]["content-type"], "application/problem+json; x=y");
    let server = answering(ResponseTemplate::new(200).set_body_string("[1]")).await;
    assert_eq!(ask(json!({"url": server.uri()})).await.unwrap(), "[1]");
    // A GET carries no key.
    let asked = server.received_requests().await.unwrap();
    assert!(!asked[0].headers.contains_key("idempotency-key"));
}

#[tokio::test]
async fn rubbish_where_a_document_was_promised_is_refused() {
    let server = answering(ResponseTemplate::new(200).set_body_raw("{\"a\": <html>", "application/json")).await;
    let e = ask(json!({"url": server.uri()})).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (Kind::Validation, Retry::Never));
    assert!(e.message().contains("no JSON document") && e.message().contains("it begins with `{\"a\": <html>`"), "{e}");
    let server = answering(ResponseTemplate::new(200).set_body_bytes([0xff, 0xfe])).await;
    assert!(ask(json!({"url": server.uri()})).await.unwrap_err().message().contains("no UTF-8"));
}

#[tokio::test]
async fn a_refusal_says_what_was_asked_and_what_the_other_side_said() {
    let limited = ResponseTemplate::new(429).insert_header("retry-after", "3").set_body_string("slow\ndown");
    let server = answering(limited).await;
    let e = ask(json!({"url": format!("{}/x?token=secret", server.uri())})).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (Kind::RateLimit, Retry::After(Duration::from_secs(3))));
    assert_eq!(e.message(), format!("GET {}/x: 429 Too Many Requests: slow down", server.uri()));
    let server = answering(ResponseTemplate::new(500)).await;
    let e = ask(json!({"url": server.uri()})).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (Kind::Io, Retry::Soon));
    let server = answering(ResponseTemplate::new(422).set_body_string("no")).await;
    assert_eq!(ask(json!({"url": server.uri()})).await.unwrap_err().class(), "validation");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read_to_its_end() {
    let server = answering(ResponseTemplate::new(200).set_body_string("x".repeat(2_000))).await;
    let e = ask(json!({"url": server.uri(), "response_max": 1_000})).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (Kind::Budget, Retry::Never));
    // One that does not say how large it is.
    let url = raw("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n0123456789ABCDEF");
    let e = ask(json!({"url": url, "response_max": 10})).await.unwrap_err();
    assert!(e.message().ends_with("the answer has more than 10 bytes (`response_max`)"), "{e}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_tried_again() {
    let url = raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort");
    let e = ask(json!({"url": url})).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (Kind::Io, Retry::Soon), "{e}");
    let e = ask(json!({"url": raw("rubbish\r\n\r\n")})).await.unwrap_err();
    assert_eq!(e.retry(), Retry::Soon, "{e}");
}

#[tokio::test]
async fn nobody_there_is_a_transient_error_without_secrets() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let e = ask(json!({"url": format!("http://{free}/a?token=secret")})).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (Kind::Io, Retry::Soon));
    assert!(e.message().starts_with(&format!("GET http://{free}/a: ")), "{e}");
    assert!(!format!("{e:?}").contains("secret"), "{e:?}");
}

#[tokio::test]
async fn a_server_that_hangs_can_be_given_up_and_the_next_request_works() {
    let server = MockServer::start().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_hours(1));
    Mock::given(path("/slow")).respond_with(slow).mount(&server).await;
    Mock::given(path("/fast")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let mut hanging = Box::pin(ask(json!({"url": format!("{}/slow", server.uri())})));
    // As the engine's timeout does: the request is dropped in the middle.
    assert!(futures::poll!(&mut hanging).is_pending());
    while server.received_requests().await.unwrap().is_empty() {
        assert!(futures::poll!(&mut hanging).is_pending());
        tokio::task::yield_now().await;
    }
    drop(hanging);
    assert_eq!(ask(json!({"url": format!("{}/fast", server.uri())})).await.unwrap(), "");
}

#[tokio::test]
async fn redirects_stay_within_their_scheme() {
    let server = MockServer::start().await;
    let to = |target: String| ResponseTemplate::new(302).insert_header("location", target);
    Mock::given(path("/a")).respond_with(to(format!("{}/b", server.uri()))).mount(&server).await;
    Mock::given(path("/b")).respond_with(ResponseTemplate::new(200).set_body_string("b")).mount(&server).await;
    Mock::given(path("/s")).respond_with(to("https://127.0.0.1:1/".into())).mount(&server).await;
    Mock::given(path("/f")).respond_with(to("file:///etc/passwd".into())).mount(&server).await;
    Mock::given(path("/loop")).respond_with(to(format!("{}/loop", server.uri()))).mount(&server).await;
    let get = |p: &str| ask(json!({"url": format!("{}{p}", server.uri()), "redirects": 3}));
    assert_eq!(get("/a").await.unwrap(), "b");
    for p in ["/s", "/f", "/loop"] {
        let e = get(p).await.unwrap_err();
        assert_eq!((e.kind(), e.retry()), (Kind::Validation, Retry::Never), "{e}");
    }
    let e = ask(json!({"url": format!("{}/a", server.uri())})).await.unwrap_err();
    assert!(e.message().contains("302 Found, a redirect that `redirects` does not allow"), "{e}");
}

#[tokio::test]
async fn a_header_is_not_shown_to_another_host() {
    let (server, other) = (MockServer::start().await, answering(ResponseTemplate::new(200)).await);
    let away = ResponseTemplate::new(302).insert_header("location", format!("{}/", other.uri()));
    Mock::given(path("/a")).respond_with(away).mount(&server).await;
    let url = format!("{}/a", server.uri());
    assert_eq!(ask(json!({"url": url, "redirects": 1})).await.unwrap(), "");
    let e = ask(json!({"url": url, "redirects": 1, "headers": {"x-key": "k"}})).await.unwrap_err();
    assert_eq!(e.retry(), Retry::Never);
    assert_eq!(other.received_requests().await.unwrap().len(), 1);
}

/// A service that fails twice with this answer, then is well.
async fn recovering(failure: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    let well = ResponseTemplate::new(200).set_body_json(json!({"well": true}));
    Mock::given(path("/")).respond_with(failure).up_to_n_times(2).with_priority(1).mount(&server).await;
    Mock::given(path("/")).respond_with(well).with_priority(2).mount(&server).await;
    server
}

async fn run(config: Value) -> (bourn_engine::Result<()>, Vec<Value>) {
    crate::testing::run(Env::system(), http(config), rows![{"id": 1}]).await
}

#[tokio::test]
async fn the_engine_asks_again_until_the_service_is_well() {
    let server = recovering(ResponseTemplate::new(500)).await;
    let limits = json!({"retry": {"max_attempts": 3, "initial_interval": "1ms"}});
    let (ended, rows) = run(json!({"url": server.uri(), "body": "x", "limits": limits})).await;
    ended.unwrap();
    assert_eq!(rows, [json!({"id": 1, "result": {"well": true}})]);
    let requests = server.received_requests().await.unwrap();
    let mut keys: Vec<_> = requests.iter().map(|r| r.headers["idempotency-key"].clone()).collect();
    keys.dedup();
    assert_eq!((requests.len(), keys.len()), (3, 1));
}

#[tokio::test]
async fn the_engine_gives_up_after_the_last_attempt() {
    let server = recovering(ResponseTemplate::new(500)).await;
    let limits = json!({"retry": {"max_attempts": 2, "initial_interval": "1ms"}});
    let (ended, rows) = run(json!({"url": server.uri(), "limits": limits})).await;
    assert!(ended.unwrap_err().message().starts_with("after 2 attempts: GET "));
    assert_eq!((rows.len(), server.received_requests().await.unwrap().len()), (0, 2));
}

#[tokio::test]
async fn the_engine_waits_as_long_as_the_service_asks() {
    let server = recovering(ResponseTemplate::new(429).insert_header("retry-after", "1")).await;
    let limits = json!({"retry": {"max_attempts": 3, "initial_interval": "1ms"}});
    let env = Env::system();
    let (ended, rows) = run(json!({"url": server.uri(), "limits": limits})).await;
    ended.unwrap();
    assert_eq!(rows.len(), 1);
    assert!(env.monotonic() >= Duration::from_secs(2), "two waits of a second took {:?}", env.monotonic());
}

#[tokio::test]
async fn the_engine_gives_up_a_service_that_hangs() {
    let server = answering(ResponseTemplate::new(200).set_delay(Duration::from_hours(1))).await;
    let limits = json!({"timeout": "200ms", "retry": {"max_attempts": 1}});
    let (ended, rows) = run(json!({"url": server.uri(), "limits": limits})).await;
    assert_eq!((ended.unwrap_err().kind(), rows.len()), (Kind::Timeout, 0));
}

#[tokio::test]
async fn a_row_that_makes_no_request_is_refused() {
    let url = "http://127.0.0.1:1/";
    let told = |config: Value| async { ask(config).await.unwrap_err().to_string() };
    for url in ["${id}", "${id}:${n}"] {
        assert!(told(json!({"url": url})).await.contains("what `url` gives is no URL"));
    }
    let e = told(json!({"url": url, "body": "${n.x}"})).await;
    assert!(e.contains("`${n.x}` has no value"), "{e}");
}

/// Answers an array with an element for each element.
fn batches(answer: impl Fn(Vec<Value>) -> Value + std::marker::Send + Sync + 'static) -> impl wiremock::Respond {
    move |request: &wiremock::Request| {
        let sent: Vec<Value> = request.body_json().unwrap();
        ResponseTemplate::new(200).set_body_json(answer(sent))
    }
}

#[tokio::test]
async fn a_request_for_a_batch_keeps_the_promises_of_a_call() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(batches(|sent| json!({"results": sent}))).mount(&server).await;
    let config = json!({"url": server.uri(), "per": "batch", "answers": "/results", "limits": {"rows": 3}});
    let rows = rows![{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}, {"id": 5}];
    conformance::call(http(config), rows).passing("id").check(&Env::system()).await;
}

#[tokio::test]
async fn each_row_of_a_batch_has_its_own_answer_or_its_own_error() {
    let server = MockServer::start().await;
    let answer = |sent: Vec<Value>| {
        let one = |row: &Value| match row["n"].as_i64() {
            Some(2) => json!({"error": "two is bad"}),
            Some(3) => json!({"error": null, "of": row}),
            _ => json!({"of": row}),
        };
        Value::Array(sent.iter().map(one).collect())
    };
    Mock::given(method("POST"))
        .and(header("idempotency-key", "key-1"))
        .respond_with(batches(answer))
        .mount(&server)
        .await;
    let x = json!({"y": 1});
    let rows = rows![{"id": 1, "x": x}, {"id": 5, "x": null}, {"id": 2, "x": x}, {"id": 3, "x": x}, {"id": 4, "x": {}}];
    let config =
        json!({"url": server.uri(), "per": "batch", "body": {"n": "${id}", "y": "${x.y}"}, "limits": {"rows": 10}});
    let env = Env::system();
    let call = built(&http(config), &rows.schema(), &env);
    let reply = call.call(rows, &context(&env)).await.unwrap();
    let found = rows_of(&reply.rows);
    assert_eq!(found.iter().map(|r| r["id"].clone()).collect::<Vec<_>>(), [json!(1), json!(3), json!(4)]);
    // A row that makes no element has no answer, and takes none from the rows behind it.
    assert_eq!(found[0]["result"], json!({"of": {"n": 1, "y": 1}}));
    assert_eq!(found[1]["result"]["of"], json!({"n": 3, "y": 1}));
    let told: Vec<_> = reply.rejected.iter().map(|r| r.error.message().to_owned()).collect();
    let (no_element, bad) = ("`${x.y}` has no value: no `y` in null".to_owned(), "two is bad");
    assert_eq!(told, [no_element, format!("POST {}/: {bad}", server.uri())]);
    // Another number of answers than of rows is none at all.
    for (wrong, told) in [(json!([1]), "has 1 answers for 2 rows"), (json!({"a": 1}), "has no array for 2 rows")] {
        let server = answering(ResponseTemplate::new(200).set_body_json(wrong)).await;
        let rows = rows![{"id": 1}, {"id": 2}];
        let call =
            built(&http(json!({"url": server.uri(), "per": "batch", "limits": {"rows": 2}})), &rows.schema(), &env);
        let e = call.call(rows, &context(&env)).await.unwrap_err();
        assert!(e.message().ends_with(told), "{e}");
    }
}

#[test]
fn what_a_batch_can_not_have_is_told() {
    let schema = [rows![{"id": 1}].schema()];
    let key = |p: bourn_engine::diagnostic::Problem| match p.path.last() {
        Some(bourn_engine::diagnostic::Key::Name(name)) => name.clone(),
        other => format!("{other:?}"),
    };
    let told =
        |config: Value| -> Vec<String> { http(config).schema(&schema).unwrap_err().0.into_iter().map(key).collect() };
    let config = json!({
        "url": "http://h/${id}", "query": {"q": "${id}"}, "headers": {"x": "${id}"}, "per": "batch", "response": "full",
        "answers": "results", "method": "GET",
    });
    assert_eq!(told(config), ["url", "q", "x", "response", "answers", "method"]);
    assert_eq!(told(json!({"url": "http://h/", "answers": "/a"})), ["answers"]);
}

#[test]
fn problems_stand_at_their_place() {
    let schema = [rows![{"id": 1}].schema()];
    let told = |config: Value| -> Vec<(Vec<bourn_engine::diagnostic::Key>, String)> {
        http(config).schema(&schema).unwrap_err().0.into_iter().map(|p| (p.path, p.message)).collect()
    };
    let config = json!({"url": "ftp://x/${idd}", "headers": {"a b": "x"}, "body": ["${idd}"], "method": "GET"});
    let unknown = "unknown name `idd`".to_owned();
    assert_eq!(
        told(config),
        [
            (vec!["url".into()], unknown.clone()),
            (vec!["url".into()], "this is no URL".into()),
            (vec!["headers".into(), "a b".into()], "`a b` is no HTTP header".into()),
            (vec!["body".into(), 0.into()], unknown),
            (vec!["body".into()], "a GET or HEAD request has no body".into()),
        ]
    );
    assert!(http(json!({"url": "${id}/x"})).schema(&schema).is_ok());
}
