//! What a replay tells at its end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use bourn_engine::graph::{Graph, Role};
use bourn_engine::metrics::{JobStats, StageStats};
use serde_json::json;

use super::counted;
use super::enter::Kept;
use super::office::Office;
use crate::answer;
use crate::args::Form;
use crate::failure::Failure;
use crate::screen::Screen;

/// What became of letters.
#[derive(Debug, Default)]
pub struct Told {
    /// Whether it was a look only.
    pub is_tried: bool,
    /// How many are settled.
    pub replayed: usize,
    /// How many letters have rows that entered, by where.
    pub entered: BTreeMap<String, usize>,
    /// Those that stay as they are.
    pub kept: Vec<Kept>,
    /// Stages that ask something outside, for which a look was not run.
    pub calls: Vec<String>,
    /// Where sinks write, if that is another place than the spec names.
    pub places: BTreeMap<String, String>,
    /// How many rows sinks took.
    written: BTreeMap<String, u64>,
    /// How many rows were rejected again, and where.
    rejected: BTreeMap<String, u64>,
}

impl Told {
    /// Of letters that entered, and of those that stay.
    pub fn new(is_tried: bool, entered: BTreeMap<String, usize>, kept: Vec<Kept>) -> Self {
        Self { is_tried, entered, kept, ..Self::default() }
    }

    /// Takes the counts of the job.
    pub fn look(&mut self, stats: &JobStats, graph: &Graph) {
        let sum = |id: &str, counter: fn(&StageStats) -> u64| {
            stats.stages.iter().filter(|entry| *entry.stage == *id).map(|entry| counter(&entry.stats)).sum::<u64>()
        };
        for node in &graph.nodes {
            let rejected = sum(&node.id, |stats| stats.rows_rejected.load(Relaxed));
            let written = sum(&node.id, |stats| stats.rows_out.load(Relaxed));
            if rejected > 0 {
                self.rejected.insert(node.id.clone(), rejected);
            }
            if matches!(node.role, Role::Sink(_)) && written > 0 {
                self.written.insert(node.id.clone(), written);
            }
        }
    }

    /// Says it.
    ///
    /// # Errors
    /// When nobody reads it.
    pub fn say(&self, office: &Office<'_>, screen: &Screen) -> Result<(), Failure> {
        let text = match screen.form {
            Form::Json => self.json(),
            Form::Text => self.text(),
        };
        answer::print(&office.shown(&text))?;
        let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for kept in &self.kept {
            reasons.entry((&kept.stage, &kept.why)).or_default().push(&kept.id);
        }
        for ((stage, why), ids) in reasons {
            let which = match ids.as_slice() {
                [id] => (*id).to_owned(),
                ids => format!("{} and {} more", ids[0], ids.len() - 1),
            };
            screen.warn(&format!("kept {} of `{stage}` ({which}): {why}", counted(ids.len(), "letter")));
        }
        Ok(())
    }

    fn json(&self) -> String {
        let kept = |kept: &Kept| json!({ "id": kept.id, "stage": kept.stage, "reason": kept.why });
        json!({
            "dry_run": self.is_tried, "replayed": self.replayed, "entered": self.entered, "written": self.written,
            "places": self.places, "rejected": self.rejected, "not_run": self.calls,
            "kept": self.kept.iter().map(kept).collect::<Vec<_>>(),
        })
        .to_string()
    }

    fn text(&self) -> String {
        let entered: usize = self.entered.values().sum();
        let by_stage: Vec<_> = self.entered.iter().map(|(id, count)| format!("`{id}` {count}")).collect();
        let by_stage = if by_stage.is_empty() { String::new() } else { format!(": {}", by_stage.join(", ")) };
        let letters = counted(entered, "letter");
        let mut lines = vec![if self.is_tried {
            format!("would replay {letters}{by_stage}")
        } else if self.replayed < entered {
            format!("replayed {} of {letters}{by_stage}; it was stopped", self.replayed)
        } else {
            format!("replayed {letters}{by_stage}")
        }];
        if !self.calls.is_empty() {
            lines.push(format!("  not run, because {} would be asked", self.calls.join(", ")));
            let places = self.places.iter().map(|(id, place)| format!("  `{id}` would write {place}"));
            lines.extend(places);
        }
        for (id, rows) in &self.written {
            let rows = counted(usize::try_from(*rows).unwrap_or(usize::MAX), "row");
            let place = self.places.get(id).map(|place| format!(" in {place}")).unwrap_or_default();
            lines.push(format!("  `{id}` {} {rows}{place}", if self.is_tried { "would get" } else { "got" }));
        }
        for (id, rows) in &self.rejected {
            let rows = counted(usize::try_from(*rows).unwrap_or(usize::MAX), "row");
            lines.push(format!("  `{id}` {} {rows} again", if self.is_tried { "would reject" } else { "rejected" }));
        }
        lines.join("\n")
    }
}
