//! What runs were to reach, beside what they did.

use std::fmt;
use std::time::Duration;

use bourn_engine::spec::targets::Targets;
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::result::{Metrics, ResultDocument};
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::failure::Exit;
use crate::screen::Screen;

/// The longest run that is told apart from longer ones, in milliseconds: a year.
const LONGEST: u64 = 365 * 24 * 60 * 60 * 1_000;

/// `p95=2s`, of the command line.
///
/// # Errors
/// When there is no such target, or it can't have this value.
pub fn parse(text: &str) -> Result<Targets, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no target: write `p95=2s`"))?;
    if !Targets::NAMES.contains(&name) {
        return Err(format!("there is no target `{name}`; there are {}", Targets::NAMES.join(", ")));
    }
    let of = |value: Value| serde_json::from_value::<Targets>(serde_json::json!({ name: value }));
    let number = serde_json::from_str(value).ok().and_then(|number| of(number).ok());
    let targets = number.map_or_else(|| of(value.into()).map_err(|e| e.to_string()), Ok)?;
    match targets.success_rate {
        Some(rate) if !(0.0..=1.0).contains(&rate) => Err("a success rate is a share from 0 to 1".into()),
        _ => Ok(targets),
    }
}

/// What was measured of runs.
#[derive(Debug)]
pub struct Measured {
    took: Histogram<u64>,
    completed: u64,
    tokens: u64,
    usd: f64,
}

impl Default for Measured {
    fn default() -> Self {
        // These bounds are ones that it can have.
        let took = Histogram::new_with_bounds(1, LONGEST, 3).unwrap_or_else(|_| unreachable!("a histogram has bounds"));
        Self { took, completed: 0, tokens: 0, usd: 0.0 }
    }
}

impl Measured {
    /// Adds a run that has ended.
    pub fn add(&mut self, document: &ResultDocument, completed: bool) {
        let Metrics { duration_ms, usage, .. } = &document.execution_metrics;
        self.took.saturating_record((*duration_ms).max(1));
        self.completed += u64::from(completed);
        self.tokens += usage.input_tokens + usage.output_tokens;
        self.usd += usage.usd;
    }
}

/// From when until when the documents were written of the runs that are measured: some may have ended in an earlier process.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When the command began.
    pub from: Timestamp,
    /// When the last document was written.
    pub to: Timestamp,
}

/// A target and what was reached.
struct Verdict {
    name: &'static str,
    wanted: String,
    actual: String,
    met: bool,
}

/// Shows the table of targets, and says how the command ends: with 3 when one was missed.
pub fn judge(
    targets: &Targets,
    measured: &Measured,
    (window, took): (Window, Duration),
    screen: &Screen,
    exit: Exit,
) -> Exit {
    if targets.is_empty() {
        return exit;
    }
    let Window { from, to } = window;
    if measured.took.is_empty() {
        screen.say(&format!(
            "targets: no document of an ended run was written from {from} to {to}, so nothing is measured"
        ));
        return exit;
    }
    let verdicts = verdicts(targets, measured, took);
    screen.say(&format!("targets, of the ended runs whose documents were written from {from} to {to}:"));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["target", "wanted", "actual", "runs", ""]);
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if (1..4).contains(&place) { CellAlignment::Right } else { CellAlignment::Left });
    }
    for Verdict { name, wanted, actual, met } in &verdicts {
        let runs = measured.took.len().to_string();
        table.add_row([
            (*name).to_owned(),
            wanted.clone(),
            actual.clone(),
            runs,
            if *met { "" } else { "missed" }.into(),
        ]);
    }
    screen.say(&table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n"));
    match exit {
        Exit::Interrupted | Exit::Invalid => exit,
        _ if verdicts.iter().any(|verdict| !verdict.met) => Exit::Missed,
        // How many may fail was said.
        Exit::Failed if targets.success_rate.is_some() => Exit::Ok,
        other => other,
    }
}

fn verdicts(targets: &Targets, measured: &Measured, elapsed: Duration) -> Vec<Verdict> {
    let runs = measured.took.len();
    let most = |name, wanted: f64, actual: f64, show: &dyn Fn(f64) -> String| Verdict {
        name,
        wanted: format!("at most {}", show(wanted)),
        actual: show(actual),
        met: actual <= wanted,
    };
    let least = |name, wanted: f64, actual: f64, show: &dyn Fn(f64) -> String| Verdict {
        name,
        wanted: format!("at least {}", show(wanted)),
        actual: show(actual),
        met: actual >= wanted,
    };
    let time = |name, wanted: Option<bourn_engine::data::units::Interval>, quantile: f64| {
        let wanted = wanted?.0.as_secs_f64() * 1e3;
        Some(most(name, wanted, float(measured.took.value_at_quantile(quantile)), &|ms| format!("{ms} ms")))
    };
    let share = float(measured.completed) / float(runs);
    let rate = float(runs) / elapsed.as_secs_f64().max(1e-9);
    [
        time("p50", targets.p50, 0.5),
        time("p95", targets.p95, 0.95),
        time("p99", targets.p99, 0.99),
        targets.success_rate.map(|wanted| least("success_rate", wanted, share, &|share| Share(share).to_string())),
        targets.throughput.map(|wanted| least("throughput", wanted.per_second(), rate, &|rate| format!("{rate:.1}/s"))),
        targets.cost_usd.map(|wanted| most("cost_usd", wanted, measured.usd, &|usd| format!("{usd:.4}"))),
        targets
            .tokens
            .map(|wanted| most("tokens", float(wanted), float(measured.tokens), &|tokens| format!("{tokens}"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "for a table")]
fn float(count: u64) -> f64 {
    count as f64
}

/// A share from 0 to 1, with as many digits as it takes to tell it from 1.
struct Share(f64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is cut, not rounded: 0.99996 has not reached 1.
        write!(f, "{}", (self.0 * 1e4).floor() / 1e4)
    }
}
