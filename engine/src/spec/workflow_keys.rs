//! The keys of a workflow and its steps.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::budget::BudgetKeys;
use super::caching::CacheKeys;
use super::complexity::ModeThresholds;
use super::keys::{AlternativeBlock, GateBlock, NestedBlock, OneOrMany, PipelineBlock, StepBlock, TestBlock, Version};
use super::mode::Type;
use super::monitoring::Monitoring;
use super::on_failure::Strategy;
use super::optimization::Optimization;
use super::output::{Format, OutputKeys};
use super::routing::Route;
use super::schedule::ScheduleKeys;
use super::secrets::SecretKeys;
use super::shared::RateKeys;
use super::targets::Targets;
use super::timeouts::TimeoutKeys;
use crate::api::limits::Retries;
use crate::data::units::{Interval, Percentage};
use crate::journal::Durability;

/// A workflow: steps.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the steps are read by walking the tree")]
pub(crate) struct WorkflowKeys {
    /// The name of the workflow; the name of the file if it does not say.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The version of the spec.
    pub version: Option<Version>,
    /// How the spec is read; by what is in it if it does not say.
    pub r#type: Option<Type>,
    /// From which figures on the steps count as a flow or a swarm, where `type` says neither.
    #[serde(default)]
    pub mode_thresholds: ModeThresholds,
    /// What a run is given.
    pub input: Option<InputKeys>,
    /// What holds for steps that do not say.
    #[serde(default)]
    pub defaults: DefaultKeys,
    /// Steps; each starts when those it depends on have ended.
    #[schemars(length(min = 1))]
    pub steps: Vec<StepBlock>,
    /// Steps that start when all others have ended, whatever became of them.
    pub finally: Option<Vec<StepBlock>>,
    /// When a step has failed for good, the others of its run are canceled, those under way too; what undoes and `finally` are done.
    /// Otherwise what does not need the step goes on.
    #[serde(default)]
    pub fail_fast: bool,
    /// How long a run may take, from its beginning on, over restarts, waits and pauses: what is under way then is dropped, what undoes and
    /// `finally` are done, and the run is `TIMED_OUT`.
    pub timeout: Option<Interval>,
    /// What may be done to make it faster or cheaper.
    #[serde(default)]
    pub optimization: Optimization,
    /// What the commands of steps stand for, beside those that are known.
    pub routing: Option<BTreeMap<String, Route>>,
    /// What `final_output` is made of.
    #[serde(default)]
    pub output_format: Format,
    /// What becomes of that before it counts.
    pub output: Option<OutputKeys>,
    /// What the output of a run must pass, as for a step: it is `${quality_gates.results}` in what is asked about it, and a step of this name
    /// tells what was said.
    #[schemars(length(min = 1))]
    pub quality_gates: Option<Vec<GateBlock>>,
    /// When what a step gave must be in the journal: `sync` is before the next step starts, `async` soon, `exit` when the run ends.
    #[serde(default)]
    pub durability: Durability,
    /// What runs are to reach: when a target is missed, the command ends with 3.
    #[serde(default)]
    pub targets: Targets,
    /// What all runs of a job together may spend on models, and what each of them may.
    pub budget: Option<BudgetKeys>,
    /// Where spans and metrics are sent, and how much of them.
    pub monitoring: Option<Monitoring>,
    /// When runs begin by themselves: `bourn run` without an input waits for each time, and goes on until Ctrl-C.
    pub schedule: Option<ScheduleKeys>,
    /// Secrets by name, for `${secret.NAME}`; they are never shown.
    pub secrets: Option<SecretKeys>,
    /// Rates and limits of tokens by name: the steps whose configuration says `limits: { rate: NAME }` keep one together.
    pub rate_limits: Option<BTreeMap<String, RateKeys>>,
    /// Ways to try again, by name, for `retry: NAME`.
    pub retries: Option<BTreeMap<String, Retries>>,
    /// Cases that `bourn test` runs.
    pub tests: Option<Vec<TestBlock>>,
}

/// What a run is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputKeys {
    /// A JSON Schema; an input that does not fit is a failed run.
    pub schema: Option<Value>,
}

/// What holds for steps that do not say.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DefaultKeys {
    /// When to try again.
    pub retry: Option<RetryKeys>,
    /// How long steps may take; a `heartbeat` is for those that give signs of life.
    pub timeout: Option<TimeoutKeys>,
    /// The model of steps that call one.
    pub model: Option<String>,
}

/// When a step is tried again; what is not said is taken from the spec's defaults.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RetryKeys {
    /// A name from `retries`.
    Name(String),
    /// What is said of it.
    Said(#[schemars(with = "Retries")] Map<String, Value>),
}

/// The keys of a step beside a kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[allow(dead_code, reason = "what the step does is read by walking the tree")]
pub(crate) struct StepKeys {
    /// Its handle, and the name by which later steps read it: `${id.results}`.
    pub id: Option<String>,
    /// What it does: a name from the routing table, such as `/query`.
    pub command: Option<String>,
    /// The same as `command`.
    pub uses: Option<String>,
    /// What the command is given; `${step.results}` and `${input.field}` are filled in.
    pub args: Option<Value>,
    /// The configuration of the command, by name.
    pub with: Option<Map<String, Value>>,
    /// The steps that must have ended before.
    pub depends_on: Option<OneOrMany>,
    /// The same as `depends_on`.
    pub needs: Option<OneOrMany>,
    /// The same as `depends_on`.
    pub dependencies: Option<OneOrMany>,
    /// Paths that it reads outside of its run: `*` and `?` stand for a part of a name, `**` for anything.
    pub reads: Option<OneOrMany>,
    /// Paths that it writes. Steps of a run that write the same, or one of which reads what the other writes, do not overlap.
    pub writes: Option<OneOrMany>,
    /// Names of what it has for itself alone: steps of a run with one name in common do not overlap.
    pub locks: Option<OneOrMany>,
    /// It changes nothing outside.
    #[serde(default)]
    pub stateless: bool,
    /// How long it may take: `5m` or a number of seconds for one attempt, or several limits by name.
    pub timeout: Option<TimeoutKeys>,
    /// When to try again.
    pub retry: Option<RetryKeys>,
    /// A place such as `${input.wanted}` or `${.input.count > 3}` that is true or false; when false, the step is skipped.
    pub r#if: Option<String>,
    /// Does the step for each element of a list; its results are a list in the same order.
    pub for_each: Option<ForEachKeys>,
    /// Does the step in rounds: in its own arguments and in `until`, its id is what the round before left.
    pub repeat: Option<RepeatKeys>,
    /// Chooses the steps that come next, instead of a command: the first of the ways whose `when` is true. The other steps that it
    /// names are skipped.
    #[schemars(length(min = 1))]
    pub switch: Option<Vec<WayKeys>>,
    /// Chooses the steps that come next by what they have brought in earlier runs, instead of a command. The other steps that it names are
    /// skipped.
    pub route: Option<RouteKeys>,
    /// The step is a workflow itself: the file of a spec, or `{ spec: FILE or a spec, input: what it is given }`. What it gives is the
    /// workflow's `final_output`.
    pub workflow: Option<NestedBlock>,
    /// The step runs a pipeline to its end: the file of its spec, or `{ spec: FILE, env: the environment variables that it sees }`. What it
    /// gives are the numbers of its rows.
    pub pipeline: Option<PipelineBlock>,
    /// What the results of the step, and of its fallbacks, are to be like.
    pub output: Option<OutputKeys>,
    /// What the results must pass, one gate after the other, before they count; those of fallbacks too. A JSON Schema, a condition or a score
    /// of jq, or a step's kind that is asked about them: a program, a model.
    #[schemars(length(min = 1))]
    pub quality_gates: Option<Vec<GateBlock>>,
    /// Answers the step from a cache where the same was asked before, by whichever run: its configuration, with what is filled in.
    pub cache: Option<CacheKeys>,
    /// What is tried when the step fails for good, in order: other commands, or the same one with other `args` or `with`.
    #[schemars(length(min = 1))]
    pub fallback: Option<Vec<AlternativeBlock>>,
    /// What the step gives when it fails for good, and its fallbacks too: the run goes on, degraded.
    pub default: Option<Value>,
    /// What is done when it fails, in order: `retry`, `alternative_path` (its `fallback`), `escalate` (a person decides), and
    /// `graceful_degradation` (its `default`). Without it all that the step has, in this order, and nobody is asked.
    #[schemars(length(min = 1))]
    pub on_failure: Option<Vec<Strategy>>,
    /// What undoes the step when it completed and the run failed: of all such steps the last one first.
    pub compensate: Option<AlternativeBlock>,
}

/// `repeat`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepeatKeys {
    /// A place such as `${.draft.results.good}` that is true when a round was the last.
    pub until: String,
    /// The most rounds: what the last one gave is what the step gives.
    #[schemars(range(min = 1, max = 10000))]
    pub max_iterations: u32,
    /// How long to wait between two rounds.
    #[serde(default)]
    pub every: Option<Interval>,
}

/// `route`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteKeys {
    /// How the way is chosen.
    #[allow(dead_code, reason = "there is one")]
    pub policy: Policy,
    /// How often any way is taken, whatever is known: 0 to 1.
    #[serde(default = "epsilon")]
    #[schemars(range(min = 0, max = 1))]
    pub epsilon: f64,
    /// The ways: the step that comes next, or several.
    #[schemars(length(min = 2))]
    pub ways: Vec<OneOrMany>,
    /// A place with a number, such as `${.answer.results.score}`: what the run has brought, the more the better. It is read when all steps
    /// have ended, and is 0 where it is no number.
    pub reward: String,
}

/// The policy of a `route`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    /// The way that has brought most at the mean, and now and then any of them.
    EpsilonGreedy,
}

fn epsilon() -> f64 {
    0.1
}

/// A way out of a `switch`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WayKeys {
    /// A place that is true or false, as for `if`; without it the way is taken when no other one was.
    pub when: Option<String>,
    /// The step that comes next, or several.
    pub then: OneOrMany,
}

/// What a step does, without the rest of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[allow(dead_code, reason = "what it does is read by walking the tree")]
pub(crate) struct AlternativeKeys {
    /// What it does: a name from the routing table.
    pub command: Option<String>,
    /// The same as `command`.
    pub uses: Option<String>,
    /// What the command is given.
    pub args: Option<Value>,
    /// The configuration of the command, by name.
    pub with: Option<Map<String, Value>>,
    /// How long it may take; as for the step if it does not say.
    pub timeout: Option<TimeoutKeys>,
    /// When to try again; as for the step if it does not say.
    pub retry: Option<RetryKeys>,
    /// A workflow, as for a step.
    pub workflow: Option<NestedBlock>,
    /// A pipeline, as for a step.
    pub pipeline: Option<PipelineBlock>,
}

/// `for_each`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForEachKeys {
    /// A place with a list, `${input.files}`, or a list of values.
    pub r#in: Elements,
    /// The name of the element in the step: `${file.path}`.
    #[serde(default = "item")]
    pub r#as: String,
    /// The most elements at once, of all runs together.
    #[schemars(range(min = 1, max = 65536))]
    pub max_concurrency: Option<usize>,
    /// The share of elements that may fail without failing the step; their results are null.
    #[serde(default)]
    pub tolerated_failure_percentage: Option<Percentage>,
    /// When more elements have failed than may, the others are canceled.
    #[serde(default)]
    pub fail_fast: bool,
}

/// What a step goes through.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Elements {
    /// A place with a list.
    Place(String),
    /// The elements themselves.
    Values(Vec<Value>),
}

fn item() -> String {
    "item".to_owned()
}
