//! The rows that each sink must get, computed from the shape alone.

use std::collections::{BTreeMap, BTreeSet};

use super::shape::{Does, Shape, hit};
use super::{Notes, Rows};

/// What must be seen when a graph has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Rows by sink.
    pub sinks: BTreeMap<String, Rows>,
    /// Dead letters by the stage that rejects the row.
    pub dead_letters: BTreeMap<String, Rows>,
    /// Sinks and stages on whose way rows may be dropped: what is there must be a part of what may be.
    pub lossy: BTreeSet<String>,
}

/// What leaves a node.
#[derive(Default)]
struct Leaves {
    main: Rows,
    rest: Rows,
    rejected: Rows,
}

/// Follows every row through the graph.
pub(super) fn expected(shape: &Shape) -> Expected {
    let mut leaves: Vec<Leaves> = Vec::new();
    let lossy = shape.nodes.iter().zip(shape.lossy()).filter(|(_, lossy)| *lossy).map(|(n, _)| n.id.clone()).collect();
    let mut expected = Expected { sinks: BTreeMap::new(), dead_letters: BTreeMap::new(), lossy };
    for node in &shape.nodes {
        let mut enters = Rows::new();
        for (from, port) in &node.inputs {
            let rows = if *port == 1 { &leaves[*from].rest } else { &leaves[*from].main };
            for (id, count) in rows {
                *enters.entry(*id).or_default() += count;
            }
        }
        let left = work(&node.does, enters);
        if node.to_dead_letters && !left.rejected.is_empty() {
            expected.dead_letters.insert(node.id.clone(), left.rejected.clone());
        }
        if node.does.is_sink() {
            expected.sinks.insert(node.id.clone(), left.main.clone());
        }
        leaves.push(left);
    }
    expected
}

fn work(does: &Does, enters: Rows) -> Leaves {
    let mut leaves = Leaves::default();
    match does {
        Does::Read { first, splits, .. } => {
            let rows = i64::try_from(splits.iter().sum::<usize>()).expect("some hundreds");
            leaves.main = (*first..first + rows).map(|id| (id, 1)).collect();
        }
        Does::Pass { .. } | Does::Hold { .. } | Does::Join => leaves.main = enters,
        Does::Unique => leaves.main = enters.into_keys().map(|id| (id, 1)).collect(),
        Does::Keep { of } => leaves.main = enters.into_iter().filter(|(id, _)| !hit(*id, *of)).collect(),
        Does::Repeat { times } => leaves.main = enters.into_iter().map(|(id, count)| (id, count * times)).collect(),
        Does::Part { of } => (leaves.rest, leaves.main) = parted(enters, *of),
        Does::Reject { of } | Does::Fail { of } => (leaves.rejected, leaves.main) = parted(enters, *of),
        Does::Call { refused_of, .. } | Does::Write { refused_of, .. } => {
            (leaves.rejected, leaves.main) = parted(enters, *refused_of);
        }
    }
    leaves
}

fn parted(rows: Rows, of: i64) -> (Rows, Rows) {
    rows.into_iter().partition(|(id, _)| hit(*id, of))
}

impl Expected {
    /// Compares what was seen with what must be.
    ///
    /// # Errors
    /// Every place that differs, with a row.
    pub fn compare(&self, seen: &Notes) -> Result<(), String> {
        let mut wrong = seen.faults.clone();
        for (kind, expected, found) in
            [("sink", &self.sinks, &seen.sinks), ("dead letters of", &self.dead_letters, &seen.dead_letters)]
        {
            let none = Rows::new();
            let mut ids: Vec<&String> = expected.keys().chain(found.keys()).collect();
            ids.sort();
            ids.dedup();
            for id in ids {
                let (expected, found) = (expected.get(id).unwrap_or(&none), found.get(id).unwrap_or(&none));
                let lossy = self.lossy.contains(id);
                wrong.extend(difference(expected, found, lossy).map(|d| format!("{kind} `{id}`: {d}")));
            }
        }
        if seen.chunks != seen.acks && seen.crashes == 0 {
            wrong.push(format!("{} chunks were read and {} acknowledged", seen.chunks, seen.acks));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

impl Expected {
    /// The first place that does not yet show a row as often as it must.
    pub(super) fn missing(&self, id: i64, seen: &Notes) -> Option<String> {
        let late = |expected: &BTreeMap<String, Rows>, seen: &BTreeMap<String, Rows>| {
            let shown = |place: &String| seen.get(place).and_then(|rows| rows.get(&id)).copied().unwrap_or(0);
            let mut places = expected.iter();
            places
                .find(|(place, rows)| {
                    !self.lossy.contains(*place) && rows.get(&id).is_some_and(|must| shown(place) < *must)
                })
                .map(|(p, _)| p.clone())
        };
        let sink = late(&self.sinks, &seen.sinks).map(|id| format!("sink `{id}`"));
        sink.or_else(|| late(&self.dead_letters, &seen.dead_letters).map(|id| format!("the dead letters of `{id}`")))
    }
}

fn difference(expected: &Rows, found: &Rows, lossy: bool) -> Option<String> {
    let count = |rows: &Rows, id: &i64| rows.get(id).copied().unwrap_or(0);
    let id = expected.keys().chain(found.keys()).find(|id| {
        let (must, is) = (count(expected, id), count(found, id));
        if lossy { is > must } else { is != must }
    })?;
    let total = |rows: &Rows| rows.values().sum::<u64>();
    Some(format!(
        "{} rows must be there and {} are; row {id} must be there {} times and is there {} times",
        total(expected),
        total(found),
        count(expected, id),
        count(found, id)
    ))
}
