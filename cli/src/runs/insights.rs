//! `bourn insights`: how the steps of a workflow went in its runs so far. It advises, and changes nothing.

use std::collections::BTreeMap;

use bourn_engine::Engine;
use bourn_engine::spec::model::Chain;
use bourn_engine::workflow::record::{Cost, Record, Status};
use bourn_engine::workflow::result::{LearningInsights, WayTaken};
use bourn_journal::{Filter, Run, Sqlite};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::args;
use super::rewards::{self, Mean, Routes};
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::screen::Screen;

/// The runs that are looked at for the result of one.
pub(super) const LOOKED_AT: usize = 1_000;
/// Of fewer runs nothing is advised.
const ENOUGH: u64 = 20;

/// What is known of a workflow.
#[derive(Default, Serialize)]
pub struct Found {
    workflow: String,
    runs: u64,
    /// Runs by how they stand.
    status: BTreeMap<&'static str, u64>,
    steps: BTreeMap<String, Step>,
    /// What the ways of routes have brought, by route.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    routes: Routes,
    advice: Vec<String>,
}

/// What is known of a step, or of all elements and rounds of one.
#[derive(Default, Serialize)]
pub(super) struct Step {
    /// How often it ended.
    n: u64,
    pub(super) status: BTreeMap<String, u64>,
    /// Milliseconds, of those that were started.
    pub(super) duration_ms: Spread,
    attempts: Spread,
    pub(super) input_tokens: Spread,
    pub(super) output_tokens: Spread,
    pub(super) usd: f64,
    /// How often a switch chose another way, by switch.
    not_chosen_by: BTreeMap<String, u64>,
    /// How often a fallback gave the results, and how often the default.
    fallbacks: u64,
    degraded: u64,
    #[serde(skip)]
    seen: [Vec<u64>; 4],
}

/// How numbers are spread.
#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Spread {
    pub(super) n: usize,
    p50: u64,
    p95: u64,
    max: u64,
    pub(super) sum: u64,
}

impl Spread {
    /// Nearest rank.
    fn of(mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        let n = numbers.len();
        let at = |percent: usize| numbers.get((n * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        Self { n, p50: at(50), p95: at(95), max: at(100), sum: numbers.iter().sum() }
    }
}

/// Shows it.
///
/// # Errors
/// When there are no such runs, or the journal can't be read.
pub fn insights(args: &args::Insights, screen: &Screen) -> Result<Exit, Failure> {
    let engine = Engine::new(prepare::registry());
    let journal = Sqlite::existing(&args.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let found = find(&journal, args)?;
    answer::print(&match screen.form {
        Form::Json => serde_json::to_string_pretty(&found).map_err(|e| Failure::Failed(e.into()))?,
        Form::Text => text(&found),
    })?;
    Ok(Exit::Ok)
}

/// Looks at the runs of a workflow.
///
/// # Errors
/// When there are none, or the journal can't be read.
pub fn find(journal: &Sqlite, args: &args::Insights) -> Result<Found, Failure> {
    let runs = runs_of(journal, &args.workflow, args.limit)?;
    if runs.is_empty() {
        let message = format!("`{}` has no runs in {}; see `bourn runs list`", args.workflow, journal.path().display());
        return Err(Failure::invalid(message));
    }
    let mut found = Found { workflow: args.workflow.clone(), ..Found::default() };
    for run in &runs {
        found.runs += 1;
        *found.status.entry(run.status.name()).or_default() += 1;
    }
    found.steps = steps(journal, &runs)?;
    found.routes = rewards::routes(journal, &runs)?;
    found.advice = found.steps.iter().flat_map(|(name, step)| advice(name, step)).collect();
    Ok(found)
}

/// What the newest runs of a workflow say of the ways of its switches.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub(super) fn of_ways(journal: &Sqlite, chain: &Chain) -> Result<LearningInsights, Failure> {
    let runs = runs_of(journal, &chain.name, LOOKED_AT)?;
    let (known, routes) = (steps(journal, &runs)?, rewards::routes(journal, &runs)?);
    let mut found = LearningInsights { runs: runs.len() as u64, ..LearningInsights::default() };
    for way in &chain.steps {
        let of = known.get(&way.id).map_or_else(WayTaken::default, |step| WayTaken {
            taken: step.n - step.count("SKIPPED"),
            completed: step.count("COMPLETED") + step.count("CACHED") - step.degraded,
            failed: step.count("FAILED") + step.count("TIMED_OUT") + step.degraded,
            usd: step.usd,
            reward: None,
        });
        for switch in &way.chosen_by {
            let switch = &chain.steps[*switch].id;
            let is_it = |(steps, _): &(&String, &Mean)| steps.split(", ").any(|step| step == way.id);
            let reward = routes.get(switch).and_then(|ways| ways.iter().find(is_it)).map(|(_, mean)| mean.mean);
            found.ways.entry(switch.clone()).or_default().insert(way.id.clone(), WayTaken { reward, ..of });
        }
    }
    found.advice = known.iter().flat_map(|(name, step)| advice(name, step)).collect();
    Ok(found)
}

/// The newest runs of a workflow.
///
/// # Errors
/// When the journal can't be read.
pub(super) fn runs_of(journal: &Sqlite, workflow: &str, limit: usize) -> Result<Vec<Run>, Failure> {
    let filter = Filter { workflow: Some(workflow.to_owned()), limit, ..Filter::default() };
    journal.runs(&filter).map_err(Failure::Failed)
}

/// What is known of the steps of these runs.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub(super) fn steps(journal: &Sqlite, runs: &[Run]) -> Result<BTreeMap<String, Step>, Failure> {
    let mut steps: BTreeMap<String, Step> = BTreeMap::new();
    for run in runs {
        for (name, record) in journal.history(run).map_err(Failure::Failed)?.0 {
            // Rounds add up to their step.
            if name.starts_with('@') || name.contains('#') {
                continue;
            }
            let record: Record = serde_json::from_str(record.get()).map_err(|e| Failure::Failed(e.into()))?;
            // What a fork has taken over was not done by it.
            if record.status != Status::Reused {
                steps.entry(without_places(&name)).or_default().add(record);
            }
        }
    }
    for step in steps.values_mut() {
        let [took, attempts, input, output] = std::mem::take(&mut step.seen).map(Spread::of);
        (step.duration_ms, step.attempts, step.input_tokens, step.output_tokens) = (took, attempts, input, output);
    }
    Ok(steps)
}

impl Step {
    fn add(&mut self, record: Record) {
        self.n += 1;
        let status = serde_json::to_value(record.status).ok().and_then(|status| status.as_str().map(str::to_owned));
        *self.status.entry(status.unwrap_or_default()).or_default() += 1;
        if let Some(switch) = &record.not_chosen_by {
            *self.not_chosen_by.entry(switch.clone()).or_default() += 1;
        }
        // What was answered from the cache says nothing of how long it takes.
        if matches!(record.status, Status::Skipped | Status::Cached) {
            return;
        }
        let Cost { input_tokens, output_tokens, usd } = record.usage.unwrap_or_default();
        self.usd += usd;
        let [took, attempts, input, output] = &mut self.seen;
        took.extend(record.duration_ms);
        attempts.push(record.attempts.into());
        if record.usage.is_some() {
            input.push(input_tokens);
            output.push(output_tokens);
        }
        self.fallbacks += u64::from(record.fallback.is_some());
        self.degraded += u64::from(record.degraded);
    }

    /// How often it ended so.
    pub(super) fn count(&self, status: &str) -> u64 {
        self.status.get(status).copied().unwrap_or(0)
    }
}

/// `each[]/words` for `each[3]/words`.
pub(super) fn without_places(name: &str) -> String {
    let mut parts = name.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "[" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// What could be looked at.
fn advice(name: &str, step: &Step) -> Vec<String> {
    let (n, started) = (step.n, step.n - step.count("SKIPPED"));
    let failed = step.count("FAILED") + step.count("TIMED_OUT") + step.degraded;
    let mut advice = Vec::new();
    if n >= ENOUGH && started == 0 {
        advice.push(format!("`{name}` was never started in {n} runs: is its way dead?"));
    }
    if started >= ENOUGH && failed * 10 >= started {
        advice.push(format!("`{name}` failed {failed} times of {started}: see `bourn runs list --status failed`"));
    }
    if started >= ENOUGH && step.attempts.p50 > 1 {
        let times = step.attempts.p50;
        advice.push(format!(
            "`{name}` takes {times} attempts as a rule: its service may have a limit that its `rate_limit` could keep"
        ));
    }
    if started >= ENOUGH && step.fallbacks * 2 > started {
        advice.push(format!(
            "a fallback answers for `{name}` {} times of {started}: it could stand first",
            step.fallbacks
        ));
    }
    advice
}

fn text(found: &Found) -> String {
    let status = found.status.iter().map(|(status, count)| format!("{count} {status}")).collect::<Vec<_>>().join(", ");
    let mut lines = vec![format!("{}: {} runs ({status})", found.workflow, found.runs), String::new()];
    let mut table = Table::new();
    let header = ["step", "n", "started", "failed", "p50 ms", "p95 ms", "max ms", "attempts", "tokens", "usd", ""];
    table.load_style(presets::NOTHING).set_header(header);
    for (name, step) in &found.steps {
        let Spread { p50, p95, max, .. } = step.duration_ms;
        let failed = step.count("FAILED") + step.count("TIMED_OUT");
        let numbers = [step.n, step.n - step.count("SKIPPED"), failed, p50, p95, max];
        let attempts =
            if step.attempts.n == 0 { "-".into() } else { format!("{}..{}", step.attempts.p50, step.attempts.max) };
        let tokens = (step.input_tokens.sum + step.output_tokens.sum).to_string();
        let usd = if step.usd > 0.0 { format!("{:.4}", step.usd) } else { "-".to_owned() };
        let not_chosen = step.not_chosen_by.iter().map(|(switch, count)| format!("{count} not chosen by {switch}"));
        let remark = not_chosen.collect::<Vec<_>>().join(", ");
        table.add_row(
            [name.clone()].into_iter().chain(numbers.map(|n| n.to_string())).chain([attempts, tokens, usd, remark]),
        );
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    lines.extend(table.lines().map(|line| line.trim().to_owned()));
    lines.push(String::new());
    for (route, ways) in &found.routes {
        let way = |(way, Mean { rewards, mean }): (&String, &Mean)| format!("{way} {mean:.3} in {rewards} runs");
        lines.push(format!("rewards of {route}: {}", ways.iter().map(way).collect::<Vec<_>>().join("; ")));
    }
    lines.extend(found.advice.iter().map(|advice| format!("advice: {advice}")));
    lines.join("\n").trim_end().to_owned()
}
