//! `bourn torture`: a job is killed again and again, and must end as if nobody had touched it. Here a pipeline; workflows are `runs`.

pub mod args;
mod child;
mod compare;
mod draw;
mod left;
mod report;
mod rows;
mod runs;
mod subject;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bourn_engine::env::points;
use bourn_engine::spec::Spec;
use bourn_engine::{Engine, Error};
use indicatif::{ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::answer;
use crate::args::{self as command, Form};
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::screen::Screen;
use args::Torture;
use child::{End, Kill, Outcome, Program};
use compare::Order;
use draw::Draw;
use report::{Killed, OfSink, Report};
use subject::Subject;

/// A job that takes longer than this, and than ten calm runs, hangs.
const PATIENCE: Duration = Duration::from_mins(1);
/// So many runs in a row without a kill that was wanted: the job gives no opportunity.
const UNTOUCHED_MAX: u64 = 25;

/// Kills the job of the command line as often as it says, and tells what became of its output.
///
/// # Errors
/// When the spec can't be compared, or the disk fails.
pub fn run(args: &Torture, screen: &Screen) -> Result<Exit, Failure> {
    let runtime = prepare::runtime()?;
    runtime.block_on(async {
        let engine = Engine::new(prepare::registry());
        let Some(path) = &args.spec else { return runs::scenario(args, &engine, screen).await };
        let spec = command::Spec { path: path.clone(), mode: None, routing: None };
        let loaded = prepare::load(&spec, &engine)?;
        match &loaded.spec {
            Spec::Chain(_) => runs::own(path, args, &engine, screen).await,
            Spec::Pipeline(pipeline) => {
                let subject = Subject::of((path, args), &loaded, pipeline, &engine).await?;
                tortured(args, &engine, &subject, screen).await
            }
        }
    })
}

/// The same of a pipeline.
async fn tortured(args: &Torture, engine: &Engine, subject: &Subject, screen: &Screen) -> Result<Exit, Failure> {
    let seed = args.seed.unwrap_or_else(|| engine.env().random() >> 32);
    let place = Place::take(args, seed)?;
    let report = Torturer::begin(args, engine, subject, &place.path, seed, screen).await.map_err(Failure::Failed)?;
    let report = report.all().await.map_err(Failure::Failed)?;
    screen.bar().finish_and_clear();
    finish(args, (&report, report.text(), report.is_well()), &place, screen)
}

/// Tells what came of it, and removes what the runs have left if nothing is wrong.
fn finish<R: Serialize>(
    args: &Torture,
    (report, text, is_well): (&R, String, bool),
    place: &Place,
    screen: &Screen,
) -> Result<Exit, Failure> {
    let json = || serde_json::to_string(report).map_err(|e| Failure::Failed(e.into()));
    if let Some(path) = &args.report {
        let text = if path.extension().is_some_and(|e| e == "json") { json()? + "\n" } else { text.clone() };
        #[expect(clippy::disallowed_methods, reason = "what a user names on the command line is written here")]
        std::fs::write(path, text).map_err(|e| Failure::Failed(Error::from(e).context(path.display())))?;
    }
    answer::print(&if screen.form == Form::Json { json()? } else { text })?;
    if is_well {
        return place.give_back().map(|()| Exit::Ok);
    }
    screen.say(&format!("what the runs have left is in {}", place.path.display()));
    Ok(Exit::Failed)
}

/// Shows the progress to a person.
fn shows(screen: &Screen, kills: u64) {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} kills, {elapsed}, about {eta} to go");
    screen.bar().set_length(kills);
    screen.bar().set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    if screen.shows_progress() {
        screen.bar().set_draw_target(ProgressDrawTarget::stderr());
    }
}

/// The folder of all runs.
struct Place {
    path: PathBuf,
    /// Whether nobody has asked for it.
    is_ours: bool,
}

impl Place {
    fn take(args: &Torture, seed: u64) -> Result<Self, Failure> {
        let ours = || std::env::temp_dir().join(format!("bourn-torture-{seed}-{}", std::process::id()));
        let path = std::path::absolute(args.dir.clone().unwrap_or_else(ours)).map_err(|e| Failure::Failed(e.into()))?;
        let mut runs = ["calm", "torn"].into_iter().map(|name| path.join(name));
        if let Some(run) = runs.find(|run| run.exists()) {
            return Err(Failure::invalid(format!("{} is there already: name another --dir", run.display())));
        }
        Ok(Self { path, is_ours: args.dir.is_none() })
    }

    fn give_back(&self) -> Result<(), Failure> {
        if self.is_ours { remove(&self.path).map_err(Failure::Failed) } else { Ok(()) }
    }
}

fn remove(folder: &Path) -> Result<(), Error> {
    std::fs::remove_dir_all(folder).map_err(|e| Error::from(e).context(folder.display()))
}

fn make(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|e| Error::from(e).context(folder.display()))
}

/// The work, as far as it has come.
struct Torturer<'a> {
    args: &'a Torture,
    engine: &'a Engine,
    subject: &'a Subject,
    folder: &'a Path,
    screen: &'a Screen,
    draw: Draw,
    /// What a calm run takes, and the rows of each sink then.
    calm: (Duration, Vec<Vec<String>>),
    report: Report,
}

impl<'a> Torturer<'a> {
    /// Runs the job once without a disturbance.
    async fn begin(
        args: &'a Torture,
        engine: &'a Engine,
        subject: &'a Subject,
        folder: &'a Path,
        seed: u64,
        screen: &'a Screen,
    ) -> Result<Self, Error> {
        let calm = folder.join("calm");
        make(&calm)?;
        subject.write(&calm, &subject.lanes())?;
        let Outcome { end, points, time } = child::run(Program::job(&calm), None, args.calm_max, engine.env()).await?;
        if let End::Badly(said) | End::Late(said) = end {
            return Err(Error::engine(format!("nobody disturbed it, and {said}")));
        }
        let mut draw = Draw::new(seed, args.kills, &points::ALL);
        draw.met(&points);
        let (mut rows, mut sinks) = (Vec::new(), BTreeMap::new());
        for sink in &subject.sinks {
            let read = sink.target.read(&calm, engine).await?;
            let order = match sink.order {
                Order::Any => "not",
                Order::Full => "all",
                Order::ByKey(_) => "by key",
            };
            sinks.insert(sink.id.clone(), OfSink { rows: read.len() as u64, order, ..OfSink::default() });
            rows.push(read);
        }
        let report = Report {
            spec: args.spec.clone().unwrap_or_default(),
            seed,
            runs: 0,
            resumed: 0,
            other_lanes: 0,
            calm_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            seconds: 0,
            points: Vec::new(),
            sinks,
            left: Vec::new(),
            faults: Vec::new(),
            kills: Vec::new(),
        };
        shows(screen, args.kills);
        Ok(Self { args, engine, subject, folder, screen, draw, calm: (time, rows), report })
    }

    fn left(&self) -> u64 {
        self.args.kills.saturating_sub(self.report.kills.len() as u64)
    }

    /// Begins the job anew until it was killed often enough, or something is wrong.
    async fn all(mut self) -> Result<Report, Error> {
        let start = self.engine.env().monotonic();
        let mut untouched = 0;
        while self.left() > 0 && self.report.is_well() {
            let before = self.left();
            self.one().await?;
            untouched = if self.left() == before { untouched + 1 } else { 0 };
            if untouched >= UNTOUCHED_MAX {
                let message =
                    format!("{untouched} runs in a row ended before they could be killed: let the job take longer");
                self.report.faults.push(message);
            }
        }
        self.report.points = self.draw.by_point();
        self.report.seconds = self.engine.env().monotonic().saturating_sub(start).as_secs();
        Ok(self.report)
    }

    /// One run of the job, from a new beginning to its end.
    async fn one(&mut self) -> Result<(), Error> {
        self.report.runs += 1;
        let folder = self.folder.join("torn").join(self.report.runs.to_string());
        make(&folder)?;
        let (mut lanes, mut seen) = (self.subject.lanes(), BTreeMap::new());
        let (env, limit) = (self.engine.env(), PATIENCE.max(10 * self.calm.0));
        loop {
            let (checkpoint, is_over) = left::progress(self.subject, &folder, env)?;
            if is_over {
                // Started again, it would begin anew: that is what a job does that has come to its end.
                break;
            }
            if checkpoint.is_some() {
                self.report.resumed += 1;
                if let Some(other) = self.draw.lanes(&lanes) {
                    lanes = other;
                    self.report.other_lanes += 1;
                }
            }
            self.subject.write(&folder, &lanes)?;
            let kill = (self.left() > 0).then(|| self.draw.next(self.calm.0, self.left(), checkpoint.is_some()));
            let outcome = child::run(Program::job(&folder), kill.as_ref(), limit, env).await?;
            self.draw.met(&outcome.points);
            match (outcome.end, kill) {
                (End::Killed, Some(kill)) => {
                    self.note(&kill, &outcome.points, &folder, &lanes)?;
                    self.stays(&mut seen, &folder)?;
                }
                (End::Killed | End::Well, _) => {
                    if !left::progress(self.subject, &folder, env)?.1 {
                        self.fault("the job ended well, and has not noted it".to_owned());
                    }
                    break;
                }
                (End::Badly(said) | End::Late(said), _) => {
                    self.fault(said);
                    return Ok(());
                }
            }
        }
        self.stays(&mut seen, &folder)?;
        self.look(&folder).await?;
        if self.report.is_well() { remove(&folder) } else { Ok(()) }
    }

    fn fault(&mut self, what: String) {
        let after = self.report.kills.last().map_or_else(String::new, |k| format!(" (the last was {})", k.line()));
        self.report.faults.push(format!("run {}{after}: {what}", self.report.runs));
    }

    fn note(&mut self, kill: &Kill, told: &[String], folder: &Path, lanes: &[usize]) -> Result<(), Error> {
        self.draw.killed(kill);
        let at = kill.to_string();
        let has = |point: &str| told.iter().any(|t| t == point);
        let varied = self.subject.varied.iter().zip(lanes).filter(|(v, lanes)| v.lanes != **lanes);
        let killed = Killed {
            number: self.report.kills.len() as u64 + 1,
            run: self.report.runs,
            at,
            behind: told.last().cloned(),
            checkpoint: left::progress(self.subject, folder, self.engine.env())?.0,
            recovering: has(points::RECOVER)
                && (!has(points::RECOVERED) || matches!(kill, Kill::At(points::RECOVERED, _))),
            lanes: varied.map(|(v, lanes)| (v.id.clone(), *lanes)).collect(),
        };
        if self.args.verbose {
            self.screen.say(&killed.line());
        }
        self.report.kills.push(killed);
        self.screen.bar().set_position(self.report.kills.len() as u64);
        Ok(())
    }

    /// What a commit has put in its place may have been read by then: it must stay there as it is.
    fn stays(&mut self, seen: &mut BTreeMap<PathBuf, u64>, folder: &Path) -> Result<(), Error> {
        let mut placed = BTreeMap::new();
        for sink in &self.subject.sinks {
            placed.extend(sink.target.placed(folder, self.engine)?);
        }
        let gone = seen.iter().find(|(path, hash)| placed.get(*path) != Some(hash));
        if let Some((path, _)) = gone {
            let how = if placed.contains_key(path) { "is another now" } else { "is gone" };
            self.fault(format!("{}, which had been put in its place, {how}", path.display()));
        }
        *seen = placed;
        Ok(())
    }

    /// Compares what a run has written with what the calm one has.
    async fn look(&mut self, folder: &Path) -> Result<(), Error> {
        for (sink, calm) in self.subject.sinks.iter().zip(&self.calm.1) {
            let found = match sink.target.read(folder, self.engine).await {
                Ok(torn) => compare::rows(calm, &torn, &sink.order, sink.may_repeat),
                Err(e) => {
                    let what = format!("what sink `{}` has written can't be read: {e}", sink.id);
                    self.report.faults.push(format!("run {}: {what}", self.report.runs));
                    continue;
                }
            };
            if found.is_none() {
                continue;
            }
            let rows = self.report.sinks.entry(sink.id.clone()).or_default();
            rows.lost += found.lost;
            rows.twice += found.twice;
            rows.strange += found.strange;
            rows.disordered += u64::from(found.disordered);
            let what = if found.disordered {
                "its rows stand in another order".to_owned()
            } else {
                format!("{} rows lost, {} too often, {} strange", found.lost, found.twice, found.strange)
            };
            let run = self.report.runs;
            self.report.faults.push(format!(
                "run {run}, sink `{}`: {what}\n    {}",
                sink.id,
                found.shown.join("\n    ")
            ));
        }
        let left = left::behind(self.subject, folder, self.engine.env())?;
        if !left.is_empty() {
            self.fault(format!("left behind: {}", left.join(", ")));
            self.report.left.extend(left);
        }
        Ok(())
    }
}
