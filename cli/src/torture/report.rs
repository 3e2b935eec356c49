//! What came of it, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// A kill.
#[derive(Debug, Serialize)]
pub struct Killed {
    /// Which one, from 1.
    pub number: u64,
    /// Which run of the job it was in, from 1.
    pub run: u64,
    /// `commit:2`, or `after 312ms`.
    pub at: String,
    /// The last point that the process had come to; none when it had not come to any.
    pub behind: Option<String>,
    /// The newest checkpoint that it has left.
    pub checkpoint: Option<u64>,
    /// Whether it was going on from a checkpoint and had not got there.
    pub recovering: bool,
    /// The lanes that were others than those of the spec, by stage.
    pub lanes: BTreeMap<String, usize>,
}

/// The rows of a sink, over all runs.
#[derive(Debug, Default, Serialize)]
pub struct OfSink {
    /// Rows of the calm run.
    pub rows: u64,
    /// Rows that were missing.
    pub lost: u64,
    /// Rows that were there too often.
    pub twice: u64,
    /// Rows that the calm run does not have.
    pub strange: u64,
    /// How their order was looked at: `all`, `by key`, `not`.
    pub order: &'static str,
    /// Runs in which it was another.
    pub disordered: u64,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The spec.
    pub spec: String,
    /// What was drawn from.
    pub seed: u64,
    /// How often the job was begun anew.
    pub runs: u64,
    /// How often a process went on from a checkpoint.
    pub resumed: u64,
    /// How often with other lanes than before.
    pub other_lanes: u64,
    /// Milliseconds of the calm run.
    pub calm_ms: u64,
    /// Seconds in all.
    pub seconds: u64,
    /// Kills at named points, of those that the job has.
    pub points: Vec<(&'static str, u64)>,
    /// The sinks by id.
    pub sinks: BTreeMap<String, OfSink>,
    /// What was left behind.
    pub left: Vec<String>,
    /// What went wrong, in words.
    pub faults: Vec<String>,
    /// Each kill.
    pub kills: Vec<Killed>,
}

impl Killed {
    /// A line.
    pub fn line(&self) -> String {
        let mut line = format!("kill {}, run {}: {}", self.number, self.run, self.at);
        let _ = match &self.behind {
            Some(point) if !self.at.starts_with(point.as_str()) => write!(line, ", behind `{point}`"),
            _ => Ok(()),
        };
        if self.recovering {
            line += ", while it recovered";
        }
        let _ = match self.checkpoint {
            Some(epoch) => write!(line, ", at checkpoint {epoch}"),
            None => write!(line, ", before any checkpoint"),
        };
        for (stage, lanes) in &self.lanes {
            let _ = write!(line, ", `{stage}` in {lanes} lanes");
        }
        line
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.faults.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let count = |of: &dyn Fn(&&Killed) -> bool| self.kills.iter().filter(of).count();
        let (named, recovering) = (count(&|k| k.at.contains(':')), count(&|k| k.recovering));
        let mut text = format!(
            "{}: {} kills in {} runs of the job, {recovering} of them while it recovered; seed {}\n",
            self.spec,
            self.kills.len(),
            self.runs,
            self.seed
        );
        let _ = writeln!(
            text,
            "  {} starts went on from a checkpoint, {} with other lanes; a calm run takes {:?}, all of it took {:?}",
            self.resumed,
            self.other_lanes,
            Duration::from_millis(self.calm_ms),
            Duration::from_secs(self.seconds)
        );
        let points: Vec<_> = self.points.iter().map(|(point, count)| format!("{point} {count}")).collect();
        let _ =
            writeln!(text, "  {} at random times, {named} at points: {}", self.kills.len() - named, points.join(", "));
        for (id, rows) in &self.sinks {
            let OfSink { rows, lost, twice, strange, order, disordered } = rows;
            let order = match (*order, disordered) {
                ("not", _) => String::new(),
                (order, 0) => format!(", in order ({order})"),
                (order, n) => format!(", in another order ({order}) in {n} runs"),
            };
            let _ =
                writeln!(text, "  sink `{id}`: {rows} rows; {lost} lost, {twice} too often, {strange} strange{order}");
        }
        let left = if self.left.is_empty() { "nothing".to_owned() } else { self.left.join(", ") };
        let _ = writeln!(text, "  left behind: {left}");
        for fault in &self.faults {
            let _ = writeln!(text, "  FAULT {fault}");
        }
        if !self.is_well() {
            let _ = writeln!(text, "  the same draws again: bourn torture {} --seed {}", self.spec, self.seed);
        }
        text
    }
}
