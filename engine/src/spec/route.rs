//! A step that chooses which steps come next by what they have brought so far, and the step behind all others that says what they did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use super::command::Configured;
use super::model::{Places, Work};
use super::reader::Reader;
use super::references::Names;
use super::steps::Common;
use super::tried::Tried;
use super::workflow_keys::RouteKeys;
use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::template::Template;
use crate::api::{
    BuildContext, Call, CallContext, Cardinality, Limits, Operator, Order, Output, Progress, Reply, Stage,
};
use crate::data::columns::json_field;
use crate::diagnostic::{Key, Problem, Problems};
use crate::error::Result;

/// What the columns that they add are called.
const CHOSEN: &str = "chosen";
const REWARD: &str = "reward";
/// Runs for which ways are chosen together, at most.
const ROWS: usize = 1_024;

/// What is known of the ways of a route: an epsilon-greedy bandit (Sutton and Barto, Reinforcement Learning, 2.2), whose values are means.
#[derive(Debug)]
pub struct Arms {
    ways: Vec<Vec<String>>,
    state: Mutex<Vec<Arm>>,
}

/// A way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Arm {
    /// How often it was chosen here.
    chosen: u64,
    /// How many rewards are known of it.
    rewards: u64,
    /// Their mean.
    mean: f64,
}

impl Arms {
    fn new(ways: Vec<Vec<String>>) -> Self {
        let state = Mutex::new(vec![Arm::default(); ways.len()]);
        Self { ways, state }
    }

    fn state(&self) -> MutexGuard<'_, Vec<Arm>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the reward of a run into account. `way` is what the run chose, as its step gave it; one that is no way any
    /// more says nothing.
    pub fn learn(&self, way: &Value, reward: f64) {
        let is_it = |steps: &Vec<String>| way.as_array().is_some_and(|way| way.iter().eq(steps.iter()));
        let Some(at) = self.ways.iter().position(is_it) else { return };
        let arm = &mut self.state()[at];
        arm.rewards += 1;
        arm.mean += (reward - arm.mean) / arm.rewards as f64;
    }

    /// The way to take: with the probability `epsilon` any, else the one with the greatest mean, the first of several. One of which no
    /// reward is known comes before all others, the one that was chosen least.
    fn choose(&self, epsilon: f64, random: u64) -> &[String] {
        let mut state = self.state();
        // The upper half decides whether to explore, the lower one what.
        let (upper, lower) = (random >> 32, random & 0xFFFF_FFFF);
        let explores = (upper as f64) < epsilon * 2_f64.powi(32);
        let unknown = (0..state.len()).filter(|at| state[*at].rewards == 0).min_by_key(|at| state[*at].chosen);
        let best = || {
            let better = |best: usize, at: usize| if state[at].mean > state[best].mean { at } else { best };
            (1..state.len()).fold(0, better)
        };
        let any = usize::try_from(lower).unwrap_or(0) % state.len();
        let at = if explores { any } else { unknown.unwrap_or_else(best) };
        state[at].chosen += 1;
        &self.ways[at]
    }
}

/// The ways out of a route. It can't be read from a spec by itself, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(crate) struct RouteConfig {
    pub epsilon: f64,
    pub arms: Arc<Arms>,
}

/// A route as it was read.
pub(super) struct Routed {
    /// What chooses a way.
    pub work: Work,
    /// What says what that has brought.
    pub says: Work,
    pub arms: Arc<Arms>,
}

impl Common<'_> {
    /// A step that chooses a way by what ways have brought.
    pub(super) fn routed(
        &self,
        reader: &mut Reader<'_>,
        names: &Names<'_>,
        (keys, tried): (&RouteKeys, &Tried),
        path: &[Key],
        chooses: &mut Vec<usize>,
    ) -> Option<Routed> {
        let below = |key: &str| [path, &[key.into()]].concat();
        let mut ways = Vec::new();
        for (i, way) in (0_usize..).zip(&keys.ways) {
            let before = chooses.len();
            self.depends(reader, names.own, &[path, &["ways".into(), i.into()]].concat(), Some(way), chooses);
            ways.push(chooses[before..].iter().map(|at| self.ids[*at].clone()).collect());
        }
        // It is read when all steps have ended, the route among them: nothing is needed for it.
        let names = Names { again: true, item: None, ..*names };
        let short = names.text(reader, &keys.reward, &below("reward"), &mut Vec::new());
        let reward = Template::parse(&short).ok()?;
        if !reward.is_one_place() {
            let problem = Problem::new("a reward is one place with a number");
            reader.fault(&below("reward"), problem.help("for example `reward: ${.answer.results.score}`"));
            return None;
        }
        let chosen = Template::parse(&format!("${{{}.results}}", self.ids[names.own])).ok()?;
        let config = RouteConfig { epsilon: keys.epsilon, arms: Arc::new(Arms::new(ways)) };
        let says = RewardConfig { chosen, arms: config.arms.clone(), reward };
        let mut work = |name: &str, stage: Arc<dyn ErasedStage>| {
            let does = Configured { stage: BoxStageConfig(stage), rate_limit: None, places: Places::default() };
            tried.work(reader, name, does)
        };
        let arms = config.arms.clone();
        Some(Routed { work: work("route", Arc::new(config)), says: work("reward", Arc::new(says)), arms })
    }
}

fn with_column(input: &SchemaRef, name: &str) -> SchemaRef {
    let fields = input.fields().iter().cloned().chain([Arc::new(json_field(name))]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl ErasedStage for RouteConfig {
    fn kind(&self) -> &'static str {
        "route"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(with_column(&inputs[0], CHOSEN))
    }

    fn is_stateless(&self) -> bool {
        true
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = with_column(&context.inputs[0], CHOSEN);
        let limits = Limits { rows: ROWS, order: Order::Kept, ..Limits::default() };
        Ok(Operator::call(Choosing { config: self.clone(), schema }, limits))
    }

    fn describe(&self) -> Value {
        json!({ "ways": self.arms.ways, "epsilon": self.epsilon })
    }
}

struct Choosing {
    config: RouteConfig,
    schema: SchemaRef,
}

impl Call for Choosing {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let RouteConfig { epsilon, arms } = &self.config;
        let choose = |_| serde_json::to_string(arms.choose(*epsilon, context.env.random()));
        let chosen = (0..rows.num_rows()).map(choose).collect::<Result<Vec<_>, _>>()?;
        let columns = rows.columns().iter().cloned().chain([Arc::new(StringArray::from(chosen)) as ArrayRef]);
        Ok(Reply::rows(RecordBatch::try_new(self.schema.clone(), columns.collect())?))
    }
}

/// What says what a way has brought, when its run has ended.
#[derive(Clone)]
pub(crate) struct RewardConfig {
    /// What the route chose.
    pub chosen: Template,
    pub arms: Arc<Arms>,
    pub reward: Template,
}

impl ErasedStage for RewardConfig {
    fn kind(&self) -> &'static str {
        "reward"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(with_column(&inputs[0], REWARD))
    }

    fn is_stateless(&self) -> bool {
        true
    }

    // What it gives depends on the row alone; what it tells the route nobody waits for.
    fn is_pure(&self) -> bool {
        true
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = with_column(&context.inputs[0], REWARD);
        Ok(Operator::stage(Rewarding { config: self.clone(), schema }))
    }

    fn describe(&self) -> Value {
        json!({ "ways": self.arms.ways })
    }
}

struct Rewarding {
    config: RewardConfig,
    schema: SchemaRef,
}

impl Rewarding {
    /// What the run has brought: nothing, if what is to say so gives no number.
    fn reward(&self, rows: &RecordBatch, row: usize) -> f64 {
        let reward = self.config.reward.value(rows, row).ok().and_then(|value| value.as_f64());
        reward.filter(|reward| reward.is_finite()).unwrap_or(0.0)
    }
}

impl Stage for Rewarding {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut rewards = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let reward = self.reward(rows, row);
            // A run that did not come to the route says nothing of it.
            if let Ok(way) = self.config.chosen.value(rows, row) {
                self.config.arms.learn(&way, reward);
            }
            rewards.push(json!(reward).to_string());
        }
        let columns = rows.columns().iter().cloned().chain([Arc::new(StringArray::from(rewards)) as ArrayRef]);
        out.emit(RecordBatch::try_new(self.schema.clone(), columns.collect())?);
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms() -> Arms {
        Arms::new(vec![vec!["a".into()], vec!["b".into(), "c".into()]])
    }

    /// Its upper half does not explore, as far as epsilon is below 1.
    const GREEDY: u64 = u64::MAX << 32;

    #[test]
    fn ways_of_which_nothing_is_known_are_tried_in_turn_and_then_the_one_with_the_greatest_mean() {
        let arms = arms();
        assert_eq!([(); 4].map(|()| arms.choose(0.0, GREEDY)[0].clone()), ["a", "b", "a", "b"]);
        arms.learn(&json!(["a"]), 1.0);
        assert_eq!(arms.choose(0.0, GREEDY), ["b", "c"], "nothing is known of it yet");
        arms.learn(&json!(["b", "c"]), 0.5);
        assert_eq!(arms.choose(0.0, GREEDY), ["a"]);
        for _ in 0..3 {
            arms.learn(&json!(["a"]), 0.2);
        }
        assert_eq!(arms.choose(0.0, GREEDY), ["b", "c"]);
        // Those that the spec has no more, and what is no way, say nothing.
        for way in [json!(["b"]), json!(["d"]), json!("a"), Value::Null] {
            arms.learn(&way, 100.0);
        }
        let known = arms.state().clone();
        assert_eq!((known[0].chosen, known[0].rewards), (3, 4));
        assert!((known[0].mean - 0.4).abs() < 1e-9, "{known:?}");
        assert_eq!(known[1], Arm { chosen: 4, rewards: 1, mean: 0.5 });
    }

    #[test]
    fn it_explores_as_often_as_it_is_told() {
        let arms = arms();
        arms.learn(&json!(["a"]), 1.0);
        arms.learn(&json!(["b", "c"]), 0.0);
        // A quarter of all that the upper half may be.
        let quarter = 1_u64 << 30;
        let chance = |upper: u64, lower: u64| (upper << 32) | lower;
        assert_eq!(arms.choose(0.25, chance(quarter - 1, 1)), ["b", "c"]);
        assert_eq!(arms.choose(0.25, chance(quarter - 1, 2)), ["a"]);
        assert_eq!(arms.choose(0.25, chance(quarter, 1)), ["a"]);
        assert_eq!(arms.choose(0.0, chance(0, 1)), ["a"]);
        assert_eq!(arms.choose(1.0, u64::MAX), ["b", "c"]);
    }
}
