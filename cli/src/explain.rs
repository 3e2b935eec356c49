//! `bourn validate` and `bourn plan`: whether a spec can run, and what it becomes. Nothing is changed outside.

use bourn_engine::Engine;
use bourn_engine::api::Checkpoints;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::Problem;
use bourn_engine::graph::Role;
use bourn_engine::plan::{Asking, DEAD_LETTERS, Plan, PlannedEdge};
use bourn_engine::spec::complexity::ModeThresholds;
use bourn_engine::spec::{Choice, Loaded, Spec};
use bourn_engine::workflow::mode::ModeRule;
use bourn_engine::workflow::{Analysis, Dependencies, analyze, dependencies, redundant};
use serde_json::{Value, json};

use crate::answer;
use crate::args::{self, Drawing, Form};
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::report::diagnostics;
use crate::run::documents::Documents;

/// Says that a spec can run, or why it can't.
///
/// # Errors
/// Every problem of it.
pub fn validate(args: &args::Validate, form: Form) -> Result<(), Failure> {
    let checked = planned(&args.spec, if args.connect { Asking::Everyone } else { Asking::Nobody });
    if form == Form::Json {
        // The verdict is the answer here, also when it is a bad one.
        answer::print(&match &checked {
            Ok((loaded, plan)) => json!({
                "valid": true, "mode": loaded.choice.mode.to_string(), "problems": [],
                "notes": notes(loaded, plan),
                "open": plan.open().map(|o| json!({ "source": &*o.source, "asks": &*o.asks })).collect::<Vec<_>>(),
            })
            .to_string(),
            Err(Failure::Problems(problems)) => {
                let mut verdict = diagnostics::problems_as_json(problems);
                verdict["valid"] = false.into();
                verdict.to_string()
            }
            Err(_) => return checked.map(drop),
        })?;
        return checked.map(drop).map_err(|_| Failure::Told(Exit::Invalid));
    }
    let (loaded, plan) = checked?;
    let Choice { mode, reason } = &loaded.choice;
    let verdict = format!("{}: valid ({mode}: {reason})\n", loaded.document.name());
    let open = plan.open().map(|open| {
        format!("  `{}`: {open}, so what reads it is not checked; `bourn validate --connect` asks\n", open.source)
    });
    let notes = plan.notes.iter().map(|note| format!("  note: {}\n", loaded.document.diagnostic(note)));
    answer::print(&open.chain(notes).fold(verdict, |text, line| text + &line))
}

/// What a spec becomes, as text.
///
/// # Errors
/// Every problem of it.
pub fn plan(args: &args::Plan, form: Form) -> Result<String, Failure> {
    let (loaded, plan) = planned(&args.spec, Asking::Nobody)?;
    Ok(match (args.graph, form) {
        (Some(Drawing::Mermaid), _) => plan.mermaid(),
        (Some(Drawing::Json), _) => format!("{:#}", graph(&loaded, &plan)),
        (None, Form::Text) => text(&loaded, &plan, &analyze(&loaded)),
        (None, Form::Json) => format!("{:#}", json(&loaded, &plan, &analyze(&loaded))),
    })
}

/// The same of a spec that was planned, for people and for programs.
pub fn shown(loaded: &Loaded, plan: &Plan) -> (String, Value) {
    let analysis = analyze(loaded);
    (text(loaded, plan, &analysis), json(loaded, plan, &analysis))
}

/// The steps of a workflow.
fn steps(loaded: &Loaded) -> Option<Dependencies> {
    match &loaded.spec {
        Spec::Chain(chain) => Some(dependencies(chain)),
        Spec::Pipeline(_) => None,
    }
}

/// The graph for programs: the steps of a workflow, or the nodes of a pipeline.
fn graph(loaded: &Loaded, plan: &Plan) -> Value {
    if let Some(steps) = steps(loaded) {
        return json!(steps);
    }
    let nodes = plan.nodes.iter().map(|node| json!({ "id": &*node.id, "kind": node.kind() }));
    let edges = plan.edges.iter().map(
        |edge| json!({ "from": &*plan.nodes[edge.from].id, "port": port(plan, edge), "to": &*plan.nodes[edge.to].id }),
    );
    json!({ "nodes": nodes.collect::<Vec<_>>(), "edges": edges.collect::<Vec<_>>() })
}

/// The port that an edge begins at, unless it is the main one.
fn port(plan: &Plan, edge: &PlannedEdge) -> Option<String> {
    match edge.port {
        0 => None,
        DEAD_LETTERS => Some("dead_letters".to_owned()),
        port => Some(plan.nodes[edge.from].ports[port - 1].clone()),
    }
}

fn planned(spec: &args::Spec, asking: Asking) -> Result<(Loaded, Plan), Failure> {
    let runtime = prepare::runtime()?;
    let result = runtime.block_on(async {
        let engine = Engine::new(prepare::registry());
        let loaded = match asking {
            Asking::Nobody => prepare::load(spec, &engine)?,
            // A server asks for the secrets as they are.
            Asking::Sources | Asking::Everyone => prepare::load_to_run(spec, &engine).await?,
        };
        // No model is asked here, so a spec is as good without the keys of one.
        let graph = prepare::graph(&loaded, &prepare::no_runs(), Documents::lines(), true);
        let mut plan = prepare::plan_asking(&engine, graph, &loaded, asking).await?;
        if let Spec::Chain(chain) = &loaded.spec {
            plan.notes.extend(redundant(chain));
        }
        // An address may have come from the environment.
        for open in plan.nodes.iter_mut().filter_map(|node| node.open.as_mut()) {
            open.asks = loaded.document.diagnostic(&Problem::new(&*open.asks)).message.into();
        }
        Ok((loaded, plan))
    });
    runtime.shutdown_background();
    result
}

/// What the author should know, with its places.
fn notes(loaded: &Loaded, plan: &Plan) -> Value {
    let notes: Vec<_> = plan.notes.iter().map(|note| loaded.document.diagnostic(note)).collect();
    diagnostics::problems_as_json(&notes)["problems"].take()
}

/// The plan for people.
fn text(loaded: &Loaded, plan: &Plan, analysis: &Analysis) -> String {
    let wishes = analysis.optimizations.iter().map(|wish| {
        format!("  {}: {} ({})\n", wish.name, if wish.applied { "applied" } else { "no effect" }, wish.reason)
    });
    let (mode, total) = (&analysis.mode, analysis.complexity.total);
    let head = format!("{mode} ({}), complexity {total:.1} of 10\n", analysis.mode_reason);
    let rule = analysis.mode_rule.map(|ModeRule { parallel, thresholds, .. }| {
        let ModeThresholds { swarm_complexity, swarm_parallel, flow_complexity } = thresholds;
        format!(
            "  mode: {parallel:.2} of the steps side by side; a flow from complexity {flow_complexity}, a swarm from {swarm_complexity} and {swarm_parallel}\n"
        )
    });
    let head = head + &rule.unwrap_or_default();
    let held_back = match &loaded.spec {
        Spec::Chain(chain) => chain.held_back(),
        Spec::Pipeline(_) => Vec::new(),
    };
    let head = head + &steps(loaded).map(|steps| format!("  clusters: {}\n", steps.shown())).unwrap_or_default();
    let notes = plan.notes.iter().map(|note| format!("note: {}\n", loaded.document.diagnostic(note)));
    let notes: String = notes.collect();
    let notes = if notes.is_empty() { notes } else { format!("\n{notes}") };
    let head = held_back.iter().fold(head, |text, line| text + "  " + line + "\n");
    wishes.fold(head, |text, wish| text + &wish) + &plan.explain() + &notes
}

/// The plan for programs.
fn json(loaded: &Loaded, plan: &Plan, analysis: &Analysis) -> Value {
    let nodes = plan.nodes.iter().map(|node| {
        let columns = node.outputs.first().map(|schema| {
            let column = |f: &arrow::datatypes::FieldRef| {
                json!({
                    "name": f.name(), "type": sql_name(f.data_type()), "nullable": f.is_nullable(),
                })
            };
            schema.fields().iter().map(column).collect::<Vec<_>>()
        });
        let asks = node.open.as_ref().filter(|_| matches!(node.role, Role::Source(_))).map(|open| &*open.asks);
        json!({
            "id": &*node.id, "kind": node.kind(), "lanes": node.lanes, "columns": columns,
            "checked": node.open.is_none(), "asks": asks,
        })
    });
    let edges = plan.edges.iter().map(|edge| {
        json!({
            "from": &*plan.nodes[edge.from].id, "port": port(plan, edge), "to": &*plan.nodes[edge.to].id,
            "exchange": edge.exchange.to_string(), "rows": edge.rows, "bytes": edge.bytes, "fused": edge.fused,
        })
    });
    let guarantees = plan
        .guarantees
        .iter()
        .map(|g| json!({ "source": &*g.source, "sink": &*g.sink, "level": g.level.to_string(), "reason": g.reason }));
    let chains =
        plan.chains.iter().map(|chain| chain.iter().map(|n| plan.nodes[*n].id.to_string()).collect::<Vec<_>>());
    json!({
        "mode": analysis.mode, "mode_reason": analysis.mode_reason, "mode_rule": analysis.mode_rule, "complexity": analysis.complexity,
        "is_sequential": analysis.is_sequential, "parallel_opportunities": analysis.parallel_opportunities,
        "optimizations": analysis.optimizations, "dependencies": steps(loaded), "name": plan.name,
        "memory": plan.options.memory, "epoch_seconds": plan.epoch_every.map(|d| d.as_secs_f64()),
        "checkpoints": plan.checkpoints.as_ref().map(|c| checkpoints(c, &plan.name)),
        "nodes": nodes.collect::<Vec<_>>(), "edges": edges.collect::<Vec<_>>(),
        "notes": notes(loaded, plan), "tasks": chains.collect::<Vec<_>>(), "delivery": guarantees.collect::<Vec<_>>(),
    })
}

fn checkpoints(kept: &Checkpoints, job: &str) -> Value {
    let timeout = kept.timeout.map(|t| json!({ "seconds": t.after.as_secs_f64(), "tolerated": t.tolerated }));
    json!({ "path": kept.place(job), "keep": kept.keep, "timeout": timeout })
}
