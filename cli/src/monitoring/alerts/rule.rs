//! A rule, and how it stands: quiet, pending, firing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::jq::Program;
use bourn_engine::spec::alerts::Alert;
use bourn_engine::time::Timestamp;

use super::figures::Snapshot;

/// How finely the past of a window is kept.
const SAMPLES: u32 = 64;

/// A rule at work.
pub struct Rule {
    /// What the spec says.
    pub alert: Alert,
    /// Its condition.
    pub program: Program,
    /// Which receivers it tells.
    pub receivers: Vec<usize>,
    /// Whether it was told that the condition can't be judged.
    pub is_told_faulty: bool,
    state: State,
    past: VecDeque<Arc<Snapshot>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Quiet,
    /// It holds since then, and not for long enough.
    Pending(Duration),
    /// It was told first at this time of the wall, and last at this one.
    Firing(Timestamp, Duration),
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The condition has held for long enough, since then it fires.
    Fires(Timestamp),
    /// It does not hold any more; it has fired since then.
    Resolved(Timestamp),
}

impl Rule {
    /// A quiet one.
    pub fn of(alert: Alert, program: Program, receivers: Vec<usize>) -> Self {
        // The job began with nothing.
        let past = VecDeque::from([Arc::<Snapshot>::default()]);
        Self { alert, program, receivers, is_told_faulty: false, state: State::Quiet, past }
    }

    /// What the figures of `now` are counted from: how it stood when the window began, or the job.
    pub fn before(&mut self, now: &Arc<Snapshot>) -> Arc<Snapshot> {
        let Some(window) = self.alert.window.map(|window| window.0) else { return self.past[0].clone() };
        let from = now.at.saturating_sub(window);
        while self.past.get(1).is_some_and(|next| next.at <= from) {
            self.past.pop_front();
        }
        let before = self.past[0].clone();
        if self.past.back().is_none_or(|last| now.at.saturating_sub(last.at) >= window / SAMPLES) {
            self.past.push_back(now.clone());
        }
        before
    }

    /// The condition holds or not at `now`: what is to be told of it.
    pub fn look(&mut self, holds: bool, now: (Duration, Timestamp)) -> Option<Change> {
        let patience = self.alert.r#for.map_or(Duration::ZERO, |patience| patience.0);
        let (state, change) = match (self.state, holds) {
            (State::Quiet | State::Pending(_), false) => (State::Quiet, None),
            (State::Firing(since, _), false) => (State::Quiet, Some(Change::Resolved(since))),
            (State::Quiet, true) if !patience.is_zero() => (State::Pending(now.0), None),
            (State::Pending(since), true) if now.0.saturating_sub(since) < patience => (State::Pending(since), None),
            (State::Quiet | State::Pending(_), true) => (State::Firing(now.1, now.0), Some(Change::Fires(now.1))),
            (State::Firing(since, told), true) => {
                let is_due = self.alert.repeat.is_some_and(|repeat| now.0.saturating_sub(told) >= repeat.0);
                let told = if is_due { now.0 } else { told };
                (State::Firing(since, told), is_due.then_some(Change::Fires(since)))
            }
        };
        self.state = state;
        change
    }
}

#[cfg(test)]
mod tests {
    use bourn_engine::data::units::Interval;
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rule(rest: serde_json::Value) -> Rule {
        let mut said = json!({ "alert": "A", "expr": "true" });
        said.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let alert: Alert = serde_json::from_value(said).unwrap();
        let program = alert.program().unwrap();
        Rule::of(alert, program, vec![0])
    }

    /// What is told, second by second, where the condition holds (`+`) or not.
    fn told(rule: &mut Rule, holds: &str) -> String {
        let told = (0_u32..).zip(holds.chars()).map(|(second, holds)| {
            match rule.look(holds == '+', (SECOND * second, Timestamp(second.into()))) {
                None => '.'.to_string(),
                Some(Change::Fires(since)) => format!("F{}", since.0),
                Some(Change::Resolved(since)) => format!("R{}", since.0),
            }
        });
        told.collect()
    }

    #[test]
    fn it_is_told_once_when_the_condition_begins_to_hold_and_once_when_it_ends() {
        assert_eq!(told(&mut rule(json!({})), "-+++--++-"), ".F1..R1.F6.R6");
    }

    #[test]
    fn it_is_told_no_sooner_than_the_condition_has_held_for_so_long() {
        assert_eq!(told(&mut rule(json!({ "for": "3s" })), "++-++++++-+"), "......F6..R6.");
    }

    #[test]
    fn it_is_told_again_as_often_as_it_says() {
        assert_eq!(told(&mut rule(json!({ "repeat": "2s" })), "++++++-"), "F0.F0.F0.R0");
    }

    #[test]
    fn a_window_begins_so_long_ago_or_with_the_job() {
        let mut rule = rule(json!({ "window": "10s" }));
        assert_eq!(rule.alert.window, Some(Interval(SECOND * 10)));
        let mut began = |second: u32| {
            let now = Arc::new(Snapshot::empty(SECOND * second));
            rule.before(&now).at.as_secs()
        };
        assert_eq!([1, 5, 9, 10, 13, 15, 16, 40, 41].map(&mut began), [0, 0, 0, 0, 1, 5, 5, 16, 16]);
        for second in 50..5_000 {
            began(second);
        }
        assert!(rule.past.len() <= 12, "{}", rule.past.len());
    }
}
