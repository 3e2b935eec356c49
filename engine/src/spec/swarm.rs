//! The spec of a swarm, as a chain: the coordinator splits the task, each specialist does the subtasks that are given to it, side by
//! side, and the coordinator joins what they found.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::budget::BudgetKeys;
use super::complexity::ModeThresholds;
use super::keys::names_of;
use super::model::{Chain, ForEach, Places, Step, Work};
use super::monitoring::Monitoring;
use super::node::Node;
use super::reader::{Reader, check_id, later};
use super::references::reduce;
use super::resources::order;
use super::steps::TAKEN;
use super::swarm_keys::{AgentKeys, SwarmKeys, Topology};
use crate::api::Deadlines;
use crate::api::limits::Retries;
use crate::api::template::Template;
use crate::data::units::{Interval, Percentage};
use crate::diagnostic::{Key, Problem};

/// How long an agent may take for an answer, when nothing says.
const TIMEOUT: Duration = Duration::from_mins(5);
/// The agent that splits the task when nothing else says which.
const COORDINATOR: &str = "coordinator";
/// The steps beside those of the specialists.
const STEPS: [&str; 4] = ["decompose", "subtasks", "agent_contributions", "synthesis"];
/// Keys of an agent that the design has and this version has not.
const LATER_IN_AGENT: [&str; 5] = ["memory", "budget", "output_schema", "backup", "critical"];
/// Keys of a swarm that the design has and this version has not.
const LATER: [&str; 1] = ["consensus"];

/// Reads the spec; `None` when a fault stands in the way.
pub(crate) fn read(reader: &mut Reader<'_>, name: &str) -> Option<Chain> {
    let before = reader.faults.len();
    let spec = reader.document.filled();
    let keys = reader.keys::<SwarmKeys>(spec.value(), &[], &LATER);
    let mut agents: Vec<(String, AgentKeys)> = Vec::new();
    for member in spec.get("agents").map(Node::members).unwrap_or_default() {
        let path: Vec<Key> = vec!["agents".into(), member.name.as_str().into()];
        if let Some(problem) = check_id(&member.name) {
            reader.fault_at_key(&path, problem);
        } else if TAKEN.contains(&member.name.as_str()) || STEPS.contains(&member.name.as_str()) {
            let problem =
                Problem::new(format!("`{}` can't be the name of an agent: it means something else", member.name));
            reader.fault_at_key(&path, problem);
        }
        let read = reader.keys::<AgentKeys>(member.node.value(), &path, &LATER_IN_AGENT);
        agents.extend(read.map(|agent| (member.name.clone(), agent)));
    }
    let keys = keys?;
    Monitoring::read(keys.monitoring.as_ref(), reader);
    if keys.topology.is_some_and(|topology| topology != Topology::Hierarchical) {
        reader.fault(&["topology".into()], later("topology"));
    }
    if reader.faults.len() > before {
        return None;
    }
    let coordinator = coordinator(reader, &keys, &agents)?;
    let specialists: Vec<usize> = (0..agents.len()).filter(|at| *at != coordinator).collect();
    if specialists.is_empty() {
        let problem = Problem::new("a swarm has a coordinator and at least one other agent, and there is no other");
        reader.fault(&["agents".into()], problem);
        return None;
    }
    let swarm = Swarm { keys: &keys, agents: &agents, coordinator, specialists };
    let mut steps = swarm.steps(reader)?;
    reduce(&mut steps);
    order(&mut steps, false);
    Some(Chain {
        name: keys.name.clone().unwrap_or_else(|| name.to_owned()),
        input: keys.input.as_ref().and_then(|i| i.schema.clone()),
        steps,
        rate_limits: BTreeMap::new(),
        durability: keys.durability,
        fail_fast: false,
        timeout: keys.timeout,
        mode_thresholds: ModeThresholds::default(),
        optimization: keys.optimization.clone(),
        format: keys.output_format.clone(),
        output: None,
        targets: keys.targets.clone(),
        budget: keys.budget.and_then(BudgetKeys::of_job),
        run_budget: keys.budget.and_then(BudgetKeys::of_run),
        monitoring: keys.monitoring.clone(),
        schedule: None,
    })
}

/// Which agent splits the task.
fn coordinator(reader: &mut Reader<'_>, keys: &SwarmKeys, agents: &[(String, AgentKeys)]) -> Option<usize> {
    let of_name = |wanted: &str| agents.iter().position(|(name, _)| name == wanted);
    let said = keys.coordination.as_ref().and_then(|c| c.coordinator.as_ref());
    if let Some(said) = said {
        let found = of_name(said);
        if found.is_none() {
            let names: Vec<_> = agents.iter().map(|(name, _)| name.as_str()).collect();
            let path: [Key; 2] = ["coordination".into(), "coordinator".into()];
            reader.fault(&path, super::edges::dangling("agent", said, names));
        }
        return found;
    }
    let capable = || agents.iter().position(|(_, agent)| agent.capabilities.iter().any(|c| c == "coordination"));
    let found = of_name(COORDINATOR).or_else(capable);
    if found.is_none() {
        let problem = Problem::new("no agent coordinates the others");
        let help = "call one `coordinator`, or name it: `coordination: { coordinator: NAME }`";
        reader.fault(&["agents".into()], problem.help(help));
    }
    found
}

struct Swarm<'a> {
    keys: &'a SwarmKeys,
    agents: &'a [(String, AgentKeys)],
    coordinator: usize,
    specialists: Vec<usize>,
}

impl Swarm<'_> {
    /// What the coordinator reads as the task: the input, its member `task`, or the task of the spec.
    fn task(&self) -> String {
        let otherwise = self.keys.task.as_ref().map_or_else(|| "tojson".to_owned(), |task| json!(task).to_string());
        format!("${{.input | if type == \"string\" then . else (.task? // ({otherwise})) end}}")
    }

    fn steps(&self, reader: &mut Reader<'_>) -> Option<Vec<Step>> {
        let names: Vec<&str> = self.specialists.iter().map(|at| self.agents[*at].0.as_str()).collect();
        let team = self.specialists.iter().map(|at| {
            let (name, agent) = &self.agents[*at];
            let abilities = [agent.capabilities.as_slice(), agent.tools.as_slice()].concat().join(", ");
            let abilities = if abilities.is_empty() { String::new() } else { format!(" ({abilities})") };
            format!("- {name}: {}{abilities}\n", agent.role)
        });
        let team: String = team.collect::<String>().replace("${", "$${");
        let split = format!(
            "Split this task into subtasks for your specialists. Each subtask has an id of its own, and can be done without \
             the others.\n\nSpecialists:\n{team}\nTask: {}",
            self.task()
        );
        let text = json!({ "type": "string" });
        let subtask = json!({
            "type": "object",
            "properties": {
                "id": text, "description": text, "assigned_specialist": { "type": "string", "enum": names },
            },
            "required": ["id", "description", "assigned_specialist"],
            "additionalProperties": false,
        });
        let plan = json!({
            "type": "object",
            "properties": { "subtasks": { "type": "array", "items": subtask } },
            "required": ["subtasks"],
            "additionalProperties": false,
        });
        let mut steps = vec![self.model(reader, ("decompose", self.coordinator), &split, Some(plan))?];
        // What is given to nobody, and two of one name, would be lost without a word.
        let known = json!(names);
        let checked = format!(
            "${{.decompose.results.subtasks | . as $all | map(.assigned_specialist as $to | if ({known} | index($to)) then . \
             else error(\"subtask \\(.id) is given to \\($to), who is not there\") end) \
             | if (map(.id) | unique | length) == length then . else error(\"two subtasks have one id\") end}}"
        );
        steps.push(set(reader, "subtasks", json!({ "value": checked }), vec![0])?);
        for at in &self.specialists {
            let (name, _) = &self.agents[*at];
            let prompt = format!(
                "Do this subtask.\n\nSubtask ${{subtask.id}}: ${{subtask.description}}\n\nIt is part of this task: {}",
                self.task()
            );
            let mut step = self.model(reader, (name, *at), &prompt, None)?;
            let own = format!("${{[.subtasks.results[] | select(.assigned_specialist == {})]}}", json!(name));
            step.for_each = Some(ForEach {
                list: Template::parse(&own).ok()?,
                name: "subtask".into(),
                max_concurrency: None,
                // What a specialist could not do is told to the coordinator.
                tolerated: Percentage(100.0),
                fail_fast: false,
            });
            (step.reads, step.refs) = (vec![1], vec![1]);
            steps.push(step);
        }
        let contributions = names.iter().map(|name| {
            format!(
                "([[.subtasks.results[] | select(.assigned_specialist == {quoted})], .{member}.results] | transpose | map({{key: .[0].id, \
                 value: {{agent: {quoted}, subtask: .[0].description, result: .[1]}}}}))",
                quoted = json!(name),
                member = json!(name),
            )
        });
        let contributions = format!("${{{} | from_entries}}", contributions.collect::<Vec<_>>().join(" + "));
        let reads = (1..steps.len()).collect();
        steps.push(set(reader, "agent_contributions", json!({ "value": contributions }), reads)?);
        let join = format!(
            "Your specialists have done their subtasks. Join what they found into one answer to the task. Say what is missing: a \
             result that is null was not found.\n\nTask: {}\n\nBy subtask:\n${{agent_contributions.results}}",
            self.task()
        );
        let mut synthesis = self.model(reader, ("synthesis", self.coordinator), &join, None)?;
        synthesis.reads = vec![steps.len() - 1];
        steps.push(synthesis);
        Some(steps)
    }

    /// A step in which an agent is asked.
    fn model(
        &self,
        reader: &mut Reader<'_>,
        (id, agent): (&str, usize),
        prompt: &str,
        schema: Option<Value>,
    ) -> Option<Step> {
        let (name, agent) = &self.agents[agent];
        let literal = |text: &str| text.replace("${", "$${");
        let system = match &agent.instructions {
            Some(instructions) => format!("{}\n\n{}", literal(&agent.role), literal(instructions)),
            None => literal(&agent.role),
        };
        let mut config = json!({ "prompt": prompt, "system": system });
        let model = agent.model.clone().or_else(|| self.keys.defaults.model.clone());
        let said = [
            ("model", model.map(Value::from)),
            ("max_tokens", agent.max_tokens.map(Value::from)),
            ("json_schema", schema),
        ];
        for (key, value) in said {
            if let Some(value) = value {
                config[key] = value;
            }
        }
        let path: Vec<Key> = vec!["agents".into(), name.as_str().into()];
        let known = [("model", "model"), ("max_tokens", "max_tokens"), ("system", "role")];
        let known = known.map(|(key, place)| (key.to_owned(), vec![place.into()])).into();
        let work = work(reader, "model", config, &path)?;
        Some(Step::new(id, Work { places: Places { known }, ..work }, Vec::new(), path))
    }
}

/// A step that makes one value of others.
fn set(reader: &mut Reader<'_>, id: &str, value: Value, reads: Vec<usize>) -> Option<Step> {
    let path: Vec<Key> = vec!["agents".into()];
    work(reader, "set", value, &path).map(|work| Step::new(id, work, reads, path))
}

/// What a kind does with this configuration.
fn work(reader: &mut Reader<'_>, kind: &str, config: Value, path: &[Key]) -> Option<Work> {
    let registry = reader.registry;
    let Some(entry) = registry.stages().get(kind) else {
        reader.fault(path, Problem::new(format!("a swarm needs the kind `{kind}`, and there is none")));
        return None;
    };
    let known: Vec<String> = names_of::<AgentKeys>();
    let locate = |place: &[Key]| match place.first() {
        Some(Key::Name(key)) if known.contains(key) => [path, &place[..1]].concat(),
        _ => path.to_vec(),
    };
    let config = reader.configured(entry, config.clone(), &config, locate)?;
    let retry = Retries {
        initial_interval: Interval(Duration::from_secs(1)),
        max_interval: Interval(Duration::from_secs(100)),
        ..Retries::default()
    };
    let (command, deadlines, places) = (kind.to_owned(), Deadlines::default(), Places::default());
    Some(Work { command, config, timeout: TIMEOUT, deadlines, retry, rate_limit: None, places, workflow: None })
}
