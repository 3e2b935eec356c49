//! `bourn runs resume` and `recover`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{Ask, History, RunState};
use bourn_engine::metrics::JobStats;
use bourn_engine::spec::Loaded;
use bourn_engine::workflow::Runs;
use bourn_engine::workflow::anew::done_anew;
use bourn_engine::workflow::result::{Elements, RecoveryPlan, document_of};
use bourn_journal::Run;
use futures::executor::block_on;

use super::signal::waits;
use super::task::Wait;
use super::{Place, args::Journal, asked, chain, estimate};
use crate::answer;
use crate::args::{Form, Spec};
use crate::failure::{Exit, Failure};
use crate::monitoring::Monitor;
use crate::prepare;
use crate::run::args;
use crate::run::budget;
use crate::run::cache;
use crate::run::documents::Documents;
use crate::run::inputs::Inputs;
use crate::run::job::{self, Ending};
use crate::run::keep::Kept;
use crate::run::workflow::{SOURCE, one_ended, tell_open};

/// Goes on with a run that was cut off.
///
/// # Errors
/// When it has ended, or can't go on.
pub fn resume(place: &Place<'_>, run: &Run, budget: &[budget::Part]) -> Result<Exit, Failure> {
    if run.status.has_ended() {
        let message = format!("run `{}` is {}: there is nothing to go on with", run.id, run.status.name());
        return Err(Failure::invalid(message));
    }
    if asked(&place.journal.events(run).map_err(Failure::Failed)?) == Some(Ask::Pause) {
        block_on(place.journal.ask(run, Ask::Resume)).map_err(Failure::Invalid)?;
        if place.journal.is_claimed(run).map_err(Failure::Failed)? {
            place.screen.tell(&format!(
                "run {}: it is not paused any more; the process that runs its job goes on with it, or the next one if that is at its end",
                run.id
            ));
            return Ok(Exit::Ok);
        }
    }
    ended(place, run, budget)
}

/// Tries a run again that failed: what completed is used again.
///
/// # Errors
/// When it did not fail, or can't go on.
pub fn recover(place: &Place<'_>, run: &Run, budget: &[budget::Part]) -> Result<Exit, Failure> {
    recoverable(run)?;
    // Of a step that failed at some elements the others are kept.
    let history = place.journal.history(run).map_err(Failure::Failed)?;
    let anew = done_anew(&place.spec(run)?.0, &history);
    place.journal.reopen(run, &anew).map_err(Failure::Failed)?;
    ended(place, run, budget)
}

fn recoverable(run: &Run) -> Result<(), Failure> {
    if !matches!(run.status, RunState::Failed | RunState::Canceled | RunState::TimedOut) {
        let way = if run.status.has_ended() { "" } else { "; `bourn runs resume` goes on with it" };
        let message = format!("run `{}` is {}: there is nothing to recover{way}", run.id, run.status.name());
        return Err(Failure::invalid(message));
    }
    if run.input.is_none() {
        return Err(Failure::invalid(format!("the input of run `{}` was not valid: start it anew", run.id)));
    }
    Ok(())
}

/// What recovering does.
fn plan(place: &Place<'_>, run: &Run) -> Result<Option<RecoveryPlan>, Failure> {
    let (chain, spec) = place.spec(run)?;
    let history = place.journal.history(run).map_err(Failure::Failed)?;
    let shown =
        document_of(&chain, &spec.file, (&run.id, run.status), &history, &place.flags()).map_err(Failure::Failed)?;
    Ok(shown.recovery_plan)
}

/// Says what recovering would do, and what that may cost.
///
/// # Errors
/// When it did not fail, or the journal can't be read.
pub fn would_recover(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    recoverable(run)?;
    let mut plan = plan(place, run)?;
    if let Some(plan) = &mut plan {
        estimate::add(place.journal, &place.spec(run)?.0, run, plan)?;
    }
    if place.screen.form == Form::Json {
        let text = serde_json::to_string_pretty(&plan).map_err(|e| Failure::Failed(e.into()))?;
        answer::print(&text)?;
        return Ok(Exit::Ok);
    }
    for action in plan.iter().flat_map(|plan| &plan.actions) {
        let list = |steps: &[String]| if steps.is_empty() { "nothing".to_owned() } else { steps.join(", ") };
        let mut text = format!("would reuse {}\nwould run {}", list(&action.reuses), list(&action.reruns));
        for (id, Elements { reused, rerun }) in &action.items {
            let _ = write!(text, "\nof {id} only {rerun} of {} elements", reused + rerun);
        }
        text.extend(action.estimate.iter().map(|estimate| format!("\n{}", estimate::text(estimate))));
        answer::print(&text)?;
    }
    Ok(Exit::Ok)
}

/// Lets a run that was begun pass through its graph again: what is in its history is not done again.
pub fn pass(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    ended(place, run, &[])
}

/// The same, and ends with [`Exit::Degraded`] when a step gave less than it was to give.
///
/// # Errors
/// When it can't pass.
pub fn pass_whole(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    let (exit, is_degraded) = told(place, run, &[])?;
    Ok(if exit == Exit::Ok && is_degraded { Exit::Degraded } else { exit })
}

/// Goes on with the runs of a job that have got a signal while a process that does not go on with them had it. Whoever sent one goes on by
/// himself when nobody has the job; so it is looked for when it is given up.
///
/// # Errors
/// When the journal can't be read, or one of them can't pass.
fn called(place: &Place<'_>, job: u64) -> Result<(), Failure> {
    let mut gone_on = BTreeSet::new();
    loop {
        let mut is_over = true;
        for run in place.journal.signaled(job).map_err(Failure::Failed)? {
            let History(known) = place.journal.history(&run).map_err(Failure::Failed)?;
            let has_come = |name: &str| known.contains_key(&History::signal(name));
            let is_answered = |(step, wait): &(String, Wait)| {
                wait.signal.as_ref().is_some_and(|name| has_come(name) || has_come(&History::decision(step)))
            };
            if !waits(place.journal, &run)?.iter().any(is_answered) {
                continue;
            }
            let is_paused = asked(&place.journal.events(&run).map_err(Failure::Failed)?) == Some(Ask::Pause);
            // What comes for one a second time finds nobody here soon.
            if is_paused || !gone_on.insert(run.id.clone()) {
                continue;
            }
            let (documents, _) = match passed(place, &run, &[]) {
                // Another one was quicker, and looks for the others.
                Err(Failure::Failed(_)) if place.journal.is_claimed(&run).map_err(Failure::Failed)? => return Ok(()),
                passed => passed?,
            };
            is_over = false;
            let failed = documents.seen().failed;
            let how = if failed > 0 { "and has failed" } else { "for its signal has come" };
            place.screen.tell(&format!("run {}: it went on too, {how}", run.id));
        }
        if is_over {
            return Ok(());
        }
    }
}

fn ended(place: &Place<'_>, run: &Run, budget: &[budget::Part]) -> Result<Exit, Failure> {
    Ok(told(place, run, budget)?.0)
}

/// How it ended, and whether it is degraded.
fn told(place: &Place<'_>, run: &Run, budget: &[budget::Part]) -> Result<(Exit, bool), Failure> {
    let (documents, loaded) = passed(place, run, budget)?;
    let exit = one_ended(&documents, &loaded, place.screen)?;
    called(place, run.job)?;
    Ok((exit, documents.seen().degraded > 0))
}

/// The same, without a word about how it ended, and with this said over the budget of its spec.
///
/// # Errors
/// When it can't pass.
pub fn passed(place: &Place<'_>, run: &Run, budget: &[budget::Part]) -> Result<(Documents, Loaded), Failure> {
    let Place { engine, screen, journal, .. } = place;
    let (request, spec) = place.request(run)?;
    let options = options(&spec.file, &place.one.journal);
    let runtime = prepare::runtime()?;
    let result = runtime.block_on(async {
        let loaded = request.load_to_run(&spec.text, &spec.file, engine.registry(), engine.env()).await;
        let mut loaded = loaded.map_err(Failure::Problems)?;
        let mut said = journal.budget(run.job).map_err(Failure::Failed)?;
        said.extend(budget.iter().cloned());
        budget::apply(&mut loaded.spec, &said.clone().into_iter().collect::<Vec<_>>())?;
        screen.hide(loaded.document.secrets());
        chain(&loaded)?;
        let monitor = Monitor::start(&loaded, &[], engine.env(), screen)?;
        let engine = &monitor.engine(engine);
        let shared = cache::of(None, engine.env())?;
        let engine = &shared.engine(engine);
        let kept = Kept::of(journal.go_on(run.job).map_err(Failure::Failed)?);
        if !budget.is_empty() {
            journal.say_budget(run.job, &said).map_err(Failure::Failed)?;
        }
        let inputs = Inputs::one("--input", run.input.clone().unwrap_or_default());
        let runs = Runs::of(SOURCE, BoxConnector::new(inputs))
            .with_id(&run.id)
            .with_key(run.key.clone())
            .beginning_at(run.place());
        let documents = Documents::kept();
        let graph = prepare::graph(
            &loaded,
            &kept.keep(&loaded.spec, runs, shared.cache, &monitor)?,
            documents.clone(),
            run.mock,
        );
        let plan = prepare::plan(engine, graph, &loaded).await?;
        let started = |stats: &Arc<JobStats>| {
            kept.shows(stats);
            monitor.watch(stats);
        };
        job::run_shown(engine, plan, &options, (screen, &started), Ending::signal()).await?;
        let open = documents.seen().open();
        if spec.source.is_empty() && open == 0 {
            kept.end()?;
        }
        tell_open(&documents.seen(), screen);
        Ok((documents, loaded))
    });
    runtime.shutdown_background();
    result
}

/// What `bourn run` would be told.
fn options(file: &str, journal: &Journal) -> args::Run {
    args::Run {
        spec: Spec { path: file.to_owned(), mode: None, routing: None },
        input: None,
        inputs: None,
        mock: false,
        journal: journal.clone(),
        cache: None,
        id: None,
        label: Vec::new(),
        on_conflict: args::OnConflict::Fail,
        id_reuse: args::IdReuse::Never,
        target: Vec::new(),
        budget: Vec::new(),
        fail_on_degraded: false,
        wait: false,
        metrics: None,
        monitoring: Vec::new(),
        begin: args::Beginning { from_checkpoint: None, fresh: false, drop_state: Vec::new() },
        quiet: false,
        stats: false,
        drain_timeout: Duration::from_secs(30),
    }
}
