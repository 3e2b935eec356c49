//! Limits of a service, said, told or hidden: no row is lost, next to none is refused, and no time is wasted.
//!
//! The service is simulated in virtual time: token buckets of requests and tokens that fill up all the time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::call::{RemoteLimit, RemoteLimits};
use bourn_engine::api::{
    BuildContext, Call, CallContext, Cardinality, Limits, Operator, Order, Reply, SharedLimits, StageConfig, Usage,
};
use bourn_engine::diagnostic::Problems;
use bourn_engine::error::Error;
use bourn_engine::graph::Graph;
use bourn_engine::{Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{Collect, Counting, simulate, values};

const ROWS: i64 = 10_000;
/// What a request reads, and what it may write at most.
const INPUT: u64 = 200;
const OUTPUT_MAX: u64 = 1_000;

/// What a service allows: in a minute, and how many seconds of it at once.
#[derive(Clone, Copy, Default)]
struct Allows {
    requests: f64,
    output_tokens: f64,
    burst: f64,
    hidden: bool,
    /// The most that it works on at once; more is answered 529.
    at_once: usize,
    /// The number of a row that is refused for once, though there is no limit.
    refuses: Option<i64>,
    /// One in about so many requests is refused, whatever their rate.
    one_in: u64,
    /// The limit of requests holds from this second on, and no other one is refused.
    from: f64,
}

#[derive(Default)]
struct Seen {
    /// What is left of requests and tokens, and when that was so.
    level: Option<[f64; 2]>,
    at: f64,
    at_work: usize,
    asked: u64,
    answered: u64,
    limited: u64,
    overloaded: u64,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Ask {
    limits: Limits,
    #[serde(skip)]
    allows: Arc<Allows>,
    #[serde(skip)]
    seen: Arc<Mutex<Seen>>,
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

/// What the question of this number is answered with.
fn written(number: i64) -> u64 {
    20 + (number as u64).wrapping_mul(7_919) % 61
}

impl Ask {
    /// Whether it is let in, as the service sees it.
    fn admit(&self, number: i64, now: f64) -> Result<RemoteLimits> {
        let Allows { requests, output_tokens, burst, hidden, at_once, refuses, one_in, from } = *self.allows;
        let mut seen = self.seen.lock().unwrap();
        if refuses == Some(number) && seen.limited == 0 {
            seen.limited += 1;
            return Err(Error::new(Kind::RateLimit, "429").retry_after(Duration::from_secs(1)));
        }
        seen.asked += 1;
        if one_in > 0
            && (from == 0.0 || now < from)
            && (seen.asked.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33).is_multiple_of(one_in)
        {
            seen.limited += 1;
            return Err(Error::new(Kind::RateLimit, "429").retry_after(Duration::from_secs(1)));
        }
        let requests = if now < from { 0.0 } else { requests };
        let (rates, needs) = ([requests / 60.0, output_tokens / 60.0], [1.0, written(number) as f64]);
        let full = rates.map(|rate| rate * burst);
        let mut level = seen.level.unwrap_or(full);
        for what in 0..2 {
            level[what] = (level[what] + (now - seen.at) * rates[what]).min(full[what]);
        }
        (seen.level, seen.at) = (Some(level), now);
        let lacks = (0..2).filter(|what| rates[*what] > 0.0 && level[*what] < needs[*what]);
        if let Some(wait) = lacks.map(|what| (needs[what] - level[what]) / rates[what]).max_by(f64::total_cmp) {
            seen.limited += 1;
            let wait = Duration::from_secs_f64(wait.ceil().max(1.0));
            return Err(Error::new(Kind::RateLimit, "429").retry_after(wait));
        }
        if at_once > 0 && seen.at_work >= at_once {
            seen.overloaded += 1;
            return Err(Error::new(Kind::Overloaded, "529"));
        }
        level.iter_mut().zip(needs).for_each(|(level, need)| *level -= need);
        seen.level = Some(level);
        seen.at_work += 1;
        let told = |per_minute: f64, left: f64| RemoteLimit {
            per_minute: (per_minute > 0.0 && !hidden).then_some(per_minute as u64),
            remaining: (per_minute > 0.0 && !hidden).then_some(left as u64),
            reset: None,
        };
        let (requests, output_tokens) = (told(requests, level[0]), told(output_tokens, level[1]));
        Ok(RemoteLimits { requests, output_tokens, ..RemoteLimits::default() })
    }
}

impl Call for Ask {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let number = values(&rows)[0];
        let admitted = self.admit(number, context.env.monotonic().as_secs_f64());
        // A refusal comes at once, an answer takes its time.
        let takes = if admitted.is_ok() { 300 + (number as u64 * 31) % 200 } else { 20 };
        context.env.sleep(Duration::from_millis(takes)).await;
        let limits = admitted?;
        let mut seen = self.seen.lock().unwrap();
        seen.at_work -= 1;
        seen.answered += 1;
        let usage = Usage { input_tokens: INPUT, output_tokens: written(number), usd: 0.0 };
        Ok(Reply { usage, limits: Some(Box::new(limits)), ..Reply::rows(rows) })
    }

    fn estimate(&self, _: &RecordBatch) -> Usage {
        Usage { input_tokens: INPUT, output_tokens: OUTPUT_MAX, usd: 0.0 }
    }
}

/// What came of ten thousand rows.
#[derive(Debug)]
struct Came {
    took: f64,
    limited: u64,
    overloaded: u64,
}

fn run(allows: Allows, limits: Limits) -> Came {
    let ask = Ask { limits, allows: Arc::new(allows), seen: Arc::default() };
    let sink = Collect::default();
    let mut graph = Graph::new("ask");
    graph.source("numbers", Counting::to(ROWS, 500));
    graph.stage("ask", ask.clone());
    graph.sink("out", sink.clone());
    let (result, took) = simulate(1, async |engine| {
        let start = engine.env().monotonic();
        let result = engine.run(graph).await;
        (result, engine.env().monotonic().checked_sub(start).unwrap())
    });
    result.unwrap();
    assert_eq!(sink.sorted(), (0..ROWS).collect::<Vec<_>>(), "a row was lost");
    let seen = ask.seen.lock().unwrap();
    assert_eq!(seen.answered, ROWS as u64, "an answer was paid for twice");
    let (limited, overloaded) = (seen.limited, seen.overloaded);
    Came { took: took.as_secs_f64(), limited, overloaded }
}

fn adaptive() -> Limits {
    Limits { in_flight: 64, order: Order::Free, adaptive: Some(true), ..Limits::default() }
}

/// Less than one in a hundred is refused, and it takes at most a tenth more than the limits ask for.
#[track_caller]
fn fits(came: &Came, ideal: f64) {
    assert!(came.limited * 100 < ROWS as u64, "{came:?}");
    assert!(came.took < ideal * 1.1 && came.took > ideal * 0.99, "{came:?}, where {ideal} would do");
}

#[test]
fn a_hidden_limit_of_requests_is_found_and_kept() {
    for (requests, burst) in [(600.0, 60.0), (600.0, 1.0), (3_000.0, 5.0), (120.0, 10.0)] {
        let came = run(Allows { requests, burst, hidden: true, ..Allows::default() }, adaptive());
        fits(&came, (ROWS as f64 - requests / 60.0 * burst) / (requests / 60.0));
    }
}

#[test]
fn one_refusal_without_a_limit_costs_some_seconds() {
    // 64 at once, 400 ms each: 62.5 s without a refusal.
    for refuses in [0, 40, 500, 5_000] {
        let came = run(Allows { refuses: Some(refuses), ..Allows::default() }, adaptive());
        assert!(came.limited == 1 && came.took < 70.0, "{refuses}: {came:?}");
    }
}

#[test]
fn refusals_that_no_limit_is_behind_are_told_from_a_limit() {
    // 64 at once, 400 ms each and a second more for each refusal: 80 s, and some until it is sure that there is no limit. It
    // took thousands when each refusal was one.
    for (one_in, most) in [(10, 115.0), (4, 170.0)] {
        let came = run(Allows { one_in, ..Allows::default() }, adaptive());
        assert!(came.took < most, "one in {one_in}: {came:?}");
    }
}

#[test]
fn a_limit_that_comes_after_refusals_without_one_is_found() {
    let allows = Allows { one_in: 10, requests: 600.0, burst: 1.0, hidden: true, from: 40.0, ..Allows::default() };
    let came = run(allows, adaptive());
    // Much has been done by then, and the rest at what the limit allows.
    assert!(came.took < ROWS as f64 / 10.0 * 1.1 && came.limited < 1_000, "{came:?}");
}

#[test]
fn a_hidden_limit_of_tokens_is_found_and_kept() {
    let allows = Allows { output_tokens: 60_000.0, burst: 10.0, hidden: true, ..Allows::default() };
    let came = run(allows, adaptive());
    let tokens: u64 = (0..ROWS).map(written).sum();
    fits(&came, (tokens as f64 - 10_000.0) / 1_000.0);
}

#[test]
fn what_headers_tell_is_used_up_and_not_passed() {
    let allows = Allows { requests: 1_200.0, output_tokens: 90_000.0, burst: 60.0, ..Allows::default() };
    let came = run(allows, adaptive());
    fits(&came, (ROWS as f64 - 1_200.0) / 20.0);
}

#[test]
fn what_the_spec_says_is_kept_from_the_first_request_on() {
    let allows = Allows { requests: 1_200.0, output_tokens: 48_000.0, burst: 1.5, hidden: true, ..Allows::default() };
    let limits = Limits { requests_per_minute: Some(1_200), output_tokens_per_minute: Some(48_000), ..adaptive() };
    let came = run(allows, limits);
    let tokens: u64 = (0..ROWS).map(written).sum();
    fits(&came, (tokens as f64 / 800.0).max(ROWS as f64 / 20.0));
}

#[test]
fn a_service_that_is_overloaded_gets_fewer_at_once() {
    let retry = bourn_engine::api::limits::Retries { max_attempts: 30, ..Default::default() };
    let allows = Allows { at_once: 16, ..Allows::default() };
    let came = run(allows, Limits { retry: retry.clone(), ..adaptive() });
    let unheeding = run(allows, Limits { adaptive: None, retry, ..adaptive() });
    assert!(came.overloaded * 3 < unheeding.overloaded, "{came:?} {unheeding:?}");
    // 16 at once of 0.4 s each, on average.
    assert!(came.took < 10_000.0 * 0.4 / 16.0 * 1.35, "{came:?}");
}

#[test]
fn stages_that_name_a_limit_of_tokens_keep_it_together() {
    let allows = Allows { output_tokens: 48_000.0, burst: 1.5, hidden: true, ..Allows::default() };
    // They say nothing of tokens themselves, and share a service.
    let limits = Limits { in_flight: 64, order: Order::Free, ..Limits::default() };
    let ask = Ask { limits, allows: Arc::new(allows), seen: Arc::default() };
    let (mut graph, sink) = (Graph::new("ask"), Collect::default());
    graph.rate_limit("service", SharedLimits { output_tokens_per_minute: Some(48_000), ..SharedLimits::default() });
    graph.source("numbers", Counting::to(ROWS / 2, 500));
    graph.stage("first", ask.clone()).rate_limit("service");
    graph.stage("second", ask.clone()).rate_limit("service");
    graph.sink("out", sink.clone());
    let (result, took) = simulate(1, async |engine| {
        let start = engine.env().monotonic();
        let result = engine.run(graph).await;
        (result, engine.env().monotonic().checked_sub(start).unwrap())
    });
    result.unwrap();
    assert_eq!(sink.sorted(), (0..ROWS / 2).collect::<Vec<_>>(), "a row was lost");
    let tokens: u64 = 2 * (0..ROWS / 2).map(written).sum::<u64>();
    let came = Came { took: took.as_secs_f64(), limited: ask.seen.lock().unwrap().limited, overloaded: 0 };
    fits(&came, tokens as f64 / 800.0);
}
