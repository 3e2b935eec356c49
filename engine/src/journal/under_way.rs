//! Runs under way. Most pass their steps once at a time; one that hears of a signal, or whose time has come, while other steps of it are in
//! flight passes them once more beside that. Here is told which passage has begun which step, and when all of them have come to the end.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};

use super::History;

/// A run under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// Passages that have not come to the end.
    passages: u32,
    /// The number of the last one, from 0.
    last: u64,
    /// Whether any two were under way at once since the run was passed alone: then none of them has seen it as it stands.
    overlaps: bool,
    /// Whether its document is on its way.
    leaves: bool,
    /// Whether anything of it waits, and until when, in microseconds since 1970.
    pub waits: bool,
    pub due: Vec<i64>,
    /// Early signals, when they came, and the wait that has taken each; bounded by the waits of the run.
    taken: HashMap<Box<str>, (i64, Box<str>)>,
    /// Steps that were begun; bounded by how many the run has.
    steps: BTreeMap<Box<str>, Begun>,
}

/// A step that a passage has begun.
#[derive(Debug)]
struct Begun {
    passage: u64,
    stands: Stands,
    /// Whether another passage has come to it meanwhile.
    is_missed: bool,
    /// What has waited was begun before: a passage up to this one does not know of that.
    known_behind: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Open,
    /// It waits: a passage that knows of that may go on with it.
    Waits,
    /// Its record is on the way to the journal.
    Keeping,
    /// Whoever passes next finds it there.
    Kept,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self {
            passages: 1,
            last: 0,
            overlaps: false,
            leaves: false,
            waits: false,
            due: Vec::new(),
            taken: HashMap::new(),
            steps: BTreeMap::new(),
        }
    }
}

/// Whose a step is that a passage comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Own,
    /// That of another passage, which has not ended it.
    Other,
    /// That of another one, which has ended it, or has begun what waits, since this passage began.
    Ended,
}

impl UnderWay {
    /// Whether it may be passed once more now: its document is not on its way.
    pub(super) fn can_be_passed(&self) -> bool {
        !self.leaves
    }

    /// Nobody passes it: its document is on its way.
    pub(super) fn rest(&mut self) {
        self.leaves = true;
    }

    /// Whether this is a run that has been passed before in this life of it.
    pub(super) fn is_passed_again(&self) -> bool {
        self.last > 0
    }

    /// The number of another passage, which begins.
    pub(super) fn pass(&mut self) -> u64 {
        self.overlaps |= self.passages > 0;
        self.passages += 1;
        self.last += 1;
        self.last
    }

    /// Whose the step of this name is that a passage comes to.
    pub(super) fn begin(&mut self, step: &str, passage: u64) -> Whose {
        match self.steps.entry(step.into()) {
            Entry::Vacant(free) => {
                free.insert(Begun { passage, stands: Stands::Open, is_missed: false, known_behind: None });
                Whose::Own
            }
            Entry::Occupied(taken) => {
                let begun = taken.into_mut();
                if begun.stands == Stands::Waits && begun.passage != passage {
                    if begun.known_behind.is_some_and(|last| passage <= last) {
                        return Whose::Ended;
                    }
                    (begun.passage, begun.stands, begun.is_missed) = (passage, Stands::Open, false);
                }
                if begun.passage == passage {
                    return Whose::Own;
                }
                begun.is_missed = true;
                if begun.stands == Stands::Kept { Whose::Ended } else { Whose::Other }
            }
        }
    }

    /// Whether any part of a step has begun.
    pub(super) fn has_begun_below(&self, step: &str) -> bool {
        History::PARTS.iter().any(|begin| {
            let begin = format!("{step}{begin}");
            self.steps.range(Box::from(begin.as_str())..).next().is_some_and(|(name, _)| name.starts_with(&begin))
        })
    }

    /// Whether a signal that came at this time, before any wait for it began, is for this one: no other one has taken it.
    pub(super) fn takes(&mut self, signal: &str, at: i64, step: &str) -> bool {
        let known = self.taken.get(signal).filter(|(known, _)| *known == at);
        let is_own = known.is_none_or(|(_, taker)| **taker == *step);
        if known.is_none() {
            self.taken.insert(signal.into(), (at, step.into()));
        }
        is_own
    }

    /// A step is left as it stands, and whoever comes to it next may begin it; if `is_new` what was done of it, whoever knows of that. Whether
    /// another passage has missed it.
    pub(super) fn let_go(&mut self, step: &str, passage: u64, is_new: bool) -> bool {
        let last = self.last;
        let is_own = |begun: &&mut Begun| begun.passage == passage && begun.stands == Stands::Open;
        let Some(begun) = self.steps.get_mut(step).filter(is_own) else { return false };
        let is_missed = begun.is_missed;
        if is_new {
            begun.known_behind = Some(last);
        }
        if begun.known_behind.is_some() {
            begun.stands = Stands::Waits;
        } else {
            self.steps.remove(step);
        }
        is_missed
    }

    /// Whether the record of a step is for this passage to keep: no other one does.
    pub(super) fn keep(&mut self, step: &str, passage: u64) -> bool {
        let own = Begun { passage, stands: Stands::Keeping, is_missed: false, known_behind: None };
        match self.steps.entry(step.into()) {
            Entry::Vacant(free) => {
                free.insert(own);
                true
            }
            Entry::Occupied(taken) => {
                let begun = taken.into_mut();
                let is_free = matches!(begun.stands, Stands::Open | Stands::Waits);
                if is_free {
                    begun.stands = Stands::Keeping;
                }
                is_free
            }
        }
    }

    /// The record of a step is kept. Whether another passage has missed it.
    pub(super) fn kept(&mut self, step: &str) -> bool {
        self.steps.get_mut(step).is_some_and(|begun| {
            begun.stands = Stands::Kept;
            begun.is_missed
        })
    }

    /// Whether a passage that has come to the end leaves a document, which is on its way then: it tells the run as it stands, or, when no
    /// other one begins any more, it is the last that knows of it.
    pub(super) fn leave(&mut self, is_over: bool) -> bool {
        self.leaves = !self.overlaps || (is_over && self.passages == 1);
        self.leaves
    }

    /// Whether no passage of it is under way.
    pub(super) fn is_cut_off(&self) -> bool {
        self.passages == 0
    }

    /// A passage that had not seen all has come to the end, and what it did is kept. Whether it was the last one: then the run is passed
    /// alone, with all that is kept of it.
    pub(super) fn gone(&mut self) -> bool {
        self.passages = self.passages.saturating_sub(1);
        if self.passages > 0 {
            return false;
        }
        self.overlaps = false;
        self.waits = false;
        self.taken.clear();
        self.steps.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_begun_by_one_passage_and_whoever_missed_it_hears_of_its_end() {
        let mut run = UnderWay::default();
        assert_eq!((run.begin("long", 0), run.begin("long", 0)), (Whose::Own, Whose::Own));
        assert_eq!(run.pass(), 1);
        assert_eq!(
            (run.begin("long", 1), run.begin("short", 1), run.begin("short", 0)),
            (Whose::Other, Whose::Own, Whose::Other)
        );
        assert!(!run.let_go("long", 1, true), "it is not its own");
        assert!(run.let_go("short", 1, false), "it was missed");
        assert_eq!(run.begin("short", 0), Whose::Own);
        assert!(run.keep("long", 0) && !run.keep("long", 1));
        assert!(run.kept("long") && !run.kept("short"));
        assert_eq!(run.begin("long", 1), Whose::Ended);
        assert!(!run.let_go("long", 0, true), "it has ended");
        assert!(run.begin("each[1]/in", 1) == Whose::Own && run.begin("eacher", 1) == Whose::Own);
        let below = ["each", "each[1]", "each[1]/in", "eache", "each[", "long"].map(|step| run.has_begun_below(step));
        assert_eq!(below, [true, true, false, false, false, false]);
        // Nobody begins again what waits and does not know of it.
        assert_eq!(run.begin("waits", 1), Whose::Own);
        assert_eq!((run.pass(), run.let_go("waits", 1, true)), (2, false));
        assert_eq!((run.begin("waits", 0), run.begin("waits", 2), run.pass()), (Whose::Ended, Whose::Ended, 3));
        assert_eq!(
            (run.begin("waits", 3), run.begin("waits", 2), run.let_go("waits", 3, false)),
            (Whose::Own, Whose::Other, true)
        );
        assert_eq!((run.begin("waits", 2), run.begin("waits", 3)), (Whose::Ended, Whose::Own));
    }

    #[test]
    fn the_last_of_several_passages_is_followed_by_one_that_sees_all() {
        let mut run = UnderWay::default();
        assert_eq!(run.begin("a", 0), Whose::Own);
        let second = run.pass();
        assert!(!run.leave(false) && !run.gone() && run.can_be_passed());
        assert!(!run.leave(false) && run.gone());
        let third = run.pass();
        assert_eq!((second, third, run.begin("a", third)), (1, 2, Whose::Own));
        assert!(run.leave(false) && !run.can_be_passed());
        let mut run = UnderWay::default();
        run.pass();
        assert!(!run.leave(true) && !run.gone() && run.leave(true), "no other one begins any more");
    }
}
