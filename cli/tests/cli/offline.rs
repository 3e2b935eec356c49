//! `plan` and `validate` ask nobody over a network; `validate --connect` does.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::Folder;

/// A port on which nothing listens.
fn silent() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// One source that only a server knows the columns of, and a part of the spec that needs none.
fn spec(source: &str) -> String {
    format!(
        "name: orders\nsources:\n  orders: {{ {source} }}\n  numbers: {{ generate: {{ rows: 1 }} }}\nstages:\n\
         \x20 - {{ id: late, from: orders, filter: total > 1 }}\n  - {{ id: some, from: numbers, filter: n > 1 }}\n\
         sinks:\n  out: {{ from: late, blackhole: {{}} }}\n  copy: {{ from: some, blackhole: {{}} }}\n"
    )
}

fn sources(at: &str) -> Vec<(String, String)> {
    let options = format!("endpoint: \"http://{at}\", access_key_id: a, secret_access_key: canary, region: eu-1");
    [
        (
            format!("postgres: {{ url: \"postgres://me:canary@{at}/shop?sslmode=disable\", table: orders }}"),
            format!("postgres at {at}"),
        ),
        (
            format!("nats: {{ servers: \"nats://me:canary@{at}\", stream: orders, consumer: it }}"),
            format!("nats at nats://{at}"),
        ),
        (format!("http: {{ url: \"http://me:canary@{at}/orders?key=canary\" }}"), format!("http://{at}/orders")),
        (
            format!("object_store: {{ url: \"s3://shop/orders/*.parquet\", options: {{ {options} }} }}"),
            "s3://shop/orders/*.parquet".to_owned(),
        ),
    ]
    .into()
}

#[test]
fn a_spec_is_planned_and_valid_without_its_servers() {
    let at = silent();
    for (source, server) in sources(&at) {
        let folder = Folder::with(&[("a.yaml", &spec(&source))]);
        let valid = folder.bourn(&["validate", "a.yaml"]).quietly();
        let open = format!("  `orders`: schema: not known without asking {server}, so what reads it is not checked");
        assert!(valid.starts_with("a.yaml: valid (pipeline: ") && valid.contains(&open), "{valid}");
        let verdict: Value =
            serde_json::from_str(&folder.bourn(&["validate", "a.yaml", "-o", "json"]).quietly()).unwrap();
        assert_eq!(verdict["open"], serde_json::json!([{"source": "orders", "asks": server}]));
        let plan = folder.bourn(&["plan", "a.yaml"]).quietly();
        assert!(
            plan.contains(&format!("    schema: not known without asking {server}; `bourn validate --connect` asks\n")),
            "{plan}"
        );
        let plan: Value = serde_json::from_str(&folder.bourn(&["plan", "a.yaml", "-o", "json"]).quietly()).unwrap();
        let node = |id: &str| plan["nodes"].as_array().unwrap().iter().find(|n| n["id"] == id).unwrap().clone();
        assert_eq!((&node("orders")["asks"], &node("orders")["columns"]), (&server.into(), &Value::Null));
        assert_eq!((&node("late")["checked"], &node("some")["checked"]), (&false.into(), &true.into()));
        assert_eq!(node("some")["columns"][0]["type"], "bigint");
    }
}

#[test]
fn the_plan_says_what_is_open_and_what_follows_from_it() {
    let at = silent();
    let folder = Folder::with(&[("a.yaml", &spec(&format!("http: {{ url: \"http://{at}/orders\" }}")))]);
    let plan = folder.bourn(&["plan", "a.yaml"]).quietly().replace(&at, "HOST:PORT");
    insta::assert_snapshot!(plan, @r#"
    pipeline (the spec has `sources`), complexity 1.4 of 10
    job orders
      memory 512.0 MiB, epochs one, at the end

    nodes
      orders (source http)
        {"url":"http://HOST:PORT/orders","format":"json","timeout":"30s","retry":{"max_attempts":8,"initial_interval":"200ms","backoff_coefficient":2.0,"max_interval":"1m","jitter":true,"non_retryable":[]},"redirects":0,"response_max":"64.0 MiB"}
        schema: not known without asking http://HOST:PORT/orders; `bourn validate --connect` asks
      numbers (source generate)
        {"rows":1}
        -> (n bigint not null)
      late (filter) <- orders
        "total > 1"
        schema: open, as that of `orders`
      some (filter) <- numbers
        "n > 1"
        -> (n bigint not null)
      out (sink blackhole) <- late
        {}
        not checked, since the schema of `orders` is open
      copy (sink blackhole) <- some
        {}

    delivery
      orders -> out: at least once (no checkpoint is kept: a run that was cut off starts anew)
      numbers -> copy: at least once (no checkpoint is kept: a run that was cut off starts anew)
    "#);
}

#[test]
fn what_needs_no_server_is_told_in_one_go() {
    let at = silent();
    let (source, _) = sources(&at).remove(2);
    let bad = spec(&source).replace("filter: n > 1", "filter: m > 1");
    let bad = bad.replace("http: {", "http: { rows: data,");
    let folder = Folder::with(&[("a.yaml", &bad)]);
    let told = folder.bourn(&["plan", "a.yaml"]).refused(2);
    assert!(told.contains("unknown column `m`") && told.contains("2 problems"), "{told}");
}

#[test]
fn with_declared_columns_everything_is_checked_without_a_server() {
    let at = silent();
    let options = format!("endpoint: \"http://{at}\", access_key_id: a, secret_access_key: b, region: eu-1");
    let schema = "schema: { id: bigint, total: double }";
    for source in [
        format!("nats: {{ servers: \"nats://{at}\", stream: orders, consumer: it, {schema} }}"),
        format!("http: {{ url: \"http://{at}/orders\", {schema} }}"),
        format!("object_store: {{ url: \"s3://shop/**/*.jsonl.gz\", {schema}, options: {{ {options} }} }}"),
        format!("object_store: {{ url: \"s3://shop/a.csv\", {schema}, options: {{ {options} }} }}"),
    ] {
        let folder = Folder::with(&[("a.yaml", &spec(&source))]);
        assert_eq!(folder.bourn(&["validate", "a.yaml"]).quietly().lines().count(), 1, "{source}");
        let plan = folder.bourn(&["plan", "a.yaml"]).quietly();
        assert!(plan.contains("-> (id bigint, total double)") && plan.contains("\ntasks\n"), "{plan}");
        let bad = Folder::with(&[("a.yaml", &spec(&source).replace("total > 1", "totl > 1"))]);
        let told = bad.bourn(&["validate", "a.yaml"]).refused(2);
        assert!(told.contains("unknown column `totl`"), "{told}");
    }
}

#[test]
fn asking_a_server_that_is_not_there_tells_the_source_and_the_address() {
    let at = silent();
    for (source, server) in sources(&at) {
        let folder = Folder::with(&[("a.yaml", &spec(&source))]);
        let told = folder.bourn(&["validate", "a.yaml", "--connect"]).refused(2);
        assert!(told.starts_with("a.yaml:3:") && told.contains("`orders`: "), "{told}");
        assert!(told.contains(&server) && told.contains("1 problem"), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn asking_a_server_of_a_sink_that_is_not_there_tells_the_sink_and_the_address() {
    let at = silent();
    let options = format!("endpoint: \"http://{at}\", access_key_id: a, secret_access_key: canary, region: eu-1");
    for (sink, server) in [
        (
            format!("postgres: {{ url: \"postgres://me:canary@{at}/shop?sslmode=disable\", table: t }}"),
            format!("postgres at {at}"),
        ),
        (format!("nats: {{ servers: \"nats://{at}\", subject: orders }}"), format!("nats at nats://{at}")),
        (format!("http: {{ url: \"http://{at}/orders\" }}"), format!("http://{at}/orders")),
        (format!("websocket: {{ url: \"ws://{at}/orders\" }}"), format!("ws://{at}/orders")),
        (
            format!("object_store: {{ url: \"s3://shop/orders.csv\", options: {{ {options} }} }}"),
            "s3://shop/orders.csv".to_owned(),
        ),
    ] {
        let spec = format!("source: {{ generate: {{ rows: 1 }} }}\nsinks:\n  out: {{ {sink} }}\n");
        let folder = Folder::with(&[("a.yaml", &spec)]);
        assert_eq!(folder.bourn(&["validate", "a.yaml"]).quietly().lines().count(), 1);
        let told = folder.bourn(&["validate", "a.yaml", "--connect"]).refused(2);
        assert!(told.starts_with("a.yaml:3:") && told.contains("`out`: ") && told.contains(&server), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

/// A spec that keeps its checkpoints in a bucket.
fn kept(at: &str, more: &str) -> String {
    let options = format!("endpoint: \"http://{at}\", access_key_id: a, secret_access_key: canary");
    format!(
        "name: kept\nsource: {{ generate: {{ rows: 1 }} }}\nsink: {{ file: {{ path: out.jsonl }} }}\n\
         checkpoint: {{ path: \"s3://shop/kept\", options: {{ {options}{more} }} }}\n"
    )
}

#[test]
fn a_bucket_for_checkpoints_is_checked_offline_and_reached_when_that_is_asked_for() {
    let at = silent();
    let folder = Folder::with(&[("a.yaml", &kept(&at, "")), ("b.yaml", &kept(&at, ", regoin: eu-1"))]);
    assert!(folder.bourn(&["validate", "a.yaml"]).quietly().starts_with("a.yaml: valid"));
    let plan = folder.bourn(&["plan", "a.yaml"]).quietly();
    assert!(
        plan.contains("checkpoints in s3://shop/kept/kept, the newest 3 stay") && !plan.contains("canary"),
        "{plan}"
    );
    let wrong = folder.bourn(&["validate", "b.yaml"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    assert!(wrong.err.contains("`regoin` is no option of S3") && wrong.err.contains("b.yaml:4:"), "{}", wrong.err);
    let asked = folder.bourn(&["validate", "a.yaml", "--connect"]);
    assert_eq!(asked.code, Some(2), "{}", asked.err);
    assert!(asked.err.contains("checkpoints: ") && asked.err.contains("a.yaml:4:"), "{}", asked.err);
    assert!(!asked.err.contains("canary"), "{}", asked.err);
}

#[test]
fn a_place_for_checkpoints_that_nobody_knows_is_told_with_the_way_out() {
    let spec = |checkpoint: &str| {
        format!("source: {{ generate: {{ rows: 1 }} }}\nsink: {{ stdout: {{}} }}\ncheckpoint: {{ {checkpoint} }}\n")
    };
    for (checkpoint, said, help) in [
        (
            "path: \"ftp://host/x\"",
            "`ftp://` is no place for checkpoints that is known",
            "a path is a folder, and URLs",
        ),
        ("lease: 20s", "`lease` is for checkpoints in a bucket", "say `path: s3://bucket/prefix`"),
        ("timeout: 0s", "in no time no checkpoint can be complete", "leave it out"),
        ("tolerated_timeouts: 1", "without `timeout` no checkpoint fails by it", "say `timeout: 10m`"),
        ("path: \"s3://b/k\", lease: 1s", "a lease of less than 2s can't be renewed in time", ""),
    ] {
        let folder = Folder::with(&[("a.yaml", &spec(checkpoint))]);
        let ended = folder.bourn(&["validate", "a.yaml"]);
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        assert!(
            ended.err.contains(said) && ended.err.contains(help) && ended.err.contains("a.yaml:3:"),
            "{}",
            ended.err
        );
    }
}
