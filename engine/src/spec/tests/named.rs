//! What a spec gives a name: templates, shared limits, secrets, fallbacks, and what an edge does when it is full.

use insta::assert_snapshot;

use super::super::model::From;
use super::super::{Loaded, Pipeline, Request, Spec};
use super::{Variables, kinds, loaded, told};
use crate::api::OnFull;
use crate::env::{Env, Finished};
use crate::testing::simulation::Simulation;

fn pipeline(loaded: &Loaded) -> &Pipeline {
    let Spec::Pipeline(pipeline) = &loaded.spec else { panic!("no pipeline") };
    pipeline
}

/// A source, a sink, and these stages, which begin in line 3.
fn with(stages: &str, rest: &str) -> String {
    format!("source: {{ file: {{ path: a.jsonl }} }}\nstages:\n{stages}sink: {{ blackhole: {{}} }}\n{rest}")
}

const CLEAN: &str = "templates:
  clean:
    parameters: { min: { default: 3 }, column: ~ }
    stages:
      - filter: ${param.column} > ${param.min}
      - id: parts
        route: { big: '${param.column} > 100' }
      - id: out
        from: parts.big
        map: { value: '${param.column}' }
";

#[test]
fn a_template_is_expanded_into_stages_with_ids_of_their_own() {
    let stages = "  - id: a
    template: { clean: { column: x } }
  - { id: b, template: { clean: { column: y, min: 5 } }, from: a.parts, lanes: 2, on_full: drop }
  - { id: c, filter: z, from: [a, b.parts.big, b] }
";
    let loaded = loaded(&with(stages, CLEAN)).unwrap_or_else(|p| panic!("{p:?}"));
    let p = pipeline(&loaded);
    let text = |from: &From| from.port.iter().fold(from.id.clone(), |id, port| format!("{id}:{port}"));
    let shown: Vec<_> = p
        .stages
        .iter()
        .map(|s| {
            format!("{} <- {} {}", s.id, s.from.iter().map(text).collect::<Vec<_>>().join(","), s.config.0.describe())
        })
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    a.filter <- source "x > 3"
    a.parts <- a.filter {"big":"x > 100"}
    a.out <- a.parts:big {"value":"x"}
    b.filter <- a.parts "y > 5"
    b.parts <- b.filter {"big":"y > 100"}
    b.out <- b.parts:big {"value":"y"}
    c <- a.out,b.parts:big,b.out "z"
    "#);
    let lanes: Vec<_> = p.stages.iter().map(|s| s.lanes).collect();
    assert_eq!(lanes, [None, None, None, Some(2), Some(2), Some(2), None]);
    assert_eq!((&p.stages[3].on_full, &p.stages[4].on_full), (&OnFull::Drop, &OnFull::Block));
}

#[test]
fn templates_use_each_other_and_a_value_alone_keeps_its_type() {
    let templates = "templates:
  one: { parameters: { n: ~ }, stages: [ { id: s, zip: '${param.n}', from: [x.a, x] } ] }
  ask: { parameters: { rows: ~ }, stages: [ { id: m, model: { prompt: p, limits: { rows: '${param.rows}' } } } ] }
  both: { stages: [ { id: first, template: { ask: { rows: 7 } } }, { id: then, filter: a, from: first } ] }
";
    let stages = "  - { id: u, template: both }\n  - { filter: last, from: u }\n";
    let loaded = loaded(&with(stages, templates)).unwrap_or_else(|p| panic!("{p:?}"));
    let p = pipeline(&loaded);
    let ids: Vec<_> = p.stages.iter().map(|s| (s.id.as_str(), s.from[0].id.as_str())).collect();
    assert_eq!(ids, [("u.first.m", "source"), ("u.then", "u.first.m"), ("filter", "u.then")]);
    assert_eq!(p.stages[0].config.0.describe()["limits"]["rows"], 7);
}

#[test]
fn a_fault_in_a_template_points_into_it_and_names_its_use() {
    let faulty = CLEAN.replace("filter: ${", "fliter: ${");
    assert_snapshot!(told(&with("  - { id: a, template: { clean: { column: x } } }\n", &faulty)), @"spec.yaml:9:9 unknown kind of stage `fliter` (in the template `clean`, used as `a` in line 3) (did you mean `filter`?)");
    let typed = "templates: { t: { parameters: { f: ~ }, stages: [ { filter: '${param.f}' } ] } }\n";
    assert_snapshot!(told(&with("  - { id: a, template: { t: { f: 7 } } }\n", typed)), @"spec.yaml:3:34 expected a text, found a number (in the template `t`, used as `a` in line 3)");
    assert_snapshot!(told(&with("  - { id: a, template: { claen: {} } }\n", CLEAN)), @"spec.yaml:3:24 there is no template `claen` (did you mean `clean`?)");
    assert_snapshot!(told(&with("  - { id: a, template: { clean: { colum: x } } }\n", CLEAN)), @r"
    spec.yaml:3:24 the template `clean` needs `column` (`template: { clean: { column: … } }`)
    spec.yaml:3:35 unknown parameter `colum` (did you mean `column`?)
    ");
    let circle = "templates: { a: { stages: [ { template: b } ] }, b: { stages: [ { template: a } ] } }\n";
    assert_snapshot!(told(&with("  - { template: a }\n", circle)), @"spec.yaml:3:5 templates use each other too deeply: a -> b -> a");
    assert_snapshot!(told(&with("  - { filter: '${param.x} > 1' }\n", "")), @"spec.yaml:3:16 `${param.x}` stands in no template (parameters are those of the template around them)");
}

#[test]
fn stages_share_a_rate_and_a_way_to_try_again_by_name() {
    let stages = "  - { id: a, model: { prompt: p, limits: { rate: api, retry: patient } } }
  - { id: b, model: { prompt: q, limits: { rate: api, rows: 2 } } }
  - { id: c, model: { prompt: r, limits: { rate: 5/s } } }
";
    let rest =
        "rate_limits: { api: 100/s, other: { requests_per_minute: 60 } }\nretries: { patient: { max_attempts: 9 } }\n";
    let loaded = loaded(&with(stages, rest)).unwrap_or_else(|p| panic!("{p:?}"));
    let p = pipeline(&loaded);
    let shared: Vec<_> = p.stages.iter().map(|s| s.rate_limit.as_deref()).collect();
    assert_eq!(shared, [Some("api"), Some("api"), None]);
    assert_eq!(
        p.rate_limits.iter().map(|(n, r)| format!("{n} {}", r.rate.unwrap())).collect::<Vec<_>>(),
        ["api 100/1s", "other 60/1m"]
    );
    // A person sees what was written.
    assert_eq!(p.stages[0].config.0.describe()["limits"]["retry"], "patient");
    let bad = "  - { id: a, model: { prompt: p, limits: { rate: apy, retry: patience } } }\n";
    assert_snapshot!(told(&with(bad, rest)), @r"
    spec.yaml:3:50 there is no rate limit `apy` (did you mean `api`?)
    spec.yaml:3:62 there is no retry `patience` (did you mean `patient`?)
    ");
    assert_snapshot!(told(&with(bad, "")), @r"
    spec.yaml:3:50 there is no rate limit `apy` (add `rate_limits: { apy: 100/s }`)
    spec.yaml:3:62 there is no retry `patience` (add `retries: { patience: { max_attempts: 5 } }`)
    ");
    assert_snapshot!(told(&with("  - filter: x\n", "rate_limits: { api: fast }\nretries: { p: { max_attempts: 0 } }\n")), @r"
    spec.yaml:5:21 `fast` is no rate such as `100/s`, `60/m` or `5000/1d`
    spec.yaml:6:31 this must be at least 1
    ");
}

#[test]
fn a_sink_has_fallbacks_and_an_edge_a_policy() {
    let spec = "source: { file: { path: a.jsonl } }
stages: [ { filter: x, on_full: { isolate: { disk: 2MiB } } } ]
sinks:
  one: { blackhole: {}, on_full: isolate, fallback: { file: { path: b.jsonl } } }
  two: { blackhole: {}, on_full: drop, fallback: [ { file: { path: c.jsonl } }, { blackhole: {} } ] }
";
    let loaded = loaded(spec).unwrap_or_else(|p| panic!("{p:?}"));
    let p = pipeline(&loaded);
    assert_eq!(p.stages[0].on_full, OnFull::isolate(2 << 20));
    assert_eq!((&p.sinks[0].on_full, &p.sinks[1].on_full), (&OnFull::isolate(1 << 30), &OnFull::Drop));
    let kinds: Vec<Vec<_>> = p.sinks.iter().map(|s| s.fallback.iter().map(|c| c.0.kind()).collect()).collect();
    assert_eq!(kinds, [vec!["file"], vec!["file", "blackhole"]]);
    let sink = |keys: &str| format!("source: {{ file: {{ path: a }} }}\nsink: {{ blackhole: {{}}, {keys} }}\n");
    assert_snapshot!(told(&sink("on_full: dorp")), @"spec.yaml:2:33 `dorp` is none of `block`, `drop`, `isolate` (did you mean `drop`?)");
    assert_snapshot!(told(&sink("on_full: { isolate: { dsk: 1GiB } }")), @"spec.yaml:2:46 unknown key `dsk` (did you mean `disk`?)");
    assert_snapshot!(told(&sink("fallback: { flie: {} }")), @"spec.yaml:2:36 unknown kind of fallback `flie` (did you mean `file`?)");
    assert_snapshot!(told(&sink("fallback: [ { file: {} } ]")), @"spec.yaml:2:44 the key `path` is missing");
}

#[test]
fn a_variable_may_have_a_default() {
    let text =
        "source: { file: { path: '${env.NONE:-data}/${env.TOKEN:-x}${env.NONE:-}' } }\nsink: { blackhole: {} }\n";
    let loaded = loaded(text).unwrap();
    let path = &pipeline(&loaded).sources[0].path;
    assert_eq!(loaded.document.filled().at(path).unwrap().value()["path"], "data/s3cr3t-value");
    let missing = text.replace("NONE:-data", "NONE");
    assert_snapshot!(told(&missing), @"spec.yaml:1:25 there is no environment variable `NONE` (set it: `export NONE=…`, or say what holds without it: `${env.NONE:-…}`)");
}

const SECRETS: &str = "source: { file: { path: '${secret.ENV}-${secret.FILE}-${secret.RUN}.jsonl' } }
sink: { blackhole: {} }
secrets: { ENV: { env: TOKEN }, FILE: { file: run/token }, RUN: { command: [vault, read] } }
";

#[test]
fn secrets_come_from_the_environment_files_and_programs_and_are_never_shown() {
    let finished = |status, output: &str| Finished {
        status: Some(status),
        signal: None,
        output: output.into(),
        errors: b"canary on stderr".to_vec(),
    };
    let simulation = Simulation::new(1).variable("TOKEN", "canary-env").program("vault", move |program| {
        assert_eq!(program.argv, ["vault", "read"]);
        (std::time::Duration::from_secs(1), Ok(finished(0, "canary-run\n")))
    });
    simulation.files().put("run/token", "canary-file\r\n");
    let (request, registry, env) = (Request::default(), kinds::registry(), simulation.env());
    let filled = |loaded: &Loaded| {
        let path = &pipeline(loaded).sources[0].path;
        loaded.document.filled().at(path).unwrap().value()["path"].as_str().unwrap().to_owned()
    };
    // To look at it, no program is run.
    let looked = request.load(SECRETS, "spec.yaml", &registry, &env).unwrap();
    assert_eq!(
        (filled(&looked), simulation.elapsed().as_secs()),
        ("canary-env-canary-file-secret-RUN.jsonl".into(), 0)
    );
    let to_run = request.load_to_run(SECRETS, "spec.yaml", &registry, &env);
    let loaded = simulation.run(to_run).done().unwrap();
    assert_eq!(filled(&loaded), "canary-env-canary-file-canary-run.jsonl");
    let shown = format!("{} {:?}", pipeline(&loaded).sources[0].connector.0.describe(), loaded.document);
    assert!(shown.contains("${secret.RUN}") && !shown.contains("canary"), "{shown}");
    let failing = Simulation::new(1)
        .variable("TOKEN", "t0ken")
        .program("vault", move |_| (std::time::Duration::ZERO, Ok(finished(3, "canary"))));
    failing.files().put("run/token", "f1le");
    let env = failing.env();
    let told = failing.run(request.load_to_run(SECRETS, "spec.yaml", &registry, &env)).done().err().unwrap();
    assert_snapshot!(told[0], @"spec.yaml:3:76 the program of the secret `RUN` failed: it ended with status 3");
}

#[test]
fn a_secret_that_is_not_there_is_told_and_none_is_part_of_a_name() {
    let simulation = Simulation::new(1);
    let load = |text: &str| {
        let found = Request::default().load(text, "spec.yaml", &kinds::registry(), &simulation.env());
        found.err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(load(SECRETS), @r"
    spec.yaml:3:17 there is no environment variable `TOKEN` (set it: `export TOKEN=…`)
    spec.yaml:3:47 run/token: no such file
    ");
    let used = "source: { file: { path: '${secret.TOKN}' } }\nsink: { blackhole: {} }\n";
    assert_snapshot!(load(used), @"spec.yaml:1:26 there is no secret `TOKN` (add `secrets: { TOKN: { env: TOKN } }`)");
    // A step that uses one is not told of again, as if it were a place of its own.
    let step =
        "steps: [{ id: a, command: set, args: '${secret.NONE} ${secret.TOKEN} ${env.NONE}' }]\nsecrets: [TOKEN]\n";
    assert_snapshot!(load(step), @r"
    spec.yaml:1:39 there is no secret `NONE` (there is: TOKEN)
    spec.yaml:1:70 there is no environment variable `NONE` (set it: `export NONE=…`, or say what holds without it: `${env.NONE:-…}`)
    spec.yaml:2:11 there is no environment variable `TOKEN` (set it: `export TOKEN=…`)
    ");
    let named = told(&format!("{used}secrets: [TOKEN]\nname: '${{secret.TOKEN}}'\n"));
    assert_snapshot!(named, @r"
    spec.yaml:1:26 there is no secret `TOKN` (did you mean `TOKEN`?)
    spec.yaml:4:8 a secret can't be part of `name`, which is shown
    ");
    assert_snapshot!(told("source: { file: { path: a } }\nsink: { blackhole: {} }\nsecrets: { A: { vault: x } }\n"), @"spec.yaml:3:17 unknown key `vault` (known: `env`, `file`, `command`)");
    drop(Env::new(Variables));
}

#[test]
fn steps_keep_rates_together_and_take_retries_by_name() {
    let spec = "steps:
  - { id: a, command: model, args: p, with: { limits: { rate: api } }, retry: patient }
  - { id: b, model: { prompt: p, limits: { rate: api } }, retry: { max_attempts: 2 } }
  - { id: c, model: { prompt: p, limits: { rate: 5/s } } }
rate_limits: { api: { requests_per_minute: 10 } }
retries: { patient: { max_attempts: 9 } }
defaults: { retry: patient }
";
    let loaded = loaded(spec).unwrap_or_else(|p| panic!("{p:?}"));
    let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
    let rates: Vec<_> = chain.steps.iter().map(|s| s.work.rate_limit.as_deref()).collect();
    assert_eq!(rates, [Some("api"), Some("api"), None]);
    assert_eq!(chain.rate_limits["api"].rate.unwrap().to_string(), "10/1m");
    assert_eq!(chain.steps.iter().map(|s| s.work.retry.max_attempts).collect::<Vec<_>>(), [9, 2, 9]);
}

#[test]
fn a_name_that_a_workflow_lacks_is_told_where_it_is_used() {
    let spec = "steps:
  - { id: a, model: { prompt: p, limits: { rate: apo } }, retry: patent }
  - { id: b, command: model, args: p, with: { limits: { rate: none } } }
rate_limits: { api: 10/s }
retries: { patient: { max_attempts: 9 } }
";
    assert_snapshot!(told(spec), @"
    spec.yaml:2:50 there is no rate limit `apo` (did you mean `api`?)
    spec.yaml:2:66 there is no retry `patent` (did you mean `patient`?)
    spec.yaml:3:63 there is no rate limit `none` (there is: api)
    ");
}

#[test]
fn a_shared_limit_of_tokens_is_said_in_one_place() {
    let rest = "rate_limits: { api: { tokens_per_minute: 1000, output_tokens_per_minute: 80 } }\n";
    let good = with("  - { id: a, model: { prompt: p, limits: { rate: api, input_tokens_per_minute: 9 } } }\n", rest);
    let loaded = loaded(&good).unwrap_or_else(|p| panic!("{p:?}"));
    let api = pipeline(&loaded).rate_limits["api"];
    assert_eq!((api.rate, api.tokens_per_minute, api.output_tokens_per_minute), (None, Some(1_000), Some(80)));
    let twice = with("  - { id: a, model: { prompt: p, limits: { rate: api, tokens_per_minute: 9 } } }\n", rest);
    let told = told(&twice);
    assert!(told.contains("`api` says `tokens_per_minute` for all stages that share it"), "{told}");
}
