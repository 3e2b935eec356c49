//! Workflows under torture: a job of many runs is killed again and again, and goes on until all of them have ended.

mod check;
mod report;
mod scenario;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bourn_engine::env::points;
use bourn_engine::journal::RunState;
use bourn_engine::{Engine, Error};
use bourn_journal::{Ended, Sqlite};
use futures::future::{Either, select};
use serde::Deserialize;
use serde_json::Value;

use super::child::{self, End, Kill, Outcome, Program};
use super::draw::Draw;
use super::{PATIENCE, Place, UNTOUCHED_MAX, finish, make, remove, shows};
use crate::failure::{Exit, Failure};
use crate::given;
use crate::screen::Screen;
use crate::torture::args::Torture;
use check::{Checker, Left};
use report::{Killed, Report, Requests};
use scenario::{Asked, REQUESTS, Service};

/// Kills come within this part of the time that a calm job takes, so that a job is not over behind a few of them, and within a second at
/// least: one that goes on reads what there is first.
const PART: u32 = 4;
const WINDOW: Duration = Duration::from_secs(1);
/// Runs of a job of the scenario.
const RUNS: u64 = 1_000;
const JOURNAL: &str = "journal.db";
const PRINTED: &str = "documents.jsonl";

/// What is tortured.
struct Subject {
    /// The spec of somebody's own; none for the scenario.
    spec: Option<String>,
    /// What a process is told, but for its journal.
    arguments: Vec<OsString>,
    /// Runs of a job.
    runs: u64,
    /// What its steps ask, if that is ours.
    service: Option<Service>,
}

/// What of a document is looked at.
#[derive(Debug, PartialEq, Deserialize)]
struct Document {
    run_id: String,
    status: RunState,
    #[serde(default)]
    final_output: Value,
}

/// Tortures the workflow of the scenario.
///
/// # Errors
/// When a flag is for something else, or the disk fails.
pub async fn scenario(args: &Torture, engine: &Engine, screen: &Screen) -> Result<Exit, Failure> {
    refuse(&[("--inputs", args.inputs.is_some()), ("--mock", args.mock), ("--every", args.every.is_some())], "a spec")?;
    let (seed, service) = (seed(args, engine), Service::default());
    let place = Place::take(args, seed)?;
    make(&place.path).map_err(Failure::Failed)?;
    let failed = |e: std::io::Error| Failure::Failed(e.into());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let url = format!("http://{}/do", listener.local_addr().map_err(failed)?);
    let (runs, spec, inputs) =
        (args.runs.unwrap_or(RUNS), place.path.join("effects.json"), place.path.join("inputs.jsonl"));
    write(&spec, &format!("{:#}\n", scenario::spec(&url)))?;
    write(&inputs, &scenario::inputs(runs))?;
    let arguments = vec!["run".into(), spec.into(), "--inputs".into(), inputs.into(), "--quiet".into()];
    let subject = Subject { spec: None, arguments, runs, service: Some(service.clone()) };
    let serving = async { axum::serve(listener, service.routes()).await };
    match select(pin!(serving), pin!(tortured(args, engine, screen, &subject, (seed, &place)))).await {
        Either::Left((ended, _)) => Err(Failure::Failed(
            ended.err().map_or_else(|| Error::engine("the service of the scenario ended before its time"), Error::from),
        )),
        Either::Right((report, _)) => told(&report?, args, &place, screen),
    }
}

/// Tortures a workflow of somebody's own.
///
/// # Errors
/// When it has no inputs or keeps no journal, a flag is for something else, or the disk fails.
pub async fn own(spec: &str, args: &Torture, engine: &Engine, screen: &Screen) -> Result<Exit, Failure> {
    let flags = [("--runs", args.runs.is_some()), ("--every", args.every.is_some())];
    refuse(&flags, "something else than a workflow of your own")?;
    let Some(inputs) = args.inputs.as_deref().filter(|path| *path != "-") else {
        let message = format!("{spec} is a workflow: `--inputs FILE` says what its runs are given, a line for each");
        return Err(Failure::invalid(message));
    };
    let text = given::Text::read(inputs)?.text;
    let runs = text.lines().filter(|line| !line.trim().is_empty()).count() as u64;
    if runs == 0 {
        return Err(Failure::invalid(format!("{inputs} has no line, so there is nothing to kill")));
    }
    let mut arguments: Vec<OsString> =
        ["run", spec, "--inputs", inputs, "--quiet"].into_iter().map(OsString::from).collect();
    arguments.extend(args.mock.then(|| "--mock".into()));
    let seed = seed(args, engine);
    let place = Place::take(args, seed)?;
    let subject = Subject { spec: Some(spec.to_owned()), arguments, runs, service: None };
    let report = tortured(args, engine, screen, &subject, (seed, &place)).await?;
    told(&report, args, &place, screen)
}

fn seed(args: &Torture, engine: &Engine) -> u64 {
    args.seed.unwrap_or_else(|| engine.env().random() >> 32)
}

/// Refuses flags that say nothing here.
fn refuse(flags: &[(&str, bool)], what: &str) -> Result<(), Failure> {
    match flags.iter().find(|(_, is_said)| *is_said) {
        Some((flag, _)) => Err(Failure::invalid(format!("{flag} is for {what}"))),
        None => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    #[expect(clippy::disallowed_methods, reason = "it is written for processes that are no part of this one")]
    std::fs::write(path, text).map_err(|e| Failure::Failed(Error::from(e).context(path.display())))
}

fn told(report: &Report, args: &Torture, place: &Place, screen: &Screen) -> Result<Exit, Failure> {
    let again = match (&args.spec, &args.inputs) {
        (Some(spec), Some(inputs)) => format!("bourn torture {spec} --inputs {inputs}"),
        _ => format!("bourn torture --runs {}", report.runs),
    };
    finish(args, (report, report.text(&again), report.is_well()), place, screen)
}

async fn tortured(
    args: &Torture,
    engine: &Engine,
    screen: &Screen,
    subject: &Subject,
    (seed, place): (u64, &Place),
) -> Result<Report, Failure> {
    let report = Torturer::begin(args, engine, screen, subject, &place.path, seed).await.map_err(Failure::Failed)?;
    let report = report.all().await.map_err(Failure::Failed)?;
    screen.bar().finish_and_clear();
    Ok(report)
}

/// The work, as far as it has come.
struct Torturer<'a> {
    args: &'a Torture,
    engine: &'a Engine,
    screen: &'a Screen,
    subject: &'a Subject,
    folder: &'a Path,
    draw: Draw,
    /// The documents of the job that nobody disturbed, in their order.
    calm: Vec<Document>,
    checker: Checker,
    report: Report,
}

impl<'a> Torturer<'a> {
    /// Runs a job once without a disturbance.
    async fn begin(
        args: &'a Torture,
        engine: &'a Engine,
        screen: &'a Screen,
        subject: &'a Subject,
        folder: &'a Path,
        seed: u64,
    ) -> Result<Self, Error> {
        let report = Report {
            spec: subject.spec.clone(),
            seed,
            runs: subject.runs,
            jobs: 0,
            resumed: 0,
            calm_ms: 0,
            seconds: 0,
            points: Vec::new(),
            steps: 0,
            requests: subject.service.is_some().then(Requests::default),
            lost: 0,
            duplicated_commits: 0,
            faults: Vec::new(),
            kills: Vec::new(),
        };
        let draw = Draw::new(seed, args.kills, &points::OF_RUNS);
        let (calm, checker) = (Vec::new(), Checker::default());
        let mut new = Self { args, engine, screen, subject, folder, draw, calm, checker, report };
        let calm = folder.join("calm");
        make(&calm)?;
        let Outcome { end, points, time } = new.process(&calm, None, args.calm_max).await?;
        if let End::Badly(said) | End::Late(said) = end {
            return Err(Error::engine(format!("nobody disturbed it, and {said}")));
        }
        new.draw.met(&points);
        if points.is_empty() {
            return Err(Error::unsupported(
                "this workflow keeps no journal, so there is nothing that a kill must not take",
            ));
        }
        new.report.calm_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        new.calm = printed(&calm)?;
        if new.calm.len() as u64 != subject.runs {
            let message =
                format!("nobody disturbed it, and {} of {} runs have a document", new.calm.len(), subject.runs);
            return Err(Error::engine(message));
        }
        subject.service.iter().for_each(|service| drop(service.take()));
        shows(screen, args.kills);
        Ok(new)
    }

    async fn process(&self, folder: &Path, kill: Option<&Kill>, limit: Duration) -> Result<Outcome, Error> {
        let mut arguments = self.subject.arguments.clone();
        arguments.extend(["--journal".into(), folder.join(JOURNAL).into()]);
        let (directory, documents) = (std::env::current_dir()?, folder.join(PRINTED));
        let program = Program { folder, directory: Some(&directory), arguments, printed: Some(&documents) };
        child::run(program, kill, limit, self.engine.env()).await
    }

    fn left(&self) -> u64 {
        self.args.kills.saturating_sub(self.report.kills.len() as u64)
    }

    fn is_well(&self) -> bool {
        self.report.faults.is_empty() && self.checker.faults.is_empty()
    }

    /// Begins jobs until there were kills enough, or something is wrong.
    async fn all(mut self) -> Result<Report, Error> {
        let start = self.engine.env().monotonic();
        let mut untouched = 0;
        while self.left() > 0 && self.is_well() {
            let before = self.left();
            self.job().await?;
            untouched = if self.left() == before { untouched + 1 } else { 0 };
            if untouched >= UNTOUCHED_MAX {
                let message =
                    format!("{untouched} jobs in a row ended before they could be killed: give them more runs");
                self.report.faults.push(message);
            }
        }
        let mut report = self.report;
        report.points = self.draw.by_point();
        report.seconds = self.engine.env().monotonic().saturating_sub(start).as_secs();
        (report.lost, report.duplicated_commits) = (self.checker.lost, self.checker.doubled);
        report.faults.extend(self.checker.faults);
        Ok(report)
    }

    /// One job, from its beginning to its end.
    async fn job(&mut self) -> Result<(), Error> {
        self.report.jobs += 1;
        self.checker.begin_anew();
        let folder = self.folder.join("torn").join(self.report.jobs.to_string());
        make(&folder)?;
        let calm = Duration::from_millis(self.report.calm_ms);
        let (limit, window) = (PATIENCE.max(10 * calm), (calm / PART).max(WINDOW).min(calm));
        for start in 0_u64.. {
            self.report.resumed += u64::from(start > 0);
            let before = self.checker.steps();
            let kill = (self.left() > 0).then(|| self.draw.next(window, self.left(), true));
            let outcome = self.process(&folder, kill.as_ref(), limit).await?;
            self.draw.met(&outcome.points);
            let (documents, is_over) = self.look(&folder)?;
            match (outcome.end, kill) {
                (End::Killed, Some(kill)) => {
                    self.note(&kill, &outcome.points);
                    // Its process had nothing left to do but to end, and another one would begin a job of its own.
                    if is_over {
                        self.ended(&documents);
                        break;
                    }
                }
                (End::Killed | End::Well, _) => {
                    self.ended(&documents);
                    break;
                }
                // It did not hang: the machine is slower than it was, and the next process goes on.
                (End::Late(_), _) if self.checker.steps() > before => {}
                (End::Badly(said) | End::Late(said), _) => {
                    self.fault(&said);
                    break;
                }
            }
            if !self.is_well() {
                break;
            }
        }
        self.report.steps += self.checker.steps();
        if self.is_well() { remove(&folder) } else { Ok(()) }
    }

    fn fault(&mut self, what: &str) {
        let after = self.report.kills.last().map_or_else(String::new, |k| format!(" (the last was {})", k.line()));
        self.report.faults.push(format!("job {}{after}: {what}", self.report.jobs));
    }

    fn note(&mut self, kill: &Kill, told: &[String]) {
        self.draw.killed(kill);
        let killed = Killed {
            number: self.report.kills.len() as u64 + 1,
            job: self.report.jobs,
            at: kill.to_string(),
            behind: told.last().cloned(),
            steps: self.checker.steps(),
        };
        if self.args.verbose {
            self.screen.say(&killed.line());
        }
        self.report.kills.push(killed);
        self.screen.bar().set_position(self.report.kills.len() as u64);
    }

    /// Looks at what a process has left, and returns the documents that it has printed, and whether the job is over.
    fn look(&mut self, folder: &Path) -> Result<(Vec<Document>, bool), Error> {
        let documents = printed(folder)?;
        let told: Vec<_> = documents.iter().map(|document| (document.run_id.clone(), document.status)).collect();
        let (ended, asked) = (ended(folder, self.engine)?, self.subject.service.as_ref().map(Service::seen));
        self.checker.look(&Left { ended: &ended, told: &told, asked: asked.as_ref() });
        Ok((documents, ended.are_over))
    }

    /// A job has come to its end: all of its runs have theirs, as in the one that nobody disturbed.
    fn ended(&mut self, documents: &[Document]) {
        let missing = self.subject.runs.saturating_sub(documents.len() as u64);
        if missing > 0 {
            self.checker.missing(missing, format!("{missing} runs have no document at the end of their job"));
        }
        let is_ours = self.subject.service.is_some();
        // What a spec of somebody's own gives may be another thing each time.
        let differs = |(calm, torn): &(&Document, &Document)| {
            calm.status != torn.status || (is_ours && calm.final_output != torn.final_output)
        };
        let pairs = || self.calm.iter().zip(documents);
        if let Some((calm, torn)) = pairs().find(differs) {
            let other = pairs().filter(differs).count();
            let message = format!(
                "{other} runs ended otherwise: {} is {} with {}, and was {} with {}",
                torn.run_id,
                torn.status.name(),
                torn.final_output,
                calm.status.name(),
                calm.final_output
            );
            self.fault(&message);
        }
        let Some(asked) = self.subject.service.as_ref().map(Service::take) else { return };
        let effects = asked.counts.len() as u64;
        if effects != self.subject.runs * REQUESTS {
            self.fault(&format!("{effects} effects for {} steps that ask", self.subject.runs * REQUESTS));
        }
        self.count(&asked);
    }

    fn count(&mut self, asked: &Asked) {
        let Some(requests) = &mut self.report.requests else { return };
        let (effects, sent) = (asked.counts.len() as u64, asked.counts.values().sum::<u64>());
        requests.effects += effects;
        requests.sent += sent;
        requests.refused += asked.refused;
        // One that was refused and whose process was killed before it tried again is repeated once, for both reasons.
        requests.repeated += (sent - effects).saturating_sub(asked.refused);
    }
}

/// The documents that a process has printed, without a line that it was killed in.
fn printed(folder: &Path) -> Result<Vec<Document>, Error> {
    let path = folder.join(PRINTED);
    #[expect(clippy::disallowed_methods, reason = "another process has written it")]
    let text = std::fs::read_to_string(&path).map_err(|e| Error::from(e).context(path.display()))?;
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let read = |line: &str| serde_json::from_str(line).map_err(|e| Error::from(e).context(path.display()));
    whole.map(read).collect()
}

/// What is in the journal of a process that is gone. A copy is opened: the next process finds the write-ahead log as the last one left it.
fn ended(folder: &Path, engine: &Engine) -> Result<Ended, Error> {
    if !folder.join(JOURNAL).exists() {
        return Ok(Ended::default());
    }
    let copy = folder.join("copy");
    make(&copy)?;
    for name in [JOURNAL.to_owned(), format!("{JOURNAL}-wal")] {
        let from: PathBuf = folder.join(&name);
        if from.exists() {
            std::fs::copy(&from, copy.join(&name)).map_err(|e| Error::from(e).context(from.display()))?;
        }
    }
    let ended = Sqlite::open(copy.join(JOURNAL), engine.env())?.ended();
    remove(&copy)?;
    ended
}
