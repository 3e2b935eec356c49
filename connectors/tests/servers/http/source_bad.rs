//! `http` as a source: servers that hang, lie, flood, or answer rubbish; and specs that can't be.

use std::io::Write as _;

use bourn_connectors::Http;
use bourn_engine::api::Source;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::drive::{config, failure, faults, open, read_all, rows_of};
use crate::support::web::{Say, Web, answer, head, ok};

/// What is said of a server that answers so, whatever it is asked.
async fn told_of(more: Value, script: impl Fn() -> Vec<Say> + Send + Sync + 'static) -> String {
    let web = Web::start(move |_, _| script()).await;
    let mut told = json!({
        "url": web.url("/rows?token=SECRET").replace("http://", "http://SECRET:SECRET@"), "headers": {"X-Key": "SECRET"},
        "schema": {"n": "bigint"}, "timeout": "100ms", "retry": {"initial_interval": "1ms", "max_attempts": 2},
    });
    told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let said = failure(&config::<Http>(told)).await;
    assert!(!said.contains("SECRET"), "{said}");
    assert!(said.contains(&format!("GET {}", web.url("/rows"))), "{said}");
    said
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let silent = told_of(json!({}), || vec![Say::Hang]).await;
    assert!(silent.contains("after 2 attempts") && silent.contains("nothing came for 100ms (`timeout`)"), "{silent}");
    let long = [("Content-Length", "100")];
    let half = told_of(json!({}), move || vec![head(200, &long), Say::Bytes(b"[{".to_vec()), Say::Hang]).await;
    assert!(half.contains("nothing came for 100ms"), "{half}");
    let refusing = told_of(json!({}), move || vec![head(500, &long), Say::Hang]).await;
    assert!(refusing.contains("500"), "{refusing}");
}

#[tokio::test]
async fn a_server_that_lies_about_lengths_is_told() {
    let short = told_of(json!({}), || {
        vec![head(200, &[("Content-Length", "9")]), Say::Bytes(b"[{\"n\":1},{\"n\":2}]".to_vec())]
    })
    .await;
    assert!(short.contains("no JSON document") && short.contains("it begins with `[{\"n\":1},`"), "{short}");
    let long =
        told_of(json!({}), || vec![head(200, &[("Content-Length", "99")]), Say::Bytes(b"[{\"n\":1}]".to_vec())]).await;
    assert!(long.contains("reading the answer"), "{long}");
    let none = told_of(json!({}), || vec![head(200, &[("Content-Length", "many")])]).await;
    assert!(none.contains("content-length"), "{none}");
    let chunks = told_of(json!({}), || {
        vec![head(200, &[("Transfer-Encoding", "chunked")]), Say::Bytes(b"zz\r\n[]\r\n0\r\n\r\n".to_vec())]
    });
    assert!(chunks.await.contains("reading the answer"));
}

#[tokio::test]
async fn a_server_that_fails_half_answers_or_speaks_no_http_is_told() {
    let failing = told_of(json!({}), || answer(500, &[], "out of\norder")).await;
    assert!(
        failing.contains("after 2 attempts") && failing.contains("500") && failing.contains("out of order"),
        "{failing}"
    );
    let forbidden = told_of(json!({}), || answer(403, &[], "no")).await;
    assert!(forbidden.contains("403") && !forbidden.contains("attempts"), "{forbidden}");
    told_of(json!({}), || vec![Say::Bytes(b"HTTP/1.1 200 OK\r\nConte".to_vec())]).await;
    told_of(json!({}), || vec![Say::Bytes(b"SSH-2.0-OpenSSH\r\n".to_vec())]).await;
    told_of(json!({}), Vec::new).await;
}

#[tokio::test]
async fn headers_without_end_are_not_collected() {
    let endless = told_of(json!({"timeout": "20s"}), || {
        vec![
            Say::Bytes(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Say::Endless(format!("X-A: {}\r\n", "x".repeat(1_000)).into_bytes()),
        ]
    });
    endless.await;
    let one = told_of(json!({"timeout": "20s"}), || {
        vec![Say::Bytes(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec()), Say::Endless(b"x".repeat(1_000))]
    });
    one.await;
}

#[tokio::test]
async fn a_document_without_end_is_bounded() {
    let more = || json!({"response_max": "100KB", "retry": {"max_attempts": 1}});
    let endless =
        told_of(more(), || vec![head(200, &[]), Say::Bytes(b"[".to_vec()), Say::Endless(b"{\"n\":1},".repeat(100))]);
    assert!(endless.await.contains("more than 100000 bytes (`response_max`)"));
    let huge = told_of(more(), || vec![head(200, &[("Content-Length", "99999999999")]), Say::Hang]);
    assert!(huge.await.contains("more than 100000 bytes (`response_max`)"));
}

#[tokio::test]
async fn lines_without_end_are_read_no_faster_than_they_are_taken() {
    let web = Web::start(|_, _| vec![head(200, &[]), Say::Endless(b"{\"n\":1}\n".repeat(8_192))]).await;
    let told = json!({"url": web.url("/"), "format": "json_lines", "schema": {"n": "bigint"}});
    let mut source = open(&config::<Http>(told), None).await.unwrap();
    for _ in 0..3 {
        assert!(source.read().await.unwrap().unwrap().records.num_rows() > 0);
    }
    // Nobody reads now: the server can't get rid of more than the network holds.
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
    let (mut before, mut quiet) = (0, 0);
    while quiet < 4 {
        tick.tick().await;
        quiet = if web.written() == before { quiet + 1 } else { 0 };
        before = web.written();
        assert!(before < 64 << 20, "the source swallowed {before} bytes");
    }
}

#[tokio::test]
async fn a_line_without_end_is_passed_over_and_not_held() {
    let web = Web::start(|_, _| {
        vec![
            head(200, &[]),
            Say::Bytes(b"{\"n\":1}\n".to_vec()),
            Say::Bytes(b"x".repeat(20 << 20)),
            Say::Bytes(b"\n{\"n\":2}\n".to_vec()),
        ]
    })
    .await;
    let told = json!({"url": web.url("/"), "format": "json_lines", "schema": {"n": "bigint"}});
    let read = read_all(&config::<Http>(told)).await.unwrap();
    assert_eq!(rows_of(&read), [json!({"n": 1}), json!({"n": 2})]);
    assert!(faults(&read)[0].contains("longer than 16 MiB"), "{:?}", faults(&read));
}

#[tokio::test]
async fn redirects_in_a_loop_come_to_an_end() {
    let none = told_of(json!({}), || answer(302, &[("Location", "/rows?token=SECRET")], ""));
    assert!(none.await.contains("a redirect that `redirects` does not allow"));
    let some = told_of(json!({"redirects": 5}), || answer(302, &[("Location", "/rows?token=SECRET")], ""));
    assert!(some.await.contains("a redirect that `redirects` does not allow"));
    let elsewhere = told_of(json!({"redirects": 5}), || answer(307, &[("Location", "http://127.0.0.2:1/")], ""));
    assert!(elsewhere.await.contains("a redirect that `redirects` does not allow"));
}

#[tokio::test]
async fn pages_in_a_loop_or_on_another_host_are_told() {
    let paged = json!({"pagination": "next_link", "retry": {"max_attempts": 1}});
    let itself = told_of(paged.clone(), || answer(200, &[("Link", "<?token=SECRET>; rel=next")], "[{\"n\":1}]"));
    assert!(itself.await.contains("is its own next page"));
    let other = told_of(paged, || answer(200, &[("Link", "<http://127.0.0.2:1/?SECRET>; rel=next")], "[{\"n\":1}]"));
    assert!(other.await.contains("its next page http://127.0.0.2:1/ is on another host"));
}

#[tokio::test]
async fn a_cursor_that_stays_is_told_and_no_end() {
    let paged = json!({"rows": "/items", "pagination": {"cursor": {"from": "/next", "parameter": "at"}}});
    let stays = told_of(paged, || ok("{\"items\":[{\"n\":1}],\"next\":\"SECRET\"}")).await;
    assert!(stays.contains("the value at `/next` is the one that this page was asked with"), "{stays}");
}

#[tokio::test]
async fn a_poll_whose_cursor_stays_goes_on_with_the_next_round() {
    // A service that counts from a time on, inclusive: the last row comes again until there is a new one.
    let web = Web::start(|_, before| ok(json!({"items": [{"n": before}], "next": "now"}).to_string())).await;
    let told = json!({
        "url": web.url("/"), "rows": "/items", "every": "1ms", "schema": {"n": "bigint"},
        "pagination": {"cursor": {"from": "/next", "parameter": "at"}},
    });
    let mut source = open(&config::<Http>(told), None).await.unwrap();
    for n in 0..4 {
        assert_eq!(rows_of(&[source.read().await.unwrap().unwrap()]), [json!({"n": n})]);
    }
}

#[tokio::test]
async fn rubbish_is_told_as_a_whole_and_a_bad_row_alone() {
    let html = told_of(json!({}), || ok("<html>\n<p>busy</p>"));
    assert!(html.await.contains("no JSON document"));
    let bytes = told_of(json!({}), || ok([0xff, 0xfe, b'[']));
    assert!(bytes.await.contains("no JSON document"));
    let missing = told_of(json!({"rows": "/data"}), || ok("{\"error\":\"quota\"}"));
    assert!(missing.await.contains("has nothing at `/data`"));
    let web = Web::start(|_, _| ok(b"{\"n\":1}\n\xff\n{\"n\":\"x\"}\n{\"n\":2}\n")).await;
    let told = json!({"url": web.url("/?token=SECRET"), "format": "json_lines", "schema": {"n": "bigint"}});
    let read = read_all(&config::<Http>(told)).await.unwrap();
    assert_eq!(rows_of(&read), [json!({"n": 1}), json!({"n": 2})]);
    let said = faults(&read);
    assert!(said[0].starts_with(&format!("{}:2: not UTF-8", web.url("/"))), "{said:?}");
    assert!(said[1].starts_with(&format!("{}:3, field `n`", web.url("/"))), "{said:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn gzip_is_read_and_a_bomb_is_not() {
    let zipped = gzip(b"[{\"n\":1},{\"n\":2}]");
    let web = Web::start(move |_, _| answer(200, &[("Content-Encoding", "gzip")], &zipped)).await;
    let read = read_all(&config::<Http>(json!({"url": web.url("/")}))).await.unwrap();
    assert_eq!(rows_of(&read), [json!({"n": 1}), json!({"n": 2})]);
    assert_eq!(web.asked()[0].headers["accept-encoding"], "gzip");
    let bomb = gzip(&b" ".repeat(300 << 20));
    for format in ["json", "json_lines"] {
        let bomb = bomb.clone();
        let more = json!({"format": format, "response_max": "1GiB", "timeout": "20s"});
        let told = told_of(more, move || answer(200, &[("Content-Encoding", "gzip")], &bomb)).await;
        assert!(told.contains("more than 200 times as large"), "{told}");
    }
    let half = told_of(json!({}), move || answer(200, &[("Content-Encoding", "gzip")], &gzip(b"[{\"n\":1}]")[..15]));
    assert!(half.await.contains("no whole gzip"));
    let unknown = told_of(json!({}), || answer(200, &[("Content-Encoding", "br")], "x"));
    assert!(unknown.await.contains("the encoding `br` of a body is not known"));
}

#[tokio::test]
async fn what_a_spec_can_not_ask_for_is_told_before_anybody_is_asked() {
    let problem = async |told: Value| failure(&config::<Http>(told)).await;
    assert!(problem(json!({"url": "ftp://h/"})).await.contains("begins with `http://` or `https://`"));
    assert!(problem(json!({"url": "http://h:port/?SECRET"})).await.contains("this is no URL"));
    assert!(!problem(json!({"url": "http://h:port/?SECRET"})).await.contains("SECRET"));
    assert!(
        problem(json!({"url": "http://h/", "headers": {"a b": "SECRET"}})).await.contains("`a b` is no HTTP header")
    );
    assert!(problem(json!({"url": "http://h/", "batch": {}})).await.contains("`batch` is for a sink"));
    assert!(problem(json!({"url": "http://h/", "rows": "data"})).await.contains("is no JSON pointer"));
    let lines = json!({"url": "http://h/", "rows": "/data", "format": "json_lines"});
    assert!(problem(lines).await.contains("say `format: json`"));
    assert!(problem(json!({"url": "http://h/", "method": "GET", "body": 1})).await.contains("has no body"));
    assert!(problem(json!({"url": "http://h/", "csv": {}})).await.contains("say `format: csv`"));
}
