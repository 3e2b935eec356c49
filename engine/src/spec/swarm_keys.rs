//! The keys of a swarm.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::budget::BudgetKeys;
use super::keys::{TestBlock, Version};
use super::mode::Type;
use super::monitoring::Monitoring;
use super::optimization::Optimization;
use super::output::Format;
use super::secrets::SecretKeys;
use super::targets::Targets;
use super::workflow_keys::{DefaultKeys, InputKeys};
use crate::data::units::Interval;
use crate::journal::Durability;

/// Agents that work on one task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "some are read by walking the tree")]
pub(crate) struct SwarmKeys {
    /// The name of the swarm; the name of the file if it does not say.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The version of the spec.
    pub version: Option<Version>,
    /// How the spec is read; by what is in it if it does not say.
    pub r#type: Option<Type>,
    /// What a run is given.
    pub input: Option<InputKeys>,
    /// What holds for agents that do not say.
    #[serde(default)]
    pub defaults: DefaultKeys,
    /// How agents are joined.
    pub topology: Option<Topology>,
    /// Agents by name: one coordinates, the others do what it gives them.
    pub agents: BTreeMap<String, Value>,
    /// How agents work together.
    pub coordination: Option<CoordinationKeys>,
    /// What the agents work on, when the input of the run is no text and says no `task`.
    pub task: Option<String>,
    /// How long a run may take, from its beginning on, over restarts, waits and pauses: what is under way then is dropped, and the run is
    /// `TIMED_OUT`.
    pub timeout: Option<Interval>,
    /// What may be done to make it faster or cheaper.
    #[serde(default)]
    pub optimization: Optimization,
    /// What `final_output` is made of.
    #[serde(default)]
    pub output_format: Format,
    /// When what a step gave must be in the journal.
    #[serde(default)]
    pub durability: Durability,
    /// What runs are to reach: when a target is missed, the command ends with 3.
    #[serde(default)]
    pub targets: Targets,
    /// What all runs of a job together may spend on models, and what each of them may.
    pub budget: Option<BudgetKeys>,
    /// Where spans and metrics are sent, and how much of them.
    pub monitoring: Option<Monitoring>,
    /// Secrets by name, for `${secret.NAME}`; they are never shown.
    pub secrets: Option<SecretKeys>,
    /// Cases that `bourn test` runs.
    pub tests: Option<Vec<TestBlock>>,
}

/// How agents are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Topology {
    /// One splits the task and joins what the others found.
    Hierarchical,
    /// All talk to all; comes with a later version.
    Mesh,
    /// One after the other; comes with a later version.
    Pipeline,
    /// One chooses who is next; comes with a later version.
    Star,
}

/// An agent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentKeys {
    /// What it is: what the model is told before all else.
    pub role: String,
    /// The model that it asks.
    pub model: Option<String>,
    /// What it can do: what the coordinator knows of it. The one that can do `coordination` coordinates, if none is called so.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What it may use. This version tells them to the coordinator alone: agents call no tools yet.
    #[serde(default)]
    pub tools: Vec<String>,
    /// What it is told besides.
    pub instructions: Option<String>,
    /// The most tokens that it may write in an answer.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
}

/// How agents work together.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "of a hierarchy all but the coordinator are the same")]
pub(crate) struct CoordinationKeys {
    /// The agent that coordinates.
    pub coordinator: Option<String>,
    /// How agents are told of each other. In a hierarchy the coordinator alone tells them.
    pub communication: Option<Communication>,
    /// What agents see of each other. In a hierarchy a specialist sees its subtask and the task.
    pub state_sharing: Option<StateSharing>,
    /// How it is settled what agents do not agree on. In a hierarchy the coordinator does it.
    pub conflict_resolution: Option<ConflictResolution>,
}

/// How agents are told of each other.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Communication {
    /// When something happened.
    EventDriven,
    /// When they ask.
    RequestResponse,
    /// All at once.
    Broadcast,
    /// By what is written in one place.
    Blackboard,
}

/// What agents see of each other.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateSharing {
    /// What those above give them.
    Hierarchical,
    /// All.
    Shared,
    /// Nothing.
    Isolated,
}

/// How it is settled what agents do not agree on.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConflictResolution {
    /// By a vote.
    Consensus,
    /// By the coordinator.
    Coordinator,
    /// By rank.
    Priority,
    /// By who was first.
    First,
    /// By a person.
    Human,
}
