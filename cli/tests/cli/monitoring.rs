//! `--monitoring`: what a collector receives of runs and pipelines, and that it can't harm them.

use insta::assert_snapshot;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::collector::{Collector, Manner, of, plain};
use crate::mock_llm::Served;
use crate::support::{Ended, Folder};

const TREE: &str = "\
name: tree
steps:
  - { id: say, model: { prompt: 'say ${input.word}', model: sonnet, max_tokens: 50 } }
  - id: each
    for_each: { in: '${input.list}', as: x }
    process: { command: [echo, '${x}'] }
  - id: inner
    workflow:
      input: { n: '${say.results}' }
      spec: { steps: [ { id: first, set: '${input.n}' }, { id: second, set: 'so ${first.results}' } ] }
  - { id: never, if: '${ .input.word == null }', set: 1 }
";

/// Runs it with this collector, and this said over the spec.
fn monitored(folder: &Folder, collector: &Collector, args: &[&str]) -> Ended {
    let to = format!("otlp={}", collector.url);
    folder.bourn(&[args, &["--monitoring", &to]].concat())
}

const INPUT: &str = r#"{"word": "something-that-was-asked", "list": ["p", "q"]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_a_tree_of_spans_with_lists_workflows_and_models_where_they_belong() {
    let (collector, folder) = (Collector::start().await, Folder::with(&[("tree.yaml", TREE)]));
    let args = ["run", "tree.yaml", "--mock", "--id", "r", "--input", INPUT, "-o", "json"];
    let ended = monitored(&folder, &collector, &args);
    let document: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{}", ended.err));
    assert_eq!((&document["status"], ended.err.as_str()), (&"COMPLETED".into(), ""));
    let came = collector.came();
    assert_snapshot!(came.tree(&[], 0), @"
    invoke_workflow tree
      step each (each)
        step each (each[0])
        step each (each[1])
      step inner (inner)
        step first (inner/first)
        step second (inner/second)
      step never (never)
      step say (say)
        chat sonnet
    ");
    let trace = &came.spans[0].trace_id;
    assert!(came.spans.iter().all(|span| span.trace_id == *trace && span.status.is_none()));
    let root = came.span("invoke_workflow tree");
    let said = of(root);
    assert_eq!(said["gen_ai.operation.name"], "invoke_workflow");
    assert_eq!(
        (&said["gen_ai.workflow.name"], &said["bourn.run.id"], &said["bourn.run.status"]),
        (&"tree".into(), &"r".into(), &"COMPLETED".into())
    );
    for span in &came.spans {
        let (began, ended) = (span.start_time_unix_nano, span.end_time_unix_nano);
        assert!(root.start_time_unix_nano <= began && began <= ended && ended <= root.end_time_unix_nano, "{span:?}");
    }
    let chat = came.span("chat sonnet");
    assert_eq!(chat.kind, i32::from(SpanKind::Client));
    let usage = &document["execution_metrics"]["steps"]["say"]["usage"];
    let expected = json!({
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "mock", "gen_ai.request.model": "sonnet",
        "gen_ai.request.max_tokens": 50, "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": usage["input_tokens"], "gen_ai.usage.output_tokens": usage["output_tokens"],
        "bourn.stage": "say", "bourn.attempt": 1,
    });
    assert_eq!(json!(of(chat)), expected);
    let each = of(came.span("step second"));
    assert_eq!((&each["bourn.step"], &each["bourn.step.status"]), (&"inner/second".into(), &"COMPLETED".into()));
    assert_eq!(of(came.span("step never"))["bourn.step.status"], "SKIPPED");
    assert_eq!(
        (&came.resource["service.name"], &came.resource["telemetry.sdk.language"]),
        (&"bourn".into(), &"rust".into())
    );
    let texts = String::from_utf8_lossy(&came.bytes).into_owned();
    assert!(!texts.contains("something-that-was-asked") && !texts.contains("mock answer"), "payloads were sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_are_sent_where_the_spec_says_so_and_sampling_decides_by_the_run() {
    let (collector, folder) = (Collector::start().await, Folder::with(&[]));
    let spec = format!("{TREE}monitoring: {{ otlp: '{}', payloads: true, sample: 0.5 }}\n", collector.url);
    std::fs::write(folder.path("tree.yaml"), spec).unwrap();
    std::fs::write(folder.path("in.jsonl"), format!("{INPUT}\n").repeat(60)).unwrap();
    assert_eq!(folder.bourn(&["run", "tree.yaml", "--mock", "--inputs", "in.jsonl", "-q"]).code, Some(0));
    let came = collector.came();
    let roots: Vec<_> = came.spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    assert!((10..50).contains(&roots.len()), "{}", roots.len());
    // Whole traces, or nothing of them.
    assert_eq!(came.spans.len(), roots.len() * 10);
    assert_eq!(
        serde_json::from_str::<Value>(of(roots[0])["bourn.run.input"].as_str().unwrap()).unwrap(),
        serde_json::from_str::<Value>(INPUT).unwrap()
    );
    let chat = of(came.spans.iter().find(|span| span.name == "chat sonnet").unwrap());
    let messages = |key: &str| serde_json::from_str::<Value>(chat[key].as_str().unwrap()).unwrap();
    assert_eq!(messages("gen_ai.input.messages")[0]["parts"][0]["content"], "say something-that-was-asked");
    assert_eq!(messages("gen_ai.output.messages")[0]["role"], "assistant");
    let step = of(came.spans.iter().find(|span| span.name == "step second").unwrap());
    assert!(step["bourn.step.results"].as_str().unwrap().contains("so mock answer"), "{step:?}");
    let before = came.spans.len();
    drop(came);
    let none =
        monitored(&folder, &collector, &["run", "tree.yaml", "--mock", "--input", INPUT, "--monitoring", "sample=0"]);
    assert_eq!((none.code, collector.came().spans.len()), (Some(0), before));
    // What is not sampled counts all the same.
    assert_eq!(collector.came().histogram("gen_ai.client.operation.duration")[0].1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_refuses_is_an_attempt_on_the_step_and_a_span_of_its_own() {
    let server = Served::with("rules:\n  - match: { text: question }\n    fault: { status: 529 }\n    times: 1\n", &[]);
    let spec = "name: asks\nsteps:\n  - { id: ask, model: { prompt: 'a question', model: gpt-5, temperature: 0.5 }, \
                retry: { max_attempts: 3, initial_interval: 1ms } }\n";
    let (collector, folder) = (Collector::start().await, Folder::with(&[("w.yaml", spec)]));
    let mut command = folder.command(&["run", "w.yaml", "--input", "{}"]);
    command.env("OPENAI_BASE_URL", format!("{}/v1", server.address)).env("OPENAI_API_KEY", "any");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url).env("OTEL_SERVICE_NAME", "reviews");
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b");
    let ended = crate::support::ended(command.output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let came = collector.came();
    assert_eq!(
        (&came.resource["service.name"], &came.headers[0]["x-tenant"]),
        (&"reviews".into(), &"a b".parse().unwrap())
    );
    let step = came.span("step ask");
    assert_eq!(
        (of(step)["bourn.step.attempts"].clone(), step.events.len(), step.status.is_none()),
        (json!(2), 1, true)
    );
    let event = plain(&step.events[0].attributes);
    assert_eq!(
        (step.events[0].name.as_str(), &event["bourn.attempt"], &event["error.type"]),
        ("attempt failed", &json!(1), &json!("transient"))
    );
    assert!(step.start_time_unix_nano <= step.events[0].time_unix_nano, "{step:?}");
    let mut chats: Vec<_> = came.spans.iter().filter(|span| span.name == "chat gpt-5").collect();
    chats.sort_by_key(|span| span.start_time_unix_nano);
    let [failed, answered] = chats[..] else { panic!("{chats:?}") };
    assert!(chats.iter().all(|span| span.parent_span_id == step.span_id));
    assert_eq!((failed.status.as_ref().unwrap().code, &of(failed)["error.type"]), (2, &json!("transient")));
    let said = of(answered);
    assert_eq!((&said["gen_ai.provider.name"], &said["server.address"]), (&json!("openai"), &json!("127.0.0.1")));
    assert_eq!((&said["gen_ai.request.temperature"], &said["gen_ai.response.model"]), (&json!(0.5), &json!("gpt-5")));
    assert_eq!((&said["gen_ai.response.finish_reasons"], &said["bourn.attempt"]), (&json!(["stop"]), &json!(2)));
    assert!(server.address.ends_with(&format!(":{}", said["server.port"])), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_is_an_error_with_its_class_and_so_is_its_run() {
    let spec = "name: fails\nsteps:\n  - { id: a, process: { command: [sh, -c, 'echo no luck >&2; exit 3'] }, retry: { max_attempts: 1 } }\n  \
                - { id: b, set: '${a.results}' }\n";
    let (collector, folder) = (Collector::start().await, Folder::with(&[("w.yaml", spec)]));
    for persistence in ["true", "false"] {
        let spec = format!("{spec}optimization: {{ state_persistence: {persistence} }}\n");
        std::fs::write(folder.path("w.yaml"), spec).unwrap();
        collector.came().spans.clear();
        let ended = monitored(&folder, &collector, &["run", "w.yaml", "--input", "{}"]);
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        let came = collector.came();
        assert_eq!(came.tree(&[], 0), "invoke_workflow fails\n  step a (a)\n  step b (b)\n");
        for name in ["invoke_workflow fails", "step a"] {
            let span = came.span(name);
            let status = span.status.as_ref().unwrap();
            assert!(status.code == 2 && status.message.contains("no luck"), "{span:?}");
            assert_eq!(of(span)["error.type"], "validation");
        }
        assert_eq!(of(came.span("invoke_workflow fails"))["bourn.run.status"], "FAILED");
        assert!(came.span("step b").status.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_another_process_goes_on_with_is_the_same_trace() {
    let spec = "name: dies\nsteps:\n  - { id: a, process: { command: [echo, a] } }\n  \
                - { id: b, process: { command: [sh, -c, 'while ! test -e go; do sleep 0.01; done; test -e gone && echo b && exit; touch gone; kill -9 $PPID', '${a.results}'] } }\n";
    let (collector, folder) = (Collector::start().await, Folder::with(&[("w.yaml", spec)]));
    let to = format!("otlp={}", collector.url);
    let mut child =
        folder.command(&["run", "w.yaml", "--id", "r", "--input", "{}", "--monitoring", &to]).spawn().unwrap();
    collector.has("step a").await;
    std::fs::write(folder.path("go"), "").unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(collector.came().spans.len(), 1);
    let mut command = folder.command(&["runs", "resume", "r", "-o", "json"]);
    let ended = crate::support::ended(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url).output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let came = collector.came();
    assert_snapshot!(came.tree(&[], 0), @"
    invoke_workflow dies
      step a (a)
      step b (b)
    ");
    assert!(came.spans.iter().all(|span| span.trace_id == came.spans[0].trace_id));
    let (root, first) = (came.span("invoke_workflow dies"), came.span("step a"));
    assert!(root.start_time_unix_nano <= first.start_time_unix_nano, "{root:?}");
}

/// Signs that every encoding writes differently.
const CANARY: &str = "c4nary/\"sec+ret&=é";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_anything_that_is_sent_however_much_that_is() {
    let spec = "name: secrets\nsecrets: { TOKEN: { env: MY_TOKEN } }\nsteps:\n  \
                - { id: ask, model: { prompt: 'with ${secret.TOKEN} please', model: sonnet, system: '${secret.TOKEN}' } }\n  \
                - { id: made, set: '${ask.results}' }\n  \
                - { id: lost, process: { command: [sh, -c, 'echo \"$0\" >&2; exit 1', '${secret.TOKEN}'] }, retry: { max_attempts: 2, initial_interval: 1ms } }\n";
    let (collector, folder) = (Collector::start().await, Folder::with(&[("w.yaml", spec)]));
    let to = format!("otlp={}", collector.url);
    let mut command = folder.command(&[
        "run",
        "w.yaml",
        "--mock",
        "--input",
        "{}",
        "--monitoring",
        &to,
        "--monitoring",
        "payloads=true",
    ]);
    let ended = crate::support::ended(command.env("MY_TOKEN", CANARY).output().unwrap());
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let came = collector.came();
    let chat = of(came.span("chat sonnet"));
    assert!(chat["gen_ai.input.messages"].as_str().unwrap().contains("with ${secret.TOKEN} please"), "{chat:?}");
    assert!(came.span("step lost").status.as_ref().unwrap().message.contains("${secret.TOKEN}"));
    let texts = String::from_utf8_lossy(&came.bytes).into_owned();
    for form in [CANARY, "c4nary", "YzRuYXJ5", "M0bmFyeS", "jNG5hcnkv", "63346e617279"] {
        assert!(!texts.contains(form), "`{form}` was sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_refuses_or_hangs_costs_the_run_a_warning() {
    let folder = Folder::with(&[("tree.yaml", TREE)]);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (refuses, busy, hangs) = (
        Collector::that(Manner::Refuses(400)).await,
        Collector::that(Manner::Refuses(503)).await,
        Collector::that(Manner::Hangs).await,
    );
    let urls = [format!("http://{gone}"), refuses.url, busy.url, hangs.url];
    let whys = ["error sending", "400 Bad Request", "503 Service Unavailable", "took longer than 2s"];
    for (url, why) in urls.iter().zip(whys) {
        let to = format!("otlp={url}");
        let ended = folder.bourn(&["run", "tree.yaml", "--mock", "--input", INPUT, "-o", "json", "--monitoring", &to]);
        let document: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((ended.code, &document["status"]), (Some(0), &"COMPLETED".into()), "{}", ended.err);
        let told = ended.err;
        assert!(
            told.starts_with("warning: monitoring: 10 of 10 spans") && told.contains(url) && told.contains(why),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_sends_its_counters_and_what_its_models_are_asked() {
    let collector = Collector::start().await;
    let spec = format!(
        "name: asks\nmonitoring: {{ otlp: '{}', interval: 1h }}\nsource: {{ generate: {{ rows: 12, columns: {{ id: n }} }} }}\nstages:\n  \
         - {{ id: half, filter: id < 6 }}\n  - {{ id: say, model: {{ prompt: 'of ${{id}}', model: sonnet }} }}\nsink: {{ blackhole: {{}} }}\n",
        collector.url
    );
    let folder = Folder::with(&[("p.yaml", &spec)]);
    folder.bourn(&["run", "p.yaml", "--mock", "-q"]).quietly();
    let came = collector.came();
    assert_eq!(
        (came.total("bourn_stage_rows_in_total", "half"), came.total("bourn_stage_rows_out_total", "half")),
        (12, 6)
    );
    assert!(came.total("bourn_stage_input_tokens_total", "say") > 0);
    assert!(came.metrics.iter().any(|metric| metric.name == "bourn_stage_latency_seconds"));
    let tokens = came.histogram("gen_ai.client.token.usage");
    let of = |which: &str| tokens.iter().find(|(attributes, ..)| attributes["gen_ai.token.type"] == which).unwrap();
    let counted = |stage: &str| came.total(stage, "say") as f64;
    assert_eq!((of("input").1, of("input").2), (6, counted("bourn_stage_input_tokens_total")));
    assert_eq!((of("output").1, of("output").2), (6, counted("bourn_stage_output_tokens_total")));
    let [(attributes, count, _)] = &came.histogram("gen_ai.client.operation.duration")[..] else { panic!() };
    assert_eq!(
        (json!(attributes), *count),
        (
            json!({ "gen_ai.operation.name": "chat", "gen_ai.provider.name": "mock", "gen_ai.request.model": "sonnet" }),
            6
        )
    );
    assert_eq!(
        came.spans.iter().filter(|span| span.name == "chat sonnet" && span.parent_span_id.is_empty()).count(),
        6
    );
    // Each has a trace of its own.
    let mut traces: Vec<_> = came.spans.iter().map(|span| &span.trace_id).collect();
    traces.sort();
    traces.dedup();
    assert_eq!(traces.len(), 6);
}

#[tokio::test]
async fn what_can_not_be_monitored_is_refused_before_anything_runs() {
    let folder = Folder::with(&[
        ("tree.yaml", TREE),
        ("bad.yaml", &format!("{TREE}monitoring: {{ otlp: 'collector:4317', sample: 2 }}\n")),
    ]);
    let told = folder.bourn(&["run", "tree.yaml", "--mock", "--monitoring", "otlp=collector:4317"]).refused(2);
    assert!(told.contains("`otlp`: this is no URL of a collector"), "{told}");
    let told = folder.bourn(&["validate", "bad.yaml"]).refused(2);
    assert!(told.contains("this is no URL of a collector") || told.contains("at most 1"), "{told}");
    let mut command = folder.command(&["run", "tree.yaml", "--mock", "--input", INPUT]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317").env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let told = crate::support::ended(command.output().unwrap()).refused(2);
    assert!(told.contains("OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`"), "{told}");
    let told =
        folder.bourn(&["tap", "tree.yaml", "say", "--mock", "--monitoring", "otlp=http://127.0.0.1:1"]).refused(2);
    assert!(told.contains("--monitoring is for `bourn run`"), "{told}");
}

#[test]
fn logs_are_as_loud_as_the_spec_says_where_the_environment_does_not() {
    let spec = "name: asks\nmonitoring: { log_level: debug }\nsource: { generate: { rows: 1, columns: { id: n } } }\nstages:\n  \
                - { id: say, model: { prompt: 'of ${id}', model: gpt-5, effort: auto, base_url: 'http://127.0.0.1:1', limits: { retry: { max_attempts: 1 } } } }\nsink: { blackhole: {} }\n";
    let folder = Folder::with(&[("p.yaml", spec)]);
    let told = |level: Option<&str>| {
        let mut command = folder.command(&["run", "p.yaml", "-q"]);
        command.envs(level.map(|level| ("BOURN_LOG", level))).env("OPENAI_API_KEY", "any");
        crate::support::ended(command.output().unwrap()).err
    };
    let (said, overridden) = (told(None), told(Some("error")));
    assert!(said.contains("DEBUG") && said.contains("how hard this task looks"), "{said}");
    assert!(!overridden.contains("DEBUG"), "{overridden}");
}
