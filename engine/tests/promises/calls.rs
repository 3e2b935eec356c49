//! Calls: as many in flight as allowed, in order if asked, tried again as the policy says, spaced as the rate says.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::limits::Retries;
use bourn_engine::api::{BuildContext, Call, CallContext, Cardinality, Limits, Operator, Order, Reply, StageConfig};
use bourn_engine::api::{Checkpointing, Checkpoints, Registry};
use bourn_engine::checkpoint::Folder;
use bourn_engine::checkpoint::recovery::find;
use bourn_engine::data::units::{Interval, Rate};
use bourn_engine::diagnostic::Problems;
use bourn_engine::error::Error;
use bourn_engine::graph::{Graph, OnError};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::testing::simulation::files::MemoryFiles;
use bourn_engine::{Engine, Kind, Result};
use futures::future::{Either, select};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{Collect, Counting, simulate, values};

/// What a service does with a number, at its n-th attempt.
type Service = fn(i64, u32) -> (Duration, Result<()>);

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Ask {
    limits: Limits,
    #[serde(skip, default = "obedient")]
    service: Service,
    #[serde(skip)]
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    in_flight: AtomicUsize,
    most: AtomicUsize,
    /// When each attempt began, with its number and its key.
    attempts: Mutex<Vec<(Duration, i64, Arc<str>)>>,
}

fn obedient() -> Service {
    |_, _| (Duration::from_millis(10), Ok(()))
}

impl Ask {
    fn new(limits: Limits, service: Service) -> Self {
        Self { limits, service, seen: Arc::default() }
    }
    fn starts(&self) -> Vec<Duration> {
        self.seen.attempts.lock().unwrap().iter().map(|a| a.0).collect()
    }
}

impl StageConfig for Ask {
    const NAME: &'static str = "ask";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::call(self.clone(), self.limits.clone()))
    }
}

struct Leave<'a>(&'a AtomicUsize);
impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Call for Ask {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let seen = &self.seen;
        let _leave = Leave(&seen.in_flight);
        seen.most.fetch_max(seen.in_flight.fetch_add(1, SeqCst) + 1, SeqCst);
        let number = values(&rows)[0];
        seen.attempts.lock().unwrap().push((context.env.monotonic(), number, context.idempotency_key.clone()));
        let mut longest = Duration::ZERO;
        let mut failure = Ok(());
        for number in values(&rows) {
            let (takes, result) = (self.service)(number, context.attempt);
            longest = longest.max(takes);
            failure = failure.and(result);
        }
        context.env.sleep(longest).await;
        failure.map(|()| Reply::rows(rows))
    }
}

fn run(ask: &Ask, rows: i64, seed: u64) -> (Result<()>, Vec<i64>, Duration) {
    let sink = Collect::default();
    let mut graph = Graph::new("ask");
    graph.source("numbers", Counting::to(rows, 50));
    graph.stage("ask", ask.clone());
    graph.sink("out", sink.clone());
    let (result, took) = simulate(seed, async |engine| {
        let start = engine.env().monotonic();
        let result = engine.run(graph).await;
        (result, engine.env().monotonic().checked_sub(start).unwrap())
    });
    (result, sink.values(), took)
}

fn limits(in_flight: usize, order: Order) -> Limits {
    Limits { in_flight, order, ..Limits::default() }
}

#[test]
fn so_many_are_in_flight_and_never_more() {
    let ask = Ask::new(limits(8, Order::Kept), |_, _| (Duration::from_millis(10), Ok(())));
    let (result, rows, took) = run(&ask, 160, 1);
    result.unwrap();
    assert_eq!(rows, (0..160).collect::<Vec<_>>());
    assert_eq!(ask.seen.most.load(SeqCst), 8);
    // 160 requests of 10 ms, 8 at a time, are 200 ms; one after the other they would be 1,600.
    assert!(took < Duration::from_millis(260), "{took:?}");
}

#[test]
fn order_is_kept_when_asked_and_a_slow_answer_holds_up_no_other_when_not() {
    let slow_first: Service = |n, _| (Duration::from_millis(if n == 0 { 500 } else { 5 }), Ok(()));
    let (_, kept, _) = run(&Ask::new(limits(8, Order::Kept), slow_first), 60, 2);
    assert_eq!(kept, (0..60).collect::<Vec<_>>());
    let (_, free, _) = run(&Ask::new(limits(8, Order::Free), slow_first), 60, 2);
    assert_eq!(free.last(), Some(&0));
    assert_eq!(free.len(), 60);
}

#[test]
fn a_transient_error_is_tried_again_with_the_same_key_and_growing_waits() {
    let flaky: Service = |_, attempt| {
        (Duration::from_millis(1), if attempt < 4 { Err(Error::new(Kind::Io, "flaky").transient()) } else { Ok(()) })
    };
    let retry = Retries {
        max_attempts: 4,
        initial_interval: Interval(Duration::from_secs(1)),
        jitter: false,
        ..Retries::default()
    };
    let ask = Ask::new(Limits { retry, ..limits(1, Order::Kept) }, flaky);
    let (result, rows, _) = run(&ask, 1, 3);
    result.unwrap();
    assert_eq!(rows, [0]);
    let starts = ask.starts();
    let waits: Vec<u64> = starts.windows(2).map(|w| w[1].checked_sub(w[0]).unwrap().as_millis() as u64).collect();
    assert_eq!(waits, [1_001, 2_001, 4_001]);
    let keys: std::collections::HashSet<_> = ask.seen.attempts.lock().unwrap().iter().map(|a| a.2.clone()).collect();
    assert_eq!(keys.len(), 1);
}

#[test]
fn a_permanent_error_is_not_tried_again_and_attempts_end() {
    let refused: Service = |_, _| (Duration::ZERO, Err(Error::new(Kind::Permission, "refused")));
    let ask = Ask::new(limits(1, Order::Kept), refused);
    assert_eq!(run(&ask, 1, 4).0.unwrap_err().message(), "refused (in the row {\"n\":0})");
    assert_eq!(ask.starts().len(), 1);
    let down: Service = |_, _| (Duration::ZERO, Err(Error::new(Kind::Io, "down").transient()));
    let ask = Ask::new(limits(1, Order::Kept), down);
    assert_eq!(run(&ask, 1, 4).0.unwrap_err().message(), "after 3 attempts: down (in the row {\"n\":0})");
    assert_eq!(ask.starts().len(), 3);
}

#[test]
fn an_answer_that_does_not_come_is_given_up_after_the_timeout() {
    let hangs: Service = |_, attempt| (Duration::from_secs(if attempt == 1 { 1_000_000 } else { 0 }), Ok(()));
    let ask = Ask::new(Limits { timeout: Interval(Duration::from_secs(5)), ..limits(1, Order::Kept) }, hangs);
    let (result, rows, took) = run(&ask, 1, 5);
    result.unwrap();
    assert_eq!(rows, [0]);
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&took), "{took:?}");
}

#[test]
fn a_wait_that_the_other_side_asks_for_is_kept_by_all_requests() {
    let busy: Service = |n, attempt| match (n, attempt) {
        (0, 1) => (Duration::ZERO, Err(Error::new(Kind::RateLimit, "busy").retry_after(Duration::from_secs(30)))),
        _ => (Duration::from_millis(1), Ok(())),
    };
    let ask = Ask::new(limits(1, Order::Free), busy);
    let (result, rows, took) = run(&ask, 20, 6);
    result.unwrap();
    assert_eq!(rows.len(), 20);
    assert!(took >= Duration::from_secs(30), "{took:?}");
    let early = ask.starts().into_iter().filter(|s| *s < Duration::from_secs(30)).count();
    assert_eq!(early, 1, "only the request that met the limit was sent before");
}

#[test]
fn a_rate_spaces_requests() {
    let ask = Ask::new(Limits { rate: Some("100/s".parse().unwrap()), ..limits(64, Order::Kept) }, obedient());
    let (result, rows, took) = run(&ask, 510, 7);
    result.unwrap();
    assert_eq!(rows.len(), 510);
    // 10 at once, then one every 10 ms.
    assert!((Duration::from_secs(5)..Duration::from_millis(5_300)).contains(&took), "{took:?}");
    let starts = ask.starts();
    assert!(starts.windows(101).all(|w| w[100].checked_sub(w[0]).unwrap() >= Duration::from_millis(890)));
}

#[test]
fn a_refused_batch_is_tried_in_halves_until_the_rows_at_fault_are_alone() {
    let picky: Service = |n, _| (Duration::ZERO, if n % 10 == 3 { Err(Error::validation("three")) } else { Ok(()) });
    let ask = Ask::new(Limits { rows: 16, ..limits(4, Order::Kept) }, picky);
    let sink = Collect::default();
    let mut graph = Graph::new("halves");
    graph.source("numbers", Counting::to(100, 50));
    graph.stage("ask", ask).on_error(OnError::Drop);
    graph.sink("out", sink.clone());
    simulate(8, async |engine| engine.run(graph).await).unwrap();
    assert_eq!(sink.values(), (0..100).filter(|n| n % 10 != 3).collect::<Vec<_>>());
}

#[test]
fn stages_that_name_a_rate_limit_keep_it_together() {
    let limits = || Limits { in_flight: 8, ..Limits::default() };
    let (first, second) = (Ask::new(limits(), obedient()), Ask::new(limits(), obedient()));
    let mut graph = Graph::new("shared");
    graph.rate_limit("api", "10/s".parse::<Rate>().unwrap());
    graph.source("numbers", Counting::to(50, 10));
    graph.stage("first", first.clone()).rate_limit("api");
    graph.stage("second", second.clone()).rate_limit("api").lanes(2);
    graph.sink("out", Collect::default());
    simulate(1, async |engine| engine.run(graph).await).unwrap();
    let mut starts = [first.starts(), second.starts()].concat();
    starts.sort_unstable();
    assert_eq!(starts.len(), 100);
    // 100 requests at ten a second, whoever makes them.
    assert!(starts[0] + Duration::from_millis(9_800) <= starts[99], "{starts:?}");
    assert!(starts.windows(12).all(|w| w[0] + Duration::from_secs(1) <= w[11]), "{starts:?}");
}

#[test]
fn a_rate_limit_that_is_not_there_is_told_with_the_nearest() {
    let mut graph = Graph::new("shared");
    graph.rate_limit("api", "10/s".parse::<Rate>().unwrap());
    graph.source("numbers", Counting::to(1, 1));
    graph.stage("ask", Ask::new(Limits::default(), obedient())).rate_limit("apy");
    graph.sink("out", Collect::default());
    let problems = simulate(1, async |engine| engine.plan(graph).await.err().unwrap());
    let told = &problems.0[0];
    assert_eq!(
        (told.message.as_str(), told.help.as_deref()),
        ("there is no rate limit `apy`", Some("did you mean `api`?"))
    );
}

/// A job of this graph with checkpoints in these files, let alone for so long and then cut off.
fn cut_off(files: &MemoryFiles, ask: &Ask, sink: &Collect, after: Duration) -> Result<()> {
    let simulation = Simulation::new(1).over(files.clone());
    let engine = Engine::new(Registry::new()).with_env(simulation.env());
    let mut graph = Graph::new("ask");
    graph.source("numbers", Counting { every: Duration::from_millis(1), endless: true, ..Counting::to(200, 10) });
    graph.stage("ask", ask.clone());
    graph.sink("out", sink.clone());
    graph.options.epoch_every = Some(Duration::from_millis(100));
    graph.options.checkpoints = Checkpointing::On(Checkpoints::in_folder("checkpoints"));
    let outcome = simulation.run(async {
        let job = engine.start(engine.plan(graph).await.unwrap()).await?;
        match select(pin!(job.wait()), engine.env().sleep(after)).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) => Ok(()),
        }
    });
    outcome.done()
}

#[test]
fn a_checkpoint_waits_for_no_request_and_a_restart_sends_it_again_with_its_key() {
    let (files, sink) = (MemoryFiles::default(), Collect { transactional: true, ..Collect::default() });
    // Every fifth one does not come back.
    let hangs: Service = |n, _| (Duration::from_secs(if n % 5 == 0 { 3600 } else { 0 }), Ok(()));
    let limits = Limits { timeout: Interval(Duration::from_hours(2)), ..limits(64, Order::Free) };
    let stuck = Ask::new(limits.clone(), hangs);
    cut_off(&files, &stuck, &sink, Duration::from_secs(10)).unwrap();
    let prepared = sink.log.said().iter().filter(|l| l.starts_with("prepare")).count();
    assert!(prepared > 50, "{prepared} epochs in ten seconds");
    let key_of = |ask: &Ask| -> BTreeMap<i64, Arc<str>> {
        ask.seen.attempts.lock().unwrap().iter().map(|(_, n, key)| (*n, key.clone())).collect()
    };
    let in_flight: Vec<i64> = key_of(&stuck).into_keys().filter(|n| n % 5 == 0).collect();
    assert_eq!(in_flight, (0..40).map(|n| n * 5).collect::<Vec<_>>());
    assert_eq!(sink.sorted(), (0..200).filter(|n| n % 5 != 0).collect::<Vec<_>>());

    let answers = Ask::new(limits, obedient());
    cut_off(&files, &answers, &sink, Duration::from_secs(10)).unwrap();
    assert_eq!(sink.sorted(), (0..200).collect::<Vec<_>>());
    let (before, after) = (key_of(&stuck), key_of(&answers));
    let again: Vec<_> = after.keys().copied().collect();
    assert_eq!(again, in_flight, "what was answered is not asked for again");
    for n in in_flight {
        assert_eq!(before[&n], after[&n], "the key of {n}");
    }
}

#[test]
fn a_checkpoint_forgets_requests_that_were_answered_though_nothing_else_has_changed() {
    let files = MemoryFiles::default();
    let slow = Ask::new(limits(256, Order::Free), |_, _| (Duration::from_millis(500), Ok(())));
    let kept = |after| {
        cut_off(&files, &slow, &Collect::default(), after).unwrap();
        let world = Simulation::new(0).over(files.clone());
        let found = find(&Folder::new(world.env(), Path::new("checkpoints"), "ask")).unwrap();
        found.complete.last().unwrap().nodes["ask"].pieces.iter().map(|p| p.chunks.len()).sum::<usize>()
    };
    assert_eq!(kept(Duration::from_millis(200)), 200);
    assert_eq!(kept(Duration::from_secs(10)), 0);
}

/// What is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_checkpoint_that_does_not_come_together_says_what_it_waits_for() {
    // Every request that may be in flight hangs, so no row and no barrier gets through.
    let limits = Limits { timeout: Interval(Duration::from_hours(2)), ..limits(2, Order::Free) };
    let hangs = Ask::new(limits, |_, _| (Duration::from_hours(1), Ok(())));
    let logged = Logged::default();
    let writer = logged.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(log, || {
        cut_off(&MemoryFiles::default(), &hangs, &Collect::default(), Duration::from_secs(200)).unwrap();
    });
    let said = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = said.lines().filter(|l| l.contains("checkpoint 1 has waited")).collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].ends_with("has waited 1m for `ask`, `out`; nothing is safe behind the one before it"), "{said}");
}

#[test]
fn without_checkpoints_an_epoch_waits_for_its_requests() {
    let sink = Collect::default();
    let ask = Ask::new(limits(8, Order::Free), |_, _| (Duration::from_secs(10), Ok(())));
    let mut graph = Graph::new("ask");
    graph.source("numbers", Counting::to(1, 1));
    graph.stage("ask", ask);
    graph.sink("out", sink.clone());
    graph.options.epoch_every = Some(Duration::from_millis(100));
    simulate(1, async |engine| engine.run(graph).await).unwrap();
    let prepared = sink.log.said().iter().filter(|l| l.starts_with("prepare")).count();
    assert!(prepared < 5, "{prepared} epochs while a request was in flight");
}
