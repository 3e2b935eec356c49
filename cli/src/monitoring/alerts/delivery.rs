//! Receivers, each with a queue of its own, so that one that is gone holds up nobody.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bourn_engine::data::secret::Secret;
use bourn_engine::env::process::Program;
use bourn_engine::env::{Env, process};
use bourn_engine::spec::receiver::Receiver;
use bourn_http::SharedClient;
use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::{join_all, select};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::super::post::{Posting, Refused, post};
use super::super::sending::Stopped;
use super::super::settings::{TIMEOUT, Target};
use super::notice::Notice;

/// How many notices wait for a receiver.
const WAITING_MAX: usize = 1_024;
/// How long a receiver is left alone that has failed; each time twice as long.
const REST: Duration = Duration::from_secs(1);
/// No longer than this.
const REST_MAX: Duration = Duration::from_secs(30);
/// How long a program may take.
const PROGRAM: Duration = Duration::from_mins(1);
/// The most that is kept of what it writes.
const WRITTEN_MAX: usize = 64 << 10;

/// Where notices are put. A clone is the same.
#[derive(Clone)]
pub struct Queues(Arc<Vec<Queue>>);

struct Queue {
    /// As it may be shown.
    name: String,
    notices: Mutex<mpsc::Sender<Arc<Notice>>>,
    put: AtomicU64,
    taken: AtomicU64,
    /// What went wrong last.
    why: Mutex<Option<String>>,
}

/// A receiver, and what waits for it.
pub struct Delivery {
    queues: Queues,
    at: usize,
    way: Way,
    waiting: mpsc::Receiver<Arc<Notice>>,
    env: Env,
}

enum Way {
    Post { client: SharedClient, to: Target, is_slack: bool },
    Run(Vec<String>),
}

/// Queues of these receivers, and their other ends.
///
/// # Errors
/// When one of them can't be told anything. Values are not repeated: there may be secrets in them.
pub fn queues(receivers: &[Receiver], env: &Env) -> Result<(Queues, Vec<Delivery>), String> {
    let mut made = Vec::new();
    for receiver in receivers {
        let (name, way) = way(receiver)?;
        // Each sender has one place beside those of all.
        let (notices, waiting) = mpsc::channel(WAITING_MAX - 1);
        let queue = Queue {
            name,
            notices: Mutex::new(notices),
            put: AtomicU64::default(),
            taken: AtomicU64::default(),
            why: Mutex::default(),
        };
        made.push((queue, way, waiting));
    }
    let (all, ways): (Vec<_>, Vec<_>) = made.into_iter().map(|(queue, way, waiting)| (queue, (way, waiting))).unzip();
    let queues = Queues(Arc::new(all));
    let delivery = |(at, (way, waiting))| Delivery { queues: queues.clone(), at, way, waiting, env: env.clone() };
    let deliveries = ways.into_iter().enumerate().map(delivery).collect();
    Ok((queues, deliveries))
}

fn way(receiver: &Receiver) -> Result<(String, Way), String> {
    let (kind, url) = match (&receiver.webhook, &receiver.slack, &receiver.exec) {
        (_, _, Some(argv)) => {
            let program = argv.first().map_or("", String::as_str);
            return Ok((format!("exec {program}"), Way::Run(argv.clone())));
        }
        (Some(url), ..) => ("webhook", url),
        (None, url, None) => ("slack", url.as_ref().ok_or("a receiver is one of `webhook`, `slack` and `exec`")?),
    };
    let url = Url::parse(url.expose()).ok().filter(Url::has_host).ok_or_else(|| format!("a `{kind}` is no URL"))?;
    // Where it leads to on its host may be what gives the right to write there.
    let name = format!("{kind} {}", url.origin().ascii_serialization());
    let header = |(name, value): (&String, &Secret)| {
        let mut value = HeaderValue::try_from(value.expose()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    };
    let headers: Option<HeaderMap> = receiver.headers.iter().map(header).collect();
    let headers = headers.ok_or("a `webhook` has a header that can't be sent")?;
    let to = Target { url, headers, timeout: TIMEOUT };
    Ok((name, Way::Post { client: SharedClient::default(), to, is_slack: kind == "slack" }))
}

impl Queues {
    /// Puts something in for these receivers. It never waits: what does not fit is lost.
    pub fn put(&self, receivers: &[usize], notice: Notice) {
        let notice = Arc::new(notice);
        for queue in receivers.iter().map(|at| &self.0[*at]) {
            queue.put.fetch_add(1, Relaxed);
            let _full_or_over = lock(&queue.notices).try_send(notice.clone());
        }
    }

    /// Nothing more is put in.
    pub fn close(&self) {
        self.0.iter().for_each(|queue| lock(&queue.notices).close_channel());
    }

    /// What is said of what did not arrive, for each receiver.
    pub fn told(&self) -> Vec<String> {
        let lost = self.0.iter().filter_map(|queue| {
            let (put, taken) = (queue.put.load(Relaxed), queue.taken.load(Relaxed));
            let why = lock(&queue.why).clone().unwrap_or_else(|| "there was no time left".to_owned());
            (taken < put).then(|| format!("{} of {put} notices did not arrive at {}: {why}", put - taken, queue.name))
        });
        lost.collect()
    }
}

/// Tells all receivers what they are to be told, until nothing more is put in.
pub async fn deliver(all: Vec<Delivery>, stopped: Stopped) {
    join_all(all.into_iter().map(|delivery| delivery.run(stopped.clone()))).await;
}

impl Delivery {
    async fn run(mut self, stopped: Stopped) {
        while let Some(notice) = self.waiting.next().await {
            let mut rest = REST;
            while let Err(Refused { why, is_passing }) = self.tell(&notice).await {
                let is_over = stopped.peek().is_some();
                self.failed(why);
                if !is_passing || is_over {
                    break;
                }
                let _rested = select(stopped.clone(), self.env.sleep(rest)).await;
                rest = (rest * 2).min(REST_MAX);
            }
        }
    }

    fn failed(&self, why: String) {
        let queue = &self.queues.0[self.at];
        let mut last = lock(&queue.why);
        if last.is_none() {
            tracing::info!("monitoring: {}: {why}", queue.name);
        }
        *last = Some(why);
    }

    async fn tell(&self, notice: &Notice) -> Result<(), Refused> {
        let told = match &self.way {
            Way::Post { client, to, is_slack } => {
                let body = if *is_slack { json!({ "text": notice.text }) } else { notice.document.clone() };
                let posting = Posting {
                    to,
                    shown: to.url.origin().ascii_serialization(),
                    content_type: "application/json",
                    bytes: body.to_string().into_bytes(),
                    // As for every other service: it is too busy, or was.
                    passing: |status| matches!(status, 408 | 425 | 429 | 500 | 502..=504),
                };
                post(client, posting).await.map(drop)
            }
            Way::Run(argv) => self.run_program(argv, notice).await,
        };
        told.inspect(|()| {
            self.queues.0[self.at].taken.fetch_add(1, Relaxed);
        })
    }

    /// A program that has failed may have done something, so it is not run again.
    async fn run_program(&self, argv: &[String], notice: &Notice) -> Result<(), Refused> {
        let program = Program {
            argv: argv.to_vec(),
            input: notice.document.to_string().into_bytes(),
            variables: Vec::new(),
            clear_variables: false,
            output_max: WRITTEN_MAX,
            timeout: PROGRAM,
            heard: process::Heard::default(),
        };
        let never = |why: String| Refused { why, is_passing: false };
        let finished = self.env.run(program).await.map_err(|e| never(e.to_string()))?;
        if finished.status == Some(0) {
            return Ok(());
        }
        let mut why = match (finished.status, finished.signal) {
            (Some(status), _) => format!("it ended with status {status}"),
            (None, signal) => format!("signal {} has ended it", signal.unwrap_or_default()),
        };
        let said = String::from_utf8_lossy(&finished.errors);
        if let Some(line) = said.lines().rev().find(|line| !line.trim().is_empty()) {
            let _never_fails = write!(why, ": {}", line.trim());
        }
        Err(never(why))
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
