//! Bad pipelines: each fault with its place and the way out.

use insta::assert_snapshot;

use super::told;

/// A pipeline that is good as far as it goes.
fn with(rest: &str) -> String {
    format!("source:\n  file: {{ path: a.jsonl }}\nsink:\n  blackhole: {{}}\n{rest}")
}

#[test]
fn keys() {
    assert_snapshot!(told(&with("stagse:\n  - filter: x\n")), @"spec.yaml:5:1 unknown key `stagse` (did you mean `stages`?)");
    assert_snapshot!(told(&with("limits: { memry: 1GiB }\n")), @"spec.yaml:5:11 unknown key `memry` (did you mean `memory`?)");
    assert_snapshot!(told(&with("limits: { memory: lots }\n")), @r#"spec.yaml:5:19 `lots` is no size such as `64KiB` or `512MiB`: couldn't parse "lots" into a ByteSize, cannot parse float from empty string"#);
    assert_snapshot!(told(&with("checkpoint: { every: often, path: x }\n")), @r"
    spec.yaml:5:22 `often` is no duration such as `200ms`, `5m` or `1d`: expected number at 0
    ");
    assert_snapshot!(told(&with("on_error: ignore\n")), @"spec.yaml:5:11 `ignore` is none of `fail`, `drop`, `dead_letter`");
    assert_snapshot!(told(&with("stages: filter\nname: [a]\n")), @r"
    spec.yaml:5:9 expected a list, found a text (a list stands in brackets: `[filter]`)
    spec.yaml:6:7 expected a text, found a list
    ");
    assert_snapshot!(told(&with("monitoring: { otlp: 'collector:4317' }\n")), @"spec.yaml:5:21 this is no URL of a collector (it begins with `http://` or `https://`, as in `http://127.0.0.1:4318`)");
    assert_snapshot!(told(&with("monitoring: { sample: 2, intervall: 1s, log_level: loud }\n")), @"
    spec.yaml:5:23 this must be at most 1
    spec.yaml:5:26 unknown key `intervall` (did you mean `interval`?)
    spec.yaml:5:52 `loud` is none of `off`, `error`, `warn`, `info`, `debug`, `trace`
    ");
    assert_snapshot!(told(&with("monitoring: { interval: 0s }\n")), @"spec.yaml:5:25 this is longer than no time");
    assert_snapshot!(told(&with("targets: { p95: 1s }\n")), @"spec.yaml:5:1 `targets` comes with a later version of Bourn (remove it for now)");
}

#[test]
fn rules_of_alerts() {
    let rule = |rest: &str| {
        with(&format!("monitoring:\n  notify: [{{ webhook: 'http://h' }}]\n  alerts:\n    - {{ alert: A, {rest} }}\n"))
    };
    let good = "expr: '.stages.say.rows_in / .stages.say.rows_out > 0.5 and (.runs | .failed > 0)', window: 10m, for: 1m, repeat: 1h, labels: { severity: page }";
    assert_eq!(told(&rule(good)), "");
    assert_snapshot!(told(&rule("expr: '.runs.faild > 1 or .rums.x == 1'")), @"
    spec.yaml:8:32 `runs` has no `faild` (did you mean `failed`?)
    spec.yaml:8:46 there are no figures `rums` (did you mean `runs`?)
    ");
    assert_snapshot!(told(&rule("expr: '.stages.say.rows > 1'")), @"spec.yaml:8:38 `stages` has no `rows` (did you mean `rows_in`?)");
    assert_snapshot!(told(&rule("expr: '.runs.failed'")), @"spec.yaml:8:25 this is neither true nor false: 1.0");
    assert_snapshot!(told(&rule("expr: '.runs.failed > '")), @"spec.yaml:8:40 `.runs.failed >` is no jq: term expected");
    assert_snapshot!(told(&rule("expr: '.runs.failed > nope(1)'")), @"spec.yaml:8:41 `.runs.failed > nope(1)` has no filter `nope` to use");
    assert_snapshot!(told(&rule("expr: 'true', window: 0s, repeat: 0s, labels: { job: x }")), @"
    spec.yaml:8:41 this is longer than no time
    spec.yaml:8:53 this is longer than no time
    spec.yaml:8:65 these labels are given by themselves (`alertname` is the name of the alert, `job` that of the workflow or pipeline)
    ");
    assert_snapshot!(told(&rule("expr: 'true', for: long")), @"spec.yaml:8:38 `long` is no duration such as `200ms`, `5m` or `1d`: expected number at 0");
    assert_snapshot!(told(&rule("expr: 'true', notify: [{ webhok: x }, {}, { slack: x }, { exec: [] }, { exec: [a], headers: { b: c } }, { webhook: 'http://h', headers: { 'a b': c } }]")), @"spec.yaml:8:44 unknown key `webhok` (did you mean `webhook`?)");
    assert_snapshot!(told(&rule("expr: 'true', notify: [{}, { slack: x }, { exec: [] }, { exec: [a], headers: { b: c } }, { webhook: 'http://h', headers: { 'a b': c } }]")), @"
    spec.yaml:8:42 a receiver is one of `webhook`, `slack` and `exec` (for example `{ webhook: 'http://127.0.0.1:9093/hook' }`)
    spec.yaml:8:55 this is no URL of a webhook (it begins with `http://` or `https://`)
    spec.yaml:8:68 this names no program (for example `[notify-send, Bourn]`)
    spec.yaml:8:96 headers are those of a `webhook`
    spec.yaml:8:149 `a b` can't be sent as a header
    ");
    assert_snapshot!(told(&with("monitoring:\n  alerts:\n    - { alert: A, expr: 'true' }\n    - { alert: A, expr: 'true', notify: [{ exec: [a] }] }\n")), @"
    spec.yaml:7:7 nobody is told of this alert (`notify: [{ webhook: URL }]` here, or below `monitoring` for all rules)
    spec.yaml:8:16 there are two alerts `A` (each has a name of its own)
    ");
}

#[test]
fn a_connector_that_is_not_in_this_build() {
    let registry = super::kinds::registry().absent("nats", "nats").absent("file", "never");
    let told = |text: &str| {
        let problems = super::super::load(text, "spec.yaml", &registry, &crate::env::Env::new(super::Variables));
        problems.err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(told("source:\n  nats: { url: x }\nsink:\n  blackhole: {}\n"), @"spec.yaml:2:3 `nats` is not in this build (build with `--features nats`)");
    assert_snapshot!(told("source:\n  file: { path: a }\nstages:\n  - nats: {}\nsink:\n  blackhole: {}\n"), @"spec.yaml:4:5 unknown kind of stage `nats` (there are filter, map, model, process, route, set, zip)");
    assert_eq!(told("source:\n  file: { path: a }\nsink:\n  blackhole: {}\n"), "");
}

#[test]
fn kinds_of_stages() {
    assert_snapshot!(told(&with("stages:\n  - fliter: x > 1\n")), @"spec.yaml:6:5 unknown kind of stage `fliter` (did you mean `filter`?)");
    assert_snapshot!(told(&with("stages:\n  - id: a\n")), @"spec.yaml:6:5 this stage says no kind (for example `filter: amount > 10`)");
    assert_snapshot!(told(&with("stages:\n  - filter: x\n    map: { a: b }\n")), @"spec.yaml:7:5 one stage is one kind: `filter` or `map` (write two stages)");
    assert_snapshot!(told(&with("stages:\n  - filter: x\n    form: a\n")), @"spec.yaml:7:5 unknown key `form` (did you mean `from`?)");
    assert_snapshot!(told(&with("stages:\n  - window: { tumble: 1h }\n    by: [a]\n    aggregate: { n: count(*) }\n")), @"spec.yaml:6:5 `window` comes with a later version of Bourn (remove it for now)");
    assert_snapshot!(told("source: { file: in.jsonl }\nsink: blackhole\n"), @"
    spec.yaml:1:17 expected a map, found a text (its keys: `path`, `format`, `every`, `rate`)
    spec.yaml:2:7 expected a map, found a text (`blackhole: {}`, with what `bourn list blackhole` shows between the braces)
    ");
    assert_snapshot!(told(&with("stages:\n  - filter\n")), @"spec.yaml:6:5 expected a map, found a text (for example `filter: amount > 10`)");
    assert_snapshot!(told(&with("stages:\n  - filter: [1]\n    lanes: 0\n")), @r"
    spec.yaml:6:13 expected a text, found a list
    spec.yaml:7:12 this must be at least 1
    ");
    assert_snapshot!(told(&with("stages:\n  - map: { a: 7 }\n    on_error: retry\n    lanes: many\n")), @r"
    spec.yaml:6:15 expected a text, found a number
    spec.yaml:7:15 `retry` is none of `fail`, `drop`, `dead_letter`
    spec.yaml:8:12 expected a whole number, found a text
    ");
}

#[test]
fn connectors() {
    assert_snapshot!(told("source: { file: {} }\nsink: { blackhole: {} }"), @"spec.yaml:1:17 the key `path` is missing");
    assert_snapshot!(told("source: { file: { path: a, formt: json } }\nsink: { blackhole: {} }"), @"spec.yaml:1:28 unknown key `formt` (did you mean `format`?)");
    assert_snapshot!(told("source: { file: { path: a, format: parket } }\nsink: { blackhole: {} }"), @"spec.yaml:1:36 `parket` is none of `json`, `parquet` (did you mean `parquet`?)");
    assert_snapshot!(told("source: { file: { path: a, every: soon } }\nsink: { blackhole: {} }"), @"spec.yaml:1:35 `soon` is no duration such as `200ms`, `5m` or `1d`: expected number at 0");
    assert_snapshot!(told("source: { blackhole: {} }\nsink: { blakhole: {} }"), @r"
    spec.yaml:1:11 `blackhole` can't be a source
    spec.yaml:2:9 unknown kind of sink `blakhole` (did you mean `blackhole`?)
    ");
    assert_snapshot!(told("source: { file: { path: a }, time: { column: t } }\nsink: { blackhole: {} }"), @"spec.yaml:1:30 `time` comes with a later version of Bourn (remove it for now)");
    assert_snapshot!(told("source: { file: { path: 1 } }\nsink: { blackhole: { x: 1 } }"), @r"
    spec.yaml:1:25 expected a text, found a number
    spec.yaml:2:20 nothing may be said here
    ");
}

#[test]
fn edges() {
    assert_snapshot!(told(&with("stages:\n  - { id: keep, filter: x, from: sorce }\n")), @"spec.yaml:6:34 there is no source or stage `sorce` (did you mean `source`?)");
    assert_snapshot!(told(&with("stages:\n  - { id: a, route: { big: x } }\n  - { id: b, filter: x, from: a.bigg }\n")), @"spec.yaml:7:31 there is no port of `a` `bigg` (did you mean `big`?)");
    assert_snapshot!(told(&with("stages:\n  - { id: a, filter: x, from: c }\n  - { id: b, filter: x }\n  - { id: c, filter: x }\n")), @"spec.yaml:6:31 cycle: a -> b -> c -> a (each can start only after the one before it; take one away)");
    assert_snapshot!(told(&with("stages:\n  - { id: a, filter: x }\n  - { id: a, filter: x }\n")), @"spec.yaml:7:7 the id `a` is here twice (give each an `id` of its own)");
    assert_snapshot!(told(&with("stages:\n  - filter: x\n  - filter: y\n")), @"spec.yaml:7:5 the id `filter` is here twice (give each an `id` of its own)");
    assert_snapshot!(told(&with("stages:\n  - { id: a, filter: x, from: sink }\n")), @"spec.yaml:6:31 `sink` is a sink: nothing can be read from it");
    assert_snapshot!(told(&with("stages:\n  - { id: a.b, filter: x }\n")), @"spec.yaml:6:7 `a.b` can't be an id (an id is at most 64 letters, digits, `_` and `-`, begins with a letter, and not with `_bourn_`)");
    assert_snapshot!(told(&with("stages:\n  - { id: a, zip: {} }\n  - { id: b, zip: {}, from: source }\n")), @r"
    spec.yaml:6:5 `a` reads two: which? (say `from: [left, right]`)
    spec.yaml:7:29 `b` reads two, and 1 is said here
    ");
    assert_snapshot!(told(&with("stages:\n  - { id: a, filter: x, from: source }\n  - { id: b, filter: x, from: source }\n")), @"spec.yaml:6:7 nothing reads `a`: its rows would be lost (add a sink with `from: a`)");
    let two = "sources: { a: { file: { path: a } }, b: { file: { path: b } } }\n";
    assert_snapshot!(told(&format!("{two}sink: {{ blackhole: {{}} }}")), @"spec.yaml:2:7 which source does `sink` read? (say `from: [a, b]`, or one of them)");
    assert_snapshot!(told(&format!("{two}sink: {{ blackhole: {{}}, from: [] }}")), @"spec.yaml:2:30 `sink` reads nothing");
}

#[test]
fn ends_and_policies() {
    assert_snapshot!(told("source: { file: { path: a } }\n"), @"spec.yaml:1:1 there is nothing to do: no sink (add `sinks: { out: { file: … } }`, or `sink: { blackhole: {} }`)");
    assert_snapshot!(told("type: pipeline\nsink: { blackhole: {} }\n"), @"spec.yaml:1:7 a pipeline needs `sources`, and there are none");
    assert_snapshot!(told("sources: {}\nsink: { blackhole: {} }\n"), @"spec.yaml:1:1 there is nothing to do: no source (add `sources: { in: { file: … } }`)");
    assert_snapshot!(told(&with("on_error: dead_letter\n")), @"spec.yaml:5:11 there are no `dead_letters` to send to (add `dead_letters: { file: { path: rejected.jsonl } }`)");
    assert_snapshot!(told(&with("dead_letters: { blackhole: {} }\n")), @"spec.yaml:5:1 nothing is sent to these dead letters (add `on_error: dead_letter` to the spec or a stage)");
    assert_snapshot!(told(&with("dead_letters: { blackhole: {}, from: source }\non_error: dead_letter\n")), @"spec.yaml:5:32 unknown key `from` (known: `lanes`, `fallback`, `on_full`)");
}

#[test]
fn the_environment() {
    assert_snapshot!(told("source: { file: { path: 'a/${env.NOWHERE}' } }\nsink: { blackhole: {} }"), @"spec.yaml:1:28 there is no environment variable `NOWHERE` (set it: `export NOWHERE=…`, or say what holds without it: `${env.NOWHERE:-…}`)");
    assert_snapshot!(told("source: { file: { path: '${secret.KEY}' } }\nsink: { blackhole: {} }"), @"spec.yaml:1:26 there is no secret `KEY` (add `secrets: { KEY: { env: KEY } }`)");
    assert_snapshot!(told("source: { file: { path: '${env.TEMPLATE}' } }\nsink: { blackhole: {} }"), @"spec.yaml:1:26 the environment variable `TEMPLATE` has `${` in it");
    assert_snapshot!(told("source: { file: { path: a, every: '${env.TOKEN}' } }\nsink: { blackhole: {} }"), @"spec.yaml:1:35 `${env.TOKEN}` is no duration such as `200ms`, `5m` or `1d`: expected number at 0");
}

#[test]
fn a_secret_that_could_not_be_hidden() {
    let told = |name: &str| {
        told(&format!("source: {{ file: {{ path: a }} }}\nsink: {{ blackhole: {{}} }}\nsecrets: [{name}]\n"))
    };
    assert_snapshot!(told("SHORT"), @"spec.yaml:3:11 the secret `SHORT` is shorter than 4 bytes, and could not be hidden (a value that may be shown comes from the environment: `${env.NAME}`)");
}

#[test]
fn no_spec_at_all() {
    assert_snapshot!(told(""), @"spec.yaml:1:1 a spec is a map, and this is nothing (a pipeline has `sources`, `stages` and `sinks`; a workflow has `steps`)");
    assert_snapshot!(told("- a\n- b"), @"spec.yaml:1:1 a spec is a map, and this is a list (a pipeline has `sources`, `stages` and `sinks`; a workflow has `steps`)");
    assert_snapshot!(told("name: x\n"), @"spec.yaml:1:1 there is nothing to do: neither `sources` nor `steps` (a pipeline has `sources`, `stages` and `sinks`; a workflow has `steps`)");
    assert_snapshot!(told("stps:\n  - id: a\n"), @r"
    spec.yaml:1:1 unknown key `stps` (did you mean `steps`?)
    spec.yaml:1:1 there is nothing to do: neither `sources` nor `steps` (a pipeline has `sources`, `stages` and `sinks`; a workflow has `steps`)
    ");
    assert_snapshot!(told("type: pipline\nsteps: []\n"), @r"
    spec.yaml:1:7 `pipline` is none of `auto`, `chain`, `flow`, `swarm`, `pipeline`, `hybrid` (did you mean `pipeline`?)
    spec.yaml:2:8 too few here: at least 1 must be said
    ");
    assert_snapshot!(told("a: [1\n"), @"spec.yaml:1:4 unclosed bracket '['");
    assert_snapshot!(told("a: 1\nb:\n  c: 2\n  c: 3\n"), @"spec.yaml:4:3 the key `c` is here twice (remove one of them, or give it another name)");
}

#[test]
fn every_problem_is_told_in_one_go_in_the_order_of_the_text() {
    let spec = "name: 7\nsources:\n  in: { fiel: { path: a } }\nstages:\n  - id: a\n    fliter: x\n  - id: a\n    map: { b: 1 }\n    \
                from: nowhere\nsinks:\n  out: { file: { pth: x } }\non_error: dead_letter\nzzz: 1\n";
    assert_snapshot!(told(spec), @r"
    spec.yaml:1:7 expected a text, found a number
    spec.yaml:3:9 unknown kind of source `fiel` (did you mean `file`?)
    spec.yaml:6:5 unknown kind of stage `fliter` (did you mean `filter`?)
    spec.yaml:7:5 the id `a` is here twice (give each an `id` of its own)
    spec.yaml:8:15 expected a text, found a number
    spec.yaml:9:11 there is no source or stage `nowhere` (there is: in, a)
    spec.yaml:11:16 the key `path` is missing
    spec.yaml:11:18 unknown key `pth` (did you mean `path`?)
    spec.yaml:12:11 there are no `dead_letters` to send to (add `dead_letters: { file: { path: rejected.jsonl } }`)
    spec.yaml:13:1 unknown key `zzz` (known: `name`, `description`, `version`, `type`, `source`, `sources`, `stages`, `sink`, `sinks`, `on_error`, `tolerated_failure_percentage`, `dead_letters`, `checkpoint`, `delivery`, `limits`, `budget`, `monitoring`, `secrets`, `templates`, `rate_limits`, `retries`, `tests`)
    ");
}
