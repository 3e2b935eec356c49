//! An example of every kind: a spec that can be loaded, as a test does with each of them; one file, because they are one list.

/// The example of a kind.
pub fn of(kind: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(name, _)| *name == kind).map(|(_, example)| *example)
}

const EXAMPLES: &[(&str, &str)] = &[
    (
        "filter",
        "source:
  file: { path: flights.parquet }
stages:
  - id: delayed
    filter: delay > 15 and origin = 'JFK'
sink:
  file: { path: out/delayed.jsonl }",
    ),
    (
        "map",
        "source:
  file: { path: flights.parquet }
stages:
  - id: shaped
    map: { keep: [origin, destination], hours: delay / 60.0 }
sink:
  stdout: {}",
    ),
    (
        "lookup",
        "source:
  file: { path: flights.parquet }
stages:
  - id: named
    lookup:
      database: airports.db
      query: select name, city from airports where code = ?1
      params: [\"${origin}\"]
      output: airport
sink:
  stdout: {}",
    ),
    (
        "sql",
        "source:
  file: { path: flights.parquet }
stages:
  - id: together
    batch: { rows: 8192 }
  - id: by_origin
    sql: select origin, count(*) as flights, max(delay) as worst from input group by origin
sink:
  stdout: {}",
    ),
    (
        "flatten",
        "source:
  file: { path: orders.jsonl }
stages:
  - id: items
    flatten: { list: items, index: line, structs: [items, customer] }
sink:
  stdout: {}",
    ),
    (
        "sample",
        "source:
  file: { path: events.parquet }
stages:
  - id: some_users
    sample: { fraction: 0.01, by: [user], seed: 7 }
sink:
  file: { path: out/sample.parquet }",
    ),
    (
        "count",
        "source:
  file: { path: visits.jsonl }
stages:
  - id: numbered
    count: { by: [user], as: visit }
  - id: first_three
    filter: visit <= 3
sink:
  file: { path: out/first.jsonl }
checkpoint: { every: 10s }",
    ),
    (
        "dedupe",
        "source:
  stdin: {}
stages:
  - id: together
    batch: { rows: 8192, within: 1s }
  - id: latest
    dedupe: { by: [id], keep: last }
sink:
  stdout: {}",
    ),
    (
        "redact",
        "source:
  file: { path: users.jsonl }
stages:
  - id: safe
    redact: { mask: [name], keep_last: { card: 4 }, hash: [email], clear: [notes] }
sink:
  file: { path: out/users.jsonl }",
    ),
    (
        "split",
        "source:
  file: { path: events.parquet }
stages:
  - id: small
    split: { rows: 100, bytes: 64KiB }
sink:
  stdout: {}",
    ),
    (
        "log",
        "# `BOURN_LOG=bourn_log=info bourn run …` shows the lines.
source:
  file: { path: flights.parquet }
stages:
  - id: seen
    log: { message: \"${origin} is ${delay} minutes late\", every: 1000 }
sink:
  blackhole: {}",
    ),
    (
        "route",
        "source:
  file: { path: flights.parquet }
stages:
  - id: by_delay
    route: { late: delay > 15, early: delay < 0 }
sinks:
  late: { from: by_delay.late, file: { path: out/late.jsonl } }
  early: { from: by_delay.early, file: { path: out/early.jsonl } }
  others: { from: by_delay, blackhole: {} }",
    ),
    (
        "union",
        "sources:
  old: { file: { path: old.jsonl } }
  new: { file: { path: new.jsonl } }
stages:
  - id: all
    from: [old, new]
    union: {}
sink:
  stdout: {}",
    ),
    (
        "batch",
        "source:
  stdin: {}
stages:
  - id: together
    batch: { rows: 1000, within: 500ms }
sink:
  stdout: {}",
    ),
    (
        "throttle",
        "source:
  generate: {}
stages:
  - id: slowly
    throttle: { rate: 10/s }
sink:
  stdout: {}",
    ),
    (
        "wait",
        "source:
  file: { path: orders.jsonl }
stages:
  - id: later
    wait: { duration: 5s }
sink:
  stdout: {}",
    ),
    (
        "merge",
        "source:
  file: { path: stock.jsonl }
stages:
  - id: stock
    merge: { of: [\"${berlin}\", \"${bern}\"], keys: { pieces: sum, shelves: append } }
sink:
  stdout: {}",
    ),
    (
        "set",
        "source:
  file: { path: users.jsonl }
stages:
  - id: greeted
    set: { value: { greeting: \"hello ${name}\" }, output: card }
sink:
  stdout: {}",
    ),
    (
        "http",
        "source:
  http:
    url: https://api.example.com/orders
    headers: { Authorization: \"Bearer abc\" }
    rows: /data
    pagination: { cursor: { from: /next, parameter: after } }
    every: 1m
    schema: { id: bigint, user: text, total: double }
stages:
  - id: looked_up
    http:
      url: https://api.example.com/users
      query: { name: \"${user}\" }
      limits: { in_flight: 8, rate: 100/s, timeout: 10s }
sink:
  http:
    url: https://hooks.example.com/orders
    batch: { rows: 500 }",
    ),
    (
        "http_server",
        "# `curl -d '{\"id\":1,\"name\":\"a\"}' http://127.0.0.1:8080/events` is answered when the row is safe.
source:
  http_server:
    listen: 127.0.0.1:8080
    path: /events
    schema: { id: bigint, name: text }
sink:
  file: { path: out/events.jsonl }",
    ),
    (
        "sse",
        "source:
  sse:
    url: https://stream.example.com/changes
    schema: { id: bigint, title: text }
sink:
  stdout: {}",
    ),
    (
        "websocket",
        "source:
  websocket:
    url: wss://stream.example.com/trades
    subscribe: [\"{\\\"topic\\\":\\\"trades\\\"}\"]
    schema: { id: bigint, price: double }
sink:
  websocket: { url: \"wss://other.example.com/in\" }",
    ),
    (
        "process",
        "source:
  file: { path: words.jsonl }
stages:
  - id: counted
    process: { command: [grep, -c, --, \"${word}\", words.txt] }
  - id: scored
    # One program for all rows: it reads a line of JSON for each, and writes a line of JSON for each, in order.
    process: { command: [python3, score.py], mode: stream, output: score }
sink:
  stdout: {}",
    ),
    (
        "chunk",
        "source:
  file: { path: pages.jsonl }
stages:
  - id: pieces
    chunk: { column: text, size: 1000, overlap: 100, syntax: markdown }
sink:
  stdout: {}",
    ),
    (
        "embed",
        "# `bourn run --mock` makes vectors of the words, without a key.
source:
  file: { path: texts.jsonl }
stages:
  - id: vectors
    embed: { text: \"${text}\", model: text-embedding-3-small, dimensions: 1536 }
sink:
  file: { path: vectors.parquet }",
    ),
    (
        "model",
        "# `bourn run --mock` answers with a mock model.
source:
  file: { path: texts.jsonl }
stages:
  - id: summary
    model: { model: sonnet, prompt: \"Summarise in one sentence: ${text}\", max_tokens: 100 }
sink:
  stdout: {}",
    ),
    (
        "file",
        "sources:
  flights:
    file: { path: \"data/flights-*.parquet\" }
  airports:
    file:
      path: data/airports.csv
      csv: { delimiter: \";\", nulls: [\"\", NA] }
      schema: { code: text, name: text, height: double }
  log:
    file: { path: \"log/*.jsonl\", follow: true, schema: { at: timestamp, text: text } }
sinks:
  report:
    from: flights
    file: { path: out/report.jsonl.zst }
  by_origin:
    from: flights
    file: { path: out/flights, format: parquet, partition_by: [origin], rotate: { rows: 1000000 } }
  copy:
    from: airports
    file: { path: out/airports.tsv }
  seen:
    from: log
    stdout: {}",
    ),
    (
        "object_store",
        "# Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or stand in `options` as `${env.NAME}`.
source:
  object_store: { url: \"s3://flights/2024/*.parquet\" }
sink:
  object_store:
    url: s3://reports/2024/flights.jsonl
    options: { endpoint: \"https://s3.example.com\", region: eu-central-1 }
    if_exists: fail",
    ),
    (
        "stdin",
        "source:
  stdin: { format: csv, csv: { delimiter: \";\" } }
sink:
  console: {}",
    ),
    (
        "stdout",
        "source:
  generate: { rows: 10 }
sink:
  stdout: {}",
    ),
    (
        "console",
        "source:
  generate: { rows: 100 }
sink:
  console: { limit: 10 }",
    ),
    (
        "blackhole",
        "source:
  generate: { rows: 1000000 }
sink:
  blackhole: {}",
    ),
    (
        "memory",
        "source:
  memory: { rows: [ { id: 1, name: a }, { id: 2, name: b } ] }
sink:
  console: {}",
    ),
    (
        "generate",
        "source:
  generate:
    rows: 1000
    rate: 100/s
    columns: { id: n, name: \"'user ' || (n % 10)\" }
sink:
  stdout: {}",
    ),
    (
        "nexmark",
        "source:
  nexmark: { events: 1000000, rate: 50000/s, seed: 1 }
sink:
  blackhole: {}",
    ),
    #[cfg(feature = "sqlite")]
    (
        "sqlite",
        "source:
  sqlite: { path: shop.db, query: \"select id, total, paid_at from orders where paid\", cursor: id }
sink:
  sqlite: { path: out.db, table: paid, mode: upsert, key: [id], create: true }",
    ),
    #[cfg(feature = "postgres")]
    (
        "postgres",
        "# The password comes from the environment: `url: ${env.DATABASE_URL}` works too.
source:
  postgres: { url: \"postgres://reader@127.0.0.1:5432/shop\", table: orders, every: 5s }
sink:
  postgres:
    url: \"postgres://writer@127.0.0.1:5432/warehouse\"
    table: public.orders
    mode: upsert
    key: [id]
    create: true",
    ),
    #[cfg(feature = "nats")]
    (
        "nats",
        "source:
  nats:
    servers: \"nats://127.0.0.1:4222\"
    stream: ORDERS
    consumer: bourn
    schema: { id: bigint, region: text, total: double }
    metadata: { sequence: sequence, time: received }
sink:
  nats: { servers: \"nats://127.0.0.1:4222\", subject: \"sorted.${region}\", id: \"${id}\" }",
    ),
];

#[cfg(test)]
mod tests {
    use bourn_engine::env::Env;
    use bourn_engine::spec::load;

    use super::*;
    use crate::prepare::registry;

    #[test]
    fn every_kind_has_an_example() {
        let registry = registry();
        let kinds = registry.stages().keys().chain(registry.connectors().keys());
        let without: Vec<_> = kinds.filter(|kind| of(kind).is_none()).collect();
        assert!(without.is_empty(), "no example of {without:?}");
    }

    #[test]
    fn every_example_can_be_loaded_and_shows_its_kind() {
        let (registry, env) = (registry(), Env::system());
        for (kind, example) in EXAMPLES {
            let problems: Vec<_> =
                load(example, kind, &registry, &env).err().into_iter().flatten().map(|d| d.to_string()).collect();
            assert_eq!(problems, [""; 0]);
            assert!(example.contains(&format!("{kind}:")), "{kind}");
        }
    }
}
