//! Alerts: the figures of a job are looked at again and again, and receivers told what has changed; and which steps wait for somebody.

mod counts;
mod delivery;
mod figures;
mod notice;
mod rule;
mod tasks;

use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bourn_engine::api::Usage;
use bourn_engine::data::secret::Secrets;
use bourn_engine::env::Env;
use bourn_engine::metrics::JobStats;
use bourn_engine::spec::alerts::Alert;
use bourn_engine::spec::monitoring::Monitoring;
use bourn_engine::spec::receiver::Receiver;
use bourn_engine::spec::{Loaded, Spec};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, join, select};

pub use counts::Counts;
use delivery::{Queues, deliver, queues};
use figures::{Job, Started};
use notice::Moment;
use rule::{Change, Rule};
pub use tasks::Tasks;

use super::sending::Stopped;
use crate::failure::Failure;
use crate::screen::Screen;

/// How often rules are looked at, where nobody says it.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long the end of a job waits for receivers.
const GRACE: Duration = Duration::from_secs(5);

/// The thread that looks and tells, and what it is told.
pub struct Alerting {
    counts: Arc<Counts>,
    workflow: String,
    /// Who is told of tasks.
    tasks: Vec<usize>,
    secrets: Secrets,
    queues: Queues,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is known of a job since it has started.
#[derive(Default)]
struct Seen {
    started: Option<Started>,
    spent: Usage,
}

impl Alerting {
    /// Begins, if the spec has any rules, or says who is told of tasks.
    ///
    /// # Errors
    /// When a receiver can't be told anything, or the system has no thread left.
    pub fn start(loaded: &Loaded, said: &Monitoring, env: &Env, screen: &Screen) -> Result<Option<Self>, Failure> {
        if said.alerts.is_empty() && said.tasks.is_empty() {
            return Ok(None);
        }
        let mut receivers = Vec::new();
        let mut rules = Vec::new();
        for alert in &said.alerts {
            let told = if alert.notify.is_empty() { &said.notify } else { &alert.notify };
            let told = told.iter().map(|receiver| place(&mut receivers, receiver)).collect();
            let program = alert.program().map_err(|problem| Failure::invalid(problem.message))?;
            rules.push(Rule::of(alert.clone(), program, told));
        }
        let tasks = said.tasks.iter().map(|receiver| place(&mut receivers, receiver)).collect();
        let invalid = |why: String| Failure::invalid(format!("monitoring: {why}"));
        let (queues, deliveries) = queues(&receivers, env).map_err(invalid)?;
        let screen = screen.clone();
        let (counts, seen) = (Arc::new(Counts::new(env.clone())), Arc::<Mutex<Seen>>::default());
        let (job, secrets) = (job(&loaded.spec, counts.clone()), loaded.document.secrets().clone());
        let (workflow, hidden) = (job.name.clone(), secrets.clone());
        let work = Work {
            job,
            rules,
            interval: said.interval.map_or(INTERVAL, |interval| interval.0),
            queues: queues.clone(),
            seen: seen.clone(),
            secrets,
            env: env.clone(),
            warn: Box::new(move |text| screen.warn(text)),
        };
        let (stop, stopped) = oneshot::channel();
        let failed = |e: std::io::Error| Failure::Failed(e.into());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let stopped = stopped.map(drop).boxed().shared();
        let env = env.clone();
        let run = move || {
            runtime.block_on(async {
                let patience = async {
                    stopped.clone().await;
                    env.sleep(GRACE).await;
                };
                let work = join(work.run(stopped.clone()), deliver(deliveries, stopped.clone()));
                select(pin!(work), pin!(patience)).await;
            });
        };
        let thread = Builder::new().name("bourn-alerts".into()).spawn(run).map_err(failed)?;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Some(Self { counts, workflow, tasks, secrets: hidden, queues, seen, stop, thread }))
    }

    /// Who counts runs.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Who tells of tasks, which are answered in this journal.
    pub fn tasks(&self, journal: &Path) -> Option<Arc<Tasks>> {
        let tasks = || Tasks {
            workflow: self.workflow.clone(),
            receivers: self.tasks.clone(),
            queues: self.queues.clone(),
            counts: self.counts.clone(),
            secrets: self.secrets.clone(),
            journal: journal.to_owned(),
        };
        (!self.tasks.is_empty()).then(|| Arc::new(tasks()))
    }

    /// The job has started.
    pub fn watch(&self, stats: &Arc<JobStats>, at: Duration) {
        lock(&self.seen).started = Some(Started { stats: stats.clone(), at });
    }

    /// What earlier processes have spent for the job.
    pub fn has_spent(&self, spent: Usage) {
        lock(&self.seen).spent = spent;
    }

    /// The job is over: rules are looked at once more, what fires is resolved. What did not arrive anywhere, in words.
    pub fn end(mut self) -> Vec<String> {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has cost what was to be told, and nothing else.
            let _panicked = thread.join();
        }
        self.queues.told()
    }
}

/// Where this receiver stands among all, each of which has one queue.
fn place(receivers: &mut Vec<Receiver>, receiver: &Receiver) -> usize {
    receivers.iter().position(|known| known == receiver).unwrap_or_else(|| {
        receivers.push(receiver.clone());
        receivers.len() - 1
    })
}

fn job(spec: &Spec, counts: Arc<Counts>) -> Job {
    let (name, budget, letters, has_runs) = match spec {
        Spec::Pipeline(spec) => (&spec.name, spec.budget, spec.dead_letters.as_ref(), false),
        Spec::Chain(spec) => (&spec.name, spec.budget, None, true),
    };
    let dead_letters = letters.map(|sink| sink.id.clone());
    Job { name: name.clone(), budget: budget.unwrap_or_default(), dead_letters, has_runs, counts }
}

struct Work {
    job: Job,
    rules: Vec<Rule>,
    interval: Duration,
    queues: Queues,
    seen: Arc<Mutex<Seen>>,
    secrets: Secrets,
    env: Env,
    /// Says what is wrong with a rule.
    warn: Box<dyn Fn(&str) + Send>,
}

impl Work {
    /// Looks each interval, and once more at the end.
    async fn run(mut self, stopped: Stopped) {
        while let Either::Right(_) = select(stopped.clone(), self.env.sleep(self.interval)).await {
            self.look(false);
        }
        self.look(true);
        self.queues.close();
    }

    fn look(&mut self, is_over: bool) {
        let (started, spent) = {
            let seen = lock(&self.seen);
            let Some(started) = seen.started.clone() else { return };
            (started, seen.spent)
        };
        let (monotonic, now) = (self.env.monotonic(), self.env.wall());
        let snapshot = Arc::new(self.job.snapshot(&started, monotonic));
        for rule in &mut self.rules {
            let before = rule.before(&snapshot);
            let figures = self.job.figures(&started, &before, &snapshot, spent);
            let moment = Moment { job: &self.job.name, figures: &figures, now, is_over };
            let tell = |rule: &Rule, change: Change, moment: &Moment<'_>| {
                let notice = notice::alert(&rule.alert, change, moment).concealed(&self.secrets);
                self.queues.put(&rule.receivers, notice);
            };
            match Alert::holds(&rule.program, &figures) {
                Ok(holds) => {
                    if let Some(change) = rule.look(holds, (monotonic, now)) {
                        tell(rule, change, &Moment { is_over: false, ..moment });
                    }
                }
                // It stands as it stood.
                Err(why) if !rule.is_told_faulty => {
                    rule.is_told_faulty = true;
                    (self.warn)(&format!("monitoring: the condition of alert `{}`: {why}", rule.alert.alert));
                }
                Err(_) => {}
            }
            if is_over && let Some(change) = rule.look(false, (monotonic, now)) {
                let moment = Moment { job: &self.job.name, figures: &figures, now, is_over };
                tell(rule, change, &moment);
            }
        }
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use bourn_engine::api::Budget;
    use bourn_engine::env::Finished;
    use bourn_engine::metrics::{StageEntry, StageRole, StageStats};
    use bourn_engine::testing::simulation::Simulation;
    use serde_json::{Value, json};

    use super::*;

    /// What was told, each with the second and the name of the rule.
    type Told = Arc<Mutex<Vec<(u64, String, Value)>>>;

    /// A world with a program that is told, and one that fails.
    fn world(told: &Told) -> Simulation {
        let (told, finished) = (told.clone(), |status| Finished {
            status: Some(status),
            signal: None,
            output: Vec::new(),
            errors: b"no luck".to_vec(),
        });
        let simulation = Simulation::new(1);
        let env = simulation.env();
        let hear = move |program: &bourn_engine::env::process::Program| {
            let document: Value = serde_json::from_slice(&program.input).unwrap();
            let one = &document["alerts"][0];
            let what = format!("{} {}", one["labels"]["alertname"].as_str().unwrap(), one["status"].as_str().unwrap());
            told.lock().unwrap().push((env.monotonic().as_secs(), what, one.clone()));
            (SECOND / 10, Ok(finished(0)))
        };
        simulation.program("tell", hear).program("fail", move |_| (SECOND / 10, Ok(finished(3))))
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks each second at a job with one stage of which `script` makes something, until that ends; what is left to say.
    fn looked<F: Future<Output = ()>>(
        simulation: &Simulation,
        rules: &[Value],
        script: impl FnOnce(Env, Arc<StageStats>) -> F,
    ) -> (Vec<String>, Vec<String>) {
        let env = simulation.env();
        let stage = Arc::new(StageStats::default());
        let entry =
            StageEntry { stage: "s".into(), kind: "test", role: StageRole::Stage, lane: 0, stats: stage.clone() };
        let stats = Arc::new(JobStats { stages: vec![entry], ..JobStats::default() });
        let mut receivers = Vec::new();
        let rule = |said: &Value| {
            let alert: Alert = serde_json::from_value(said.clone()).unwrap();
            let told = alert.notify.iter().map(|receiver| place(&mut receivers, receiver)).collect();
            let program = alert.program().unwrap();
            Rule::of(alert, program, told)
        };
        let rules = rules.iter().map(rule).collect();
        let (queues, deliveries) = queues(&receivers, &env).unwrap();
        let warned = Arc::<Mutex<Vec<String>>>::default();
        let warn = {
            let warned = warned.clone();
            move |text: &str| warned.lock().unwrap().push(text.to_owned())
        };
        let budget = Budget { tokens: Some(100), ..Budget::default() };
        let counts = Arc::new(Counts::new(env.clone()));
        let job = Job { name: "j".into(), budget, dead_letters: None, has_runs: false, counts };
        let started = Some(Started { stats, at: Duration::ZERO });
        let seen = Seen { started, spent: Usage { input_tokens: 30, ..Usage::default() } };
        let work = Work {
            job,
            rules,
            interval: SECOND,
            queues: queues.clone(),
            seen: Arc::new(Mutex::new(seen)),
            secrets: Secrets::default(),
            env: env.clone(),
            warn: Box::new(warn),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = stopped.map(drop).boxed().shared();
        let script = async {
            script(env.clone(), stage).await;
            drop(stop);
        };
        let all = join(join(work.run(stopped.clone()), deliver(deliveries, stopped.clone())), script);
        simulation.run(all).done();
        (queues.told(), lock(&warned).clone())
    }

    fn rule(alert: &str, expr: &str, rest: Value) -> Value {
        let mut said = json!({ "alert": alert, "expr": expr, "notify": [{ "exec": ["tell"] }] });
        said.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        said
    }

    #[test]
    fn a_rule_fires_once_when_it_has_held_and_is_resolved_once_or_with_the_job() {
        let told = Told::default();
        let rules = [
            rule("Rejects", ".rows.rejected > 5", json!({ "window": "10s", "for": "3s" })),
            rule("Spent", ".budget.share > 0.8", json!({})),
            rule("Never", ".rows.rejected > 5", json!({ "window": "1s", "for": "3s" })),
        ];
        let script = async |env: Env, stage: Arc<StageStats>| {
            env.sleep(SECOND * 5 / 2).await;
            stage.rows_rejected.store(10, Relaxed);
            env.sleep(SECOND * 18).await;
            stage.output_tokens.store(60, Relaxed);
            env.sleep(SECOND * 2).await;
        };
        assert_eq!(looked(&world(&told), &rules, script), (vec![], vec![]));
        let told = told.lock().unwrap();
        let all: Vec<_> = told.iter().map(|(second, what, _)| format!("{second} {what}")).collect();
        assert_eq!(all, ["6 Rejects firing", "13 Rejects resolved", "21 Spent firing", "22 Spent resolved"]);
        assert_eq!(
            (&told[0].2["figures"]["rows"]["rejected"], &told[1].2["figures"]["rows"]["rejected"]),
            (&json!(10), &json!(0))
        );
        assert_eq!(told[2].2["figures"]["budget"], json!({ "usd": 0.0, "tokens": 90, "share": 0.9 }));
        assert_eq!(told[3].2["annotations"]["resolved"], "the job has ended");
        assert_eq!(told[1].2["annotations"]["resolved"], Value::Null);
    }

    #[test]
    fn a_program_that_fails_is_told_of_and_not_run_again_and_holds_up_nobody() {
        let told = Told::default();
        let rules = [rule(
            "A",
            "true",
            json!({ "notify": [{ "exec": ["fail", "x"] }, { "exec": ["tell"] }, { "exec": ["none"] }] }),
        )];
        let script = async |env: Env, _| env.sleep(SECOND * 5).await;
        let (lost, _) = looked(&world(&told), &rules, script);
        assert_eq!(told.lock().unwrap().len(), 2);
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert_eq!(lost[0], "2 of 2 notices did not arrive at exec fail: it ended with status 3: no luck");
        assert!(lost[1].starts_with("2 of 2 notices did not arrive at exec none: "), "{}", lost[1]);
    }

    #[test]
    fn a_condition_that_can_not_be_judged_is_said_once_and_changes_nothing() {
        let told = Told::default();
        let rules = [rule("A", "if .rows.rejected == 1 then .rows else true end", json!({}))];
        let script = async |env: Env, stage: Arc<StageStats>| {
            env.sleep(SECOND * 5 / 2).await;
            stage.rows_rejected.store(1, Relaxed);
            env.sleep(SECOND * 5).await;
        };
        let (_, warned) = looked(&world(&told), &rules, script);
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(
            warned[0].starts_with("monitoring: the condition of alert `A`: this is neither true nor false: {"),
            "{}",
            warned[0]
        );
        let told: Vec<_> = told.lock().unwrap().iter().map(|(second, what, _)| format!("{second} {what}")).collect();
        assert_eq!(told, ["1 A firing", "7 A resolved"]);
    }
}
