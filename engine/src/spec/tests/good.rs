//! Good specs: what they become.

use super::super::model::{ErrorPolicy, From};
use super::super::{Mode, Request, Spec, schema};
use super::{Variables, kinds, loaded};
use crate::api::Checkpointing;
use crate::api::checkpointing::Timeout;
use crate::diagnostic::Problem;
use crate::env::Env;
use std::time::Duration;

pub(super) const CHAIN: &str = include_str!("chain.json");
pub(super) const SWARM: &str = include_str!("swarm.json");

pub(super) const PIPELINE: &str = "
name: delays
sources:
  flights: { file: { path: 'data/${env.TOKEN}/flights-*.parquet' }, lanes: 2 }
stages:
  - id: delayed
    filter: delay > 15
  - id: split
    route: { long: distance > 1000 }
    on_error: drop
sinks:
  near: { blackhole: {} }
  far: { from: split.long, file: { path: far.jsonl, rate: 100/s } }
on_error: dead_letter
dead_letters: { file: { path: rejected.jsonl } }
checkpoint: { every: 10s, timeout: 5m, tolerated_timeouts: 1 }
limits: { memory: 64MiB }
";

/// What has a name, or a policy.
const NAMED: &str = "
source: { file: { path: a } }
templates: { t: { parameters: { n: { default: 1, description: how many }, m: ~ }, stages: [ { filter: '${param.n}' } ] } }
stages:
  - { id: a, template: { t: { m: 2 } }, on_full: isolate }
  - { id: b, template: t }
  - { model: { prompt: p, limits: { rate: api, retry: patient } }, on_full: { isolate: { disk: 1GiB, path: x } } }
  - { id: c, model: { prompt: p, limits: { rate: 5/s, retry: { max_attempts: 2 } } }, on_full: drop }
sink: { blackhole: {}, fallback: [ { file: { path: b } } ] }
rate_limits: { api: 10/s, other: { requests_per_minute: 5 } }
retries: { patient: { max_attempts: 9 } }
secrets: { A: { env: B }, C: { file: d }, E: { command: [f, g] } }
";

fn problems(result: Result<super::Loaded, Vec<crate::diagnostic::Diagnostic>>) -> Vec<String> {
    result.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn a_pipeline_is_read_with_its_edges_and_options() {
    let loaded = loaded(PIPELINE).unwrap();
    let Spec::Pipeline(p) = &loaded.spec else { panic!("no pipeline") };
    let from = |id: &str, port: Option<&str>| vec![From { id: id.into(), port: port.map(Into::into) }];
    assert_eq!((p.name.as_str(), p.on_error), ("delays", ErrorPolicy::DeadLetter));
    assert_eq!((p.sources[0].lanes, p.stages[0].from.clone()), (Some(2), from("flights", None)));
    assert_eq!((p.stages[1].on_error, p.stages[1].from.clone()), (Some(ErrorPolicy::Drop), from("delayed", None)));
    assert_eq!(p.sinks[0].from, from("split", None));
    assert_eq!(p.sinks[1].from, from("split", Some("long")));
    assert_eq!((p.epoch_every.map(|d| d.as_secs()), p.memory), (Some(10), Some(64 << 20)));
    let Checkpointing::On(checkpoints) = &p.checkpoints else { panic!("no checkpoints") };
    assert_eq!(checkpoints.timeout, Some(Timeout { after: Duration::from_mins(5), tolerated: 1 }));
    assert_eq!(p.dead_letters.as_ref().map(|d| d.id.as_str()), Some("dead_letters"));
    assert_eq!((loaded.choice.mode, loaded.choice.reason.as_str()), (Mode::Pipeline, "the spec has `sources`"));
}

#[test]
fn a_value_from_the_environment_is_used_and_never_shown() {
    let loaded = loaded(PIPELINE).unwrap();
    let Spec::Pipeline(p) = &loaded.spec else { panic!("no pipeline") };
    assert_eq!(p.sources[0].connector.0.describe()["path"], "data/${env.TOKEN}/flights-*.parquet");
    let filled = loaded.document.filled().at(&p.sources[0].path).unwrap().value();
    assert_eq!(filled["path"], "data/s3cr3t-value/flights-*.parquet");
    let problem = Problem::new("there is no file data/s3cr3t-value/x").under("file").under("flights").under("sources");
    let told = loaded.document.diagnostic(&problem).to_string();
    assert_eq!(told, "spec.yaml:4:20 there is no file data/${env.TOKEN}/x");
}

#[test]
fn a_problem_of_the_planner_points_into_the_text_of_a_value() {
    let loaded = loaded(PIPELINE).unwrap();
    let at = |index: usize, key: &str| {
        let problem = Problem::new("unknown column").under(key).under(index).under("stages").part(0..5);
        let diagnostic = loaded.document.diagnostic(&problem);
        (diagnostic.line_column(), diagnostic.source.inner()[diagnostic.span].to_owned())
    };
    assert_eq!(at(0, "filter"), ((7, 13), "delay".into()));
    // The path may lead beyond what is written: the nearest value around it is marked, its first line.
    assert_eq!(at(1, "nothing"), ((8, 5), "id: split".into()));
    let beyond = Problem::new("x").under("deeper").under("filter").under(0).under("stages").part(0..2);
    assert_eq!(loaded.document.diagnostic(&beyond).line_column(), (7, 13));
}

#[test]
fn the_chain_of_the_founding_document_is_read_as_it_is() {
    let loaded = loaded(CHAIN).unwrap();
    let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
    let read: Vec<_> = chain.steps.iter().map(|s| (s.id.as_str(), s.needs.clone(), s.work.timeout.as_secs())).collect();
    let expected = [("analyze_codebase", vec![], 300), ("fix_issues", vec![0], 300), ("validate_fixes", vec![1], 300)];
    assert_eq!(read, expected);
    assert_eq!(chain.steps[1].work.config.0.describe()["prompt"], "fix security issues: ${analyze_codebase.results}");
    assert!(chain.optimization.parallel_where_possible && chain.optimization.state_persistence);
    assert_eq!((chain.name.as_str(), chain.steps[0].work.retry.max_attempts), ("spec", 3));
}

#[test]
fn places_are_dependencies_and_those_that_another_one_needs_are_left_out() {
    let spec = "steps:
  - { id: a, command: set, args: 1, timeout: 2m }
  - { id: b, uses: /set, with: { value: { x: ['${steps.a.results} ${ steps.a.status } $${c}'] } } }
  - { id: c, set: '${b.results}', needs: [a, b], if: '${steps.a.results}', retry: { max_attempts: 5 } }
  - { id: d, model: { prompt: '${c.results} ${input.x}' } }
defaults: { model: opus, retry: { jitter: false } }
";
    let loaded = loaded(spec).unwrap();
    let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
    let needs: Vec<_> = chain.steps.iter().map(|s| s.needs.clone()).collect();
    // What `b` needs already, `c` need not name.
    assert_eq!(needs, [vec![], vec![0], vec![1], vec![2]]);
    // The shorter form is for the engine alone: a person sees what was written.
    let shown = chain.steps[1].work.config.0.describe();
    assert_eq!(shown["value"]["x"][0], "${steps.a.results} ${ steps.a.status } $${c}");
    assert_eq!(chain.steps[3].work.config.0.describe()["model"], "opus");
    assert_eq!((chain.steps[0].work.timeout.as_secs(), chain.steps[2].work.retry.max_attempts), (120, 5));
    assert_eq!((chain.steps[2].work.retry.jitter, chain.steps[2].work.retry.initial_interval.0.as_secs()), (false, 1));
    assert_eq!(chain.steps[2].work.places.locate(&["value".into()]), ["set".into()]);
    assert_eq!(
        chain.steps[1].work.places.locate(&["value".into(), "x".into()]),
        ["with".into(), "value".into(), "x".into()]
    );
}

#[test]
fn twelve_specs_have_the_mode_that_they_have() {
    let one = "{ id: ID, model: { prompt: p } }";
    let steps = |count: usize, more: &dyn Fn(usize) -> String| {
        let step = |at: usize| format!("{{ id: s{at}, model: {{ prompt: p }}{} }}", more(at));
        format!("steps: [{}]", (0..count).map(step).collect::<Vec<_>>().join(", "))
    };
    let chained = |at: usize| if at > 0 { format!(", needs: s{}", at - 1) } else { String::new() };
    // Many side by side, of which each but the first three needs two of those.
    let wide = |at: usize| {
        let needs = if at > 2 { format!(", needs: [s{}, s{}]", at % 3, (at + 1) % 3) } else { String::new() };
        format!("{needs}, if: '${{.input.n > {at}}}'")
    };
    // The same on a way that is longer.
    let deep = |at: usize| match at {
        0 => String::new(),
        1..10 => format!(", needs: s{}, if: '${{.input.n > 1}}'", at - 1),
        _ => format!(", needs: s{}, if: '${{.input.n > 1}}'", at % 9),
    };
    let lone = format!("steps: [{}]", one.replace("ID", "a"));
    let agents = "agents: { coordinator: { role: c }, other: { role: o } }";
    let table: Vec<(String, Mode, &str)> = vec![
        // What has no end comes first.
        (PIPELINE.to_owned(), Mode::Pipeline, "the spec has `sources`"),
        (agents.to_owned(), Mode::Swarm, "the spec has `agents`"),
        (lone.clone(), Mode::Chain, "the spec has `steps`"),
        (format!("{lone}\ntype: flow"), Mode::Flow, "the spec says `type: flow`"),
        (
            "steps: [{ id: a, switch: [{ then: b }] }, { id: b, model: { prompt: p } }]".to_owned(),
            Mode::Flow,
            "the spec has `switch`",
        ),
        (
            "steps: [{ id: a, workflow: { spec: { steps: [{ id: b, model: { prompt: p } }] } } }]".to_owned(),
            Mode::Hybrid,
            "the spec has `steps` and a step `workflow`",
        ),
        (steps(8, &chained), Mode::Chain, "the spec has `steps`"),
        (steps(9, &chained), Mode::Flow, "complexity 5.4 is at least 5"),
        (
            format!("{}\nmode_thresholds: {{ flow_complexity: 6 }}", steps(9, &chained)),
            Mode::Chain,
            "the spec has `steps`",
        ),
        (steps(12, &wide), Mode::Flow, "complexity 7.6 is at least 5"),
        (
            steps(30, &deep),
            Mode::Swarm,
            "complexity 9.5 is at least 8, and 0.67 of the steps side by side at least 0.6",
        ),
        (
            format!("{}\nmode_thresholds: {{ swarm_parallel: 0.7 }}", steps(30, &deep)),
            Mode::Flow,
            "complexity 9.5 is at least 5",
        ),
    ];
    for (text, mode, reason) in table {
        let choice = loaded(&text).unwrap_or_else(|problems| panic!("{text}: {problems:?}")).choice;
        assert_eq!((choice.mode, choice.reason.as_str()), (mode, reason), "{text}");
    }
}

#[test]
fn the_mode_is_chosen_by_what_is_there_and_an_order_that_can_not_be_followed_is_refused() {
    let chosen = |text: &str| loaded(text).map(|l| (l.choice.mode, l.choice.reason)).map_err(|p| p[0].to_string());
    let step = "steps: [{ id: a, command: set, args: 1 }]";
    assert_eq!(chosen(step), Ok((Mode::Chain, "the spec has `steps`".into())));
    assert_eq!(chosen(&format!("{step}\ntype: auto")), Ok((Mode::Chain, "the spec has `steps`".into())));
    assert_eq!(chosen(&format!("{step}\ntype: chain")), Ok((Mode::Chain, "the spec says `type: chain`".into())));
    assert_eq!(chosen(&format!("{step}\ntype: flow")), Ok((Mode::Flow, "the spec says `type: flow`".into())));
    let both = chosen(&format!("{step}\nagents: {{}}")).unwrap_err();
    assert!(both.starts_with("spec.yaml:1:1 a spec is one thing, and this one has `agents` and `steps` ("), "{both}");
    assert!(chosen(&format!("{step}\nsource: {{}}")).is_err());
    let nested = "steps: [{ id: a, workflow: { spec: { steps: [{ id: b, set: 1 }] } } }]";
    assert_eq!(chosen(nested), Ok((Mode::Hybrid, "the spec has `steps` and a step `workflow`".into())));
    assert_eq!(chosen(&format!("{nested}\ntype: hybrid")), Ok((Mode::Hybrid, "the spec says `type: hybrid`".into())));
    let none = chosen(&format!("{step}\ntype: hybrid")).unwrap_err();
    assert!(
        none.starts_with("spec.yaml:2:7 a hybrid has a workflow or a pipeline within it, and this spec has none ("),
        "{none}"
    );
    let agents = "agents: { coordinator: { role: a }, b: { role: b } }";
    assert_eq!(chosen(agents), Ok((Mode::Swarm, "the spec has `agents`".into())));
    let refused = chosen(&format!("{step}\ntype: pipeline")).unwrap_err();
    assert_eq!(refused, "spec.yaml:2:7 a pipeline needs `sources`, and there are none");
    let request = Request { mode: Some(Mode::Pipeline), ..Request::default() };
    let told = problems(request.load(step, "a.yaml", &kinds::registry(), &Env::new(Variables)));
    assert_eq!(told, ["a.yaml:1:1 this spec can't be run as a pipeline: the spec has `steps`"]);
}

#[test]
fn the_schema_of_the_whole_accepts_what_is_accepted_and_refuses_slips() {
    let schema = schema(&kinds::registry());
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let value = |text: &str| super::super::parse::parse(text).unwrap().value();
    for good in [CHAIN, SWARM, PIPELINE, NAMED, "steps: [{ id: a, set: 1 }]\nsecrets: [A]"] {
        let faults: Vec<_> = validator.iter_errors(&value(good)).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
    for bad in [
        "stagse: []",
        "stages: [{ fliter: x }]",
        "stages: [{ filter: x, map: { a: b } }]",
        "source: { file: { path: 1 } }",
        "source: { file: { path: a, formt: b } }",
        "steps: [{ command: /query }]",
        "steps: [{ id: a, command: model, with: 1 }]",
        "optimization: { x: 1 }",
        "stages: [{ filter: x, on_full: dorp }]",
        "stages: [{ filter: x, template: t }]",
        "sink: { blackhole: {}, fallback: {} }",
        "sink: { blackhole: {}, fallback: { file: { path: a }, blackhole: {} } }",
        "secrets: { A: { vault: x } }",
        "rate_limits: { api: { per_minute: 5 } }",
    ] {
        assert!(!validator.is_valid(&value(bad)), "{bad}");
    }
}
