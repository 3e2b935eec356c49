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
    /// Which job it was in, from 1.
    pub job: u64,
    /// `journal_commit:2`, or `after 312ms`.
    pub at: String,
    /// The last boundary of the journal that the process had come to; none when it had not come to any.
    pub behind: Option<String>,
    /// Steps that were in the journal then.
    pub steps: u64,
}

/// What was asked of the service. Whatever was under way when a process was killed is asked for again, with the same key.
#[derive(Debug, Default, Serialize)]
pub struct Requests {
    /// Different ones: one for each step that asks.
    pub effects: u64,
    /// All of them.
    pub sent: u64,
    /// Of these, what was tried again because the service had refused it, as it does on purpose.
    pub refused: u64,
    /// What was asked for again because its answer had not reached the journal: at least once is what is promised there.
    pub repeated: u64,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The spec; the scenario of this command if none.
    pub spec: Option<String>,
    /// What was drawn from.
    pub seed: u64,
    /// Runs of each job.
    pub runs: u64,
    /// Jobs that were begun, each with all of these runs.
    pub jobs: u64,
    /// How often a process went on with a job.
    pub resumed: u64,
    /// Milliseconds of the job that nobody disturbed.
    pub calm_ms: u64,
    /// Seconds in all.
    pub seconds: u64,
    /// Kills at boundaries of the journal.
    pub points: Vec<(&'static str, u64)>,
    /// Steps in the journals of all jobs.
    pub steps: u64,
    /// What the service saw; of a spec of somebody's own nobody knows.
    pub requests: Option<Requests>,
    /// Runs and steps that were acknowledged, and that are gone.
    pub lost: u64,
    /// Steps that have ended twice, or were done again though the journal had them.
    pub duplicated_commits: u64,
    /// What went wrong, in words.
    pub faults: Vec<String>,
    /// Each kill.
    pub kills: Vec<Killed>,
}

impl Killed {
    /// A line.
    pub fn line(&self) -> String {
        let behind = self.behind.as_ref().filter(|point| !self.at.starts_with(point.as_str()));
        let behind = behind.map_or_else(String::new, |point| format!(", behind `{point}`"));
        let steps = match self.steps {
            0 => "before any step had ended".to_owned(),
            steps => format!("{steps} steps had ended"),
        };
        format!("kill {}, job {}: {}{behind}, {steps}", self.number, self.job, self.at)
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.faults.is_empty() && self.lost == 0 && self.duplicated_commits == 0
    }

    /// For people.
    pub fn text(&self, again: &str) -> String {
        let what = self.spec.as_deref().unwrap_or("workflows");
        let mut text = format!(
            "{what}: {} kills in {} jobs of {} runs; seed {}\n",
            self.kills.len(),
            self.jobs,
            self.runs,
            self.seed
        );
        let _ = writeln!(
            text,
            "  {} starts went on with a job; a calm job takes {:?}, all of it took {:?}",
            self.resumed,
            Duration::from_millis(self.calm_ms),
            Duration::from_secs(self.seconds)
        );
        let at: BTreeMap<_, _> = self.points.iter().copied().collect();
        let named: u64 = at.values().sum();
        let points: Vec<_> = self.points.iter().map(|(point, count)| format!("{point} {count}")).collect();
        let random = self.kills.len() as u64 - named;
        let _ = writeln!(text, "  {random} at random times, {named} at points: {}", points.join(", "));
        if let Some(Requests { effects, sent, refused, repeated }) = &self.requests {
            let _ = writeln!(
                text,
                "  {} steps in the journal, {effects} of which ask; {sent} requests, {refused} of them tried again after a \
                 refusal, {repeated} repeated (at least once: their process was killed before the answer was kept)",
                self.steps
            );
        } else {
            let _ = writeln!(text, "  {} steps in the journal; what their services saw is not known here", self.steps);
        }
        for fault in &self.faults {
            let _ = writeln!(text, "  FAULT {fault}");
        }
        if !self.is_well() {
            let _ = writeln!(text, "  the same draws again: {again} --seed {}", self.seed);
        }
        let _ = writeln!(text, "lost={} duplicated_commits={}", self.lost, self.duplicated_commits);
        text
    }
}
