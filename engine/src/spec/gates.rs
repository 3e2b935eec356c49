//! Quality gates: what the results of a step, or the output of a run, must pass.

use std::sync::Arc;

use jsonschema::Validator;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::command::Said;
use super::keys::names_of;
use super::model::Work;
use super::node::Node;
use super::output::Jq;
use super::reader::{Reader, own_part};
use super::references::Names;
use super::steps::Common;
use super::timeouts::TimeoutKeys;
use super::tried::Tried;
use super::workflow_keys::{RetryKeys, StepKeys};
use crate::api::Cardinality;
use crate::diagnostic::{Key, Problem};
use crate::error::{Error, Result};

/// The keys of a gate beside a kind. Without a kind it judges the results themselves, otherwise what that gives; it passes when all that it
/// says holds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[allow(dead_code, reason = "what the gate asks is read by walking the tree")]
pub(crate) struct GateKeys {
    /// What it is called where it is told; its number if it does not say.
    pub name: Option<String>,
    /// A JSON Schema.
    pub schema: Option<Value>,
    /// A place of jq that is true when it passes: `${ .tests > 3 }`.
    pub condition: Option<String>,
    /// A place of jq with a number: `${ .score }`; the whole if it does not say. Goes with `at_least`.
    pub score: Option<String>,
    /// The least score that passes.
    pub at_least: Option<f64>,
    /// What happens when it does not pass: `block` fails the step, `warn` lets it go on, degraded.
    #[serde(default)]
    pub on_fail: OnFail,
    /// What is asked, by a name from the routing table; a kind as a key is the same. Its places read `${step.results}` of the step itself too.
    /// What fails does not pass, such as a program that ends with another status than 0.
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
}

/// What happens when a gate is not passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// The step fails.
    #[default]
    Block,
    /// It goes on, degraded.
    Warn,
}

/// A gate.
#[derive(Clone)]
pub struct Gate {
    /// What it is called.
    pub name: String,
    /// What it asks; none if it judges the results themselves.
    pub work: Option<Work>,
    /// What happens when it is not passed.
    pub on_fail: OnFail,
    schema: Option<Arc<Validator>>,
    condition: Option<Jq>,
    score: Option<Jq>,
    at_least: Option<f64>,
}

/// What a gate says of a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Why it does not pass; none when it does.
    pub reason: Option<String>,
    /// The score, of a gate that has one.
    pub score: Option<f64>,
}

impl Gate {
    /// Judges the results, or what was asked about them.
    ///
    /// # Errors
    /// When jq fails, or gives what is no number or no truth.
    pub fn judge(&self, value: &Value) -> Result<Judged> {
        let mut judged = Judged::default();
        if let Some(schema) = &self.schema {
            let told = |e: jsonschema::ValidationError<'_>| match e.instance_path().as_str() {
                "" => e.to_string(),
                path => format!("{path}: {e}"),
            };
            let faults: Vec<String> = schema.iter_errors(value).map(told).collect();
            judged.reason = (!faults.is_empty()).then(|| faults.join("; "));
        }
        if let Some(condition) = &self.condition {
            let holds = condition.make(value)?;
            let Value::Bool(holds) = holds else {
                return Err(Error::validation(format!("its condition is neither true nor false, but {holds}")));
            };
            judged.reason = judged.reason.or_else(|| (!holds).then(|| "its condition is false".to_owned()));
        }
        if let Some(least) = self.at_least {
            let score = self.score.as_ref().map_or_else(|| Ok(value.clone()), |score| score.make(value))?;
            // Models like to write numbers as texts.
            let number = score.as_f64().or_else(|| score.as_str()?.trim().parse().ok()).filter(|n: &f64| n.is_finite());
            let number = number.ok_or_else(|| Error::validation(format!("its score is no number, but {score}")))?;
            judged.score = Some(number);
            let low = || format!("its score is {number}, and at least {least} is asked for");
            judged.reason = judged.reason.or_else(|| (number < least).then(low));
        }
        Ok(judged)
    }
}

impl Common<'_> {
    /// The gates in the list of a step at `path`, which may be one that undoes another.
    pub(super) fn gates(
        &self,
        reader: &mut Reader<'_>,
        (keys, list, undoes): (&StepKeys, Option<&Node>, bool),
        path: &[Key],
        (names, usual): (&Names<'_>, &Tried),
        needs: &mut Vec<usize>,
    ) -> Vec<Gate> {
        let path = &[path, &["quality_gates".into()]].concat();
        if list.is_some() && (keys.switch.is_some() || keys.route.is_some() || undoes) {
            reader.fault_at_key(path, Problem::new("what chooses or undoes gives no results to judge"));
        }
        let nodes = list.map(Node::elements).unwrap_or_default();
        let gate = |(at, node): (usize, &Node)| {
            let here = [path.as_slice(), &[at.into()]].concat();
            self.gate(reader, node, (at, &here), (names, usual), needs)
        };
        nodes.iter().enumerate().filter_map(gate).collect()
    }

    fn gate(
        &self,
        reader: &mut Reader<'_>,
        node: &Node,
        (at, path): (usize, &[Key]),
        (names, usual): (&Names<'_>, &Tried),
        needs: &mut Vec<usize>,
    ) -> Option<Gate> {
        if !node.is_map() {
            reader.fault(path, Problem::new(format!("expected a map, found {}", node.kind())));
            return None;
        }
        let below = |key: &str| [path, &[key.into()]].concat();
        let own = names_of::<GateKeys>();
        let keys = reader.keys::<GateKeys>(own_part(node, &own), path, &[])?;
        let jq = |reader: &mut Reader<'_>, key: &str, text: Option<&String>| match Jq::of(text?) {
            Ok(jq) => Some(jq),
            Err(problem) => {
                reader.fault(&below(key), problem);
                None
            }
        };
        let condition = jq(reader, "condition", keys.condition.as_ref());
        let score = jq(reader, "score", keys.score.as_ref());
        let schema = match keys.schema.as_ref().map(jsonschema::validator_for).transpose() {
            Ok(schema) => schema.map(Arc::new),
            Err(e) => {
                reader.fault(&below("schema"), Problem::new(format!("this is no JSON Schema: {e}")));
                None
            }
        };
        if keys.score.is_some() && keys.at_least.is_none() {
            let problem = Problem::new("a score alone passes always");
            reader.fault_at_key(&below("score"), problem.help("say `at_least` beside it"));
        }
        let command = self.command(reader, node, path, &own, true);
        let work = command.and_then(|command| {
            let retry = [path, &["retry".into()]].concat();
            let tried = self.tried(reader, &retry, (keys.timeout.as_ref(), keys.retry.as_ref()), Some(usual));
            let said = [Said { block: node, way: Vec::new() }];
            let does = self.config(reader, &command, &said, path, names, needs)?;
            if does.stage.0.waits().is_some() || does.stage.0.cardinality() != Cardinality::One {
                let problem = Problem::new(format!("`{}` can't be asked by a gate", command.name));
                reader.fault(path, problem.help("it gives no answer to each question"));
            }
            Some(tried.work(reader, &command.name, does))
        });
        let says = keys.schema.is_some() || keys.condition.is_some() || keys.at_least.is_some();
        let asks = ["command", "uses"].iter().any(|key| node.get(key).is_some())
            || node.members().iter().any(|member| !own.contains(&member.name));
        if !says && !asks {
            let problem = Problem::new("this gate judges nothing");
            reader.fault(path, problem.help("say `schema`, `condition`, `at_least`, or what it asks, as a step does"));
        }
        let name = keys.name.unwrap_or_else(|| (at + 1).to_string());
        Some(Gate { name, work, on_fail: keys.on_fail, schema, condition, score, at_least: keys.at_least })
    }
}
