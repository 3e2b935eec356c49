//! Which kind of spec it is, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::node::Node;
use crate::diagnostic::Problem;

/// How a spec is read and run. All of them become the same kind of graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Steps, each of which starts when the steps it depends on have ended.
    Chain,
    /// Steps and conditions.
    Flow,
    /// Agents that work on one task.
    Swarm,
    /// Sources, stages and sinks.
    Pipeline,
    /// Several of these in one.
    Hybrid,
}

/// What a spec may say under `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// By what is in the spec.
    #[default]
    Auto,
    /// See [`Mode::Chain`].
    Chain,
    /// See [`Mode::Flow`].
    Flow,
    /// See [`Mode::Swarm`].
    Swarm,
    /// See [`Mode::Pipeline`].
    Pipeline,
    /// See [`Mode::Hybrid`].
    Hybrid,
}

/// The mode that was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The mode.
    pub mode: Mode,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Chain => "chain",
            Self::Flow => "flow",
            Self::Swarm => "swarm",
            Self::Pipeline => "pipeline",
            Self::Hybrid => "hybrid",
        })
    }
}

impl std::str::FromStr for Mode {
    type Err = crate::Error;
    fn from_str(text: &str) -> crate::Result<Self> {
        serde_json::from_value(text.into()).map_err(|_| {
            crate::Error::validation(format!("`{text}` is no mode; there are chain, flow, swarm, pipeline and hybrid"))
        })
    }
}

/// The mode of a spec, by its `type` or by what is in it. What it asks for must be there: an order that can't be followed
/// is a fault, never silently another mode.
pub(crate) fn choose(spec: &Node) -> Result<Choice, Problem> {
    let written = spec.get("type").and_then(Node::text).unwrap_or("auto");
    let sources = ["sources", "source"].into_iter().find(|k| spec.get(k).is_some());
    let steps = spec.get("steps").map(|_| "steps");
    let agents = spec.get("agents").map(|_| "agents");
    // A stage may be a workflow, a step may be that or a pipeline.
    let nests = |key: &str| {
        let blocks = spec.get(key).map(Node::elements).unwrap_or_default();
        let may_be: &[&'static str] = if key == "steps" { &["workflow", "pipeline"] } else { &["workflow"] };
        may_be.iter().copied().find(|kind| blocks.iter().any(|block| block.get(kind).is_some()))
    };
    // What chooses the steps that come next.
    let chooser = || {
        let blocks = spec.get("steps").map(Node::elements).unwrap_or_default();
        ["switch", "route"].into_iter().find(|key| blocks.iter().any(|block| block.get(key).is_some()))
    };
    if let Ok(mode) = written.parse::<Mode>() {
        let lacks = match mode {
            Mode::Chain | Mode::Flow => steps.is_none().then_some("steps"),
            Mode::Pipeline => sources.is_none().then_some("sources"),
            Mode::Swarm => agents.is_none().then_some("agents"),
            Mode::Hybrid => nests("steps").or_else(|| nests("stages")).is_none().then_some("workflow"),
        };
        return match lacks {
            None => Ok(Choice { mode, reason: format!("the spec says `type: {mode}`") }),
            Some("workflow") => {
                let problem = Problem::new("a hybrid has a workflow or a pipeline within it, and this spec has none")
                    .under("type");
                Err(problem
                    .help("a step or a stage that says `workflow: { spec: … }`, or a step that says `pipeline: FILE`"))
            }
            Some(key) => Err(Problem::new(format!("a {mode} needs `{key}`, and there are none")).under("type")),
        };
    }
    let because = |mode, key: &str| Ok(Choice { mode, reason: format!("the spec has `{key}`") });
    // A spec that reads from sources without end comes first: with steps in it, it is still no chain.
    match (sources, agents, steps) {
        (Some(_), None, None) if nests("stages").is_some() => because(Mode::Hybrid, "sources` and a stage `workflow"),
        (Some(key), None, None) => because(Mode::Pipeline, key),
        (None, Some(key), None) => because(Mode::Swarm, key),
        (None, None, Some(_)) if let Some(kind) = nests("steps") => {
            because(Mode::Hybrid, &format!("steps` and a step `{kind}"))
        }
        (None, None, Some(_)) if let Some(key) = chooser() => because(Mode::Flow, key),
        (None, None, Some(key)) => because(Mode::Chain, key),
        (None, None, None) => {
            let problem = Problem::new("there is nothing to do: neither `sources` nor `steps`");
            Err(problem.help("a pipeline has `sources`, `stages` and `sinks`; a workflow has `steps`"))
        }
        (a, b, c) => {
            let keys: Vec<_> = [a, b, c].into_iter().flatten().map(|k| format!("`{k}`")).collect();
            let problem = Problem::new(format!("a spec is one thing, and this one has {}", keys.join(" and ")));
            Err(problem.help("one may stand within the other: a step or a stage that says `workflow: { spec: … }`"))
        }
    }
}
