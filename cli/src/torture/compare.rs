//! The rows of a torn run beside those of the calm one.

use std::collections::HashMap;

use serde_json::Value;

/// The most rows that a difference shows of each kind.
const SHOWN: usize = 3;

/// How the rows of a sink must stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Anyhow: they come from several lanes, or into several files.
    Any,
    /// As in the calm run.
    Full,
    /// As in the calm run among those that have the same values in these columns; each row is a JSON object.
    ByKey(Vec<String>),
}

/// What is wrong with the rows of a sink.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows that are missing.
    pub lost: u64,
    /// Rows that are there more often than they must be.
    pub twice: u64,
    /// Rows that the calm run does not have.
    pub strange: u64,
    /// Whether they stand in another order.
    pub disordered: bool,
    /// The first of them, each with a word before it.
    pub shown: Vec<String>,
}

impl Difference {
    /// Whether there is any.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares. `may_repeat`: the sink is promised its rows at least once, so that more of them are no fault.
pub fn rows(calm: &[String], torn: &[String], order: &Order, may_repeat: bool) -> Difference {
    let mut counts: HashMap<&str, i64> = HashMap::new();
    for row in calm {
        *counts.entry(row).or_default() += 1;
    }
    let known = |row: &str| counts.contains_key(row);
    let mut found = Difference::default();
    let strange: Vec<_> = torn.iter().filter(|row| !known(row)).collect();
    found.strange = strange.len() as u64;
    found.shown.extend(strange.iter().take(SHOWN).map(|row| format!("not in the calm run: {row}")));
    for row in torn {
        if let Some(count) = counts.get_mut(row.as_str()) {
            *count -= 1;
        }
    }
    let mut left: Vec<_> = counts.into_iter().filter(|(_, count)| *count != 0).collect();
    left.sort_unstable();
    let (lost, twice): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, count)| *count > 0);
    found.lost = lost.iter().map(|(_, count)| count.unsigned_abs()).sum();
    found.shown.extend(lost.iter().take(SHOWN).map(|(row, _)| format!("lost: {row}")));
    if !may_repeat {
        found.twice = twice.iter().map(|(_, count)| count.unsigned_abs()).sum();
        found
            .shown
            .extend(twice.iter().take(SHOWN).map(|(row, count)| format!("{} times too often: {row}", count.abs())));
    }
    if found.is_none() && twice.is_empty() {
        let first = match order {
            Order::Any => None,
            Order::Full => calm.iter().zip(torn).find(|(c, t)| c != t).map(|(c, t)| (c.clone(), t.clone())),
            Order::ByKey(columns) => disordered(calm, torn, columns),
        };
        if let Some((expected, came)) = first {
            found.disordered = true;
            found.shown.push(format!("{came} came in place of {expected}"));
        }
    }
    found
}

/// The first row that stands at the place of another among the rows of its key.
fn disordered(calm: &[String], torn: &[String], columns: &[String]) -> Option<(String, String)> {
    let key = |row: &String| {
        let row: Value = serde_json::from_str(row).unwrap_or_default();
        columns.iter().map(|c| row[c].to_string()).collect::<Vec<_>>()
    };
    let mut by_key: HashMap<_, Vec<&String>> = HashMap::new();
    for row in calm.iter().rev() {
        by_key.entry(key(row)).or_default().push(row);
    }
    torn.iter().find_map(|row| {
        let next = by_key.get_mut(&key(row)).and_then(Vec::pop);
        next.filter(|next| *next != row).map(|next| (next.clone(), row.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(rows: &[&str]) -> Vec<String> {
        rows.iter().map(|r| (*r).to_owned()).collect()
    }

    #[test]
    fn lost_doubled_and_strange_rows_are_counted() {
        let found = rows(&all(&["a", "b", "b", "c"]), &all(&["c", "b", "x", "c", "b"]), &Order::Any, false);
        assert_eq!((found.lost, found.twice, found.strange, found.disordered), (1, 1, 1, false));
        assert_eq!(found.shown, ["not in the calm run: x", "lost: a", "1 times too often: c"]);
    }

    #[test]
    fn rows_that_come_again_are_no_fault_where_they_may() {
        assert!(rows(&all(&["a", "b"]), &all(&["a", "a", "b"]), &Order::Full, true).is_none());
        assert!(!rows(&all(&["a", "b"]), &all(&["a", "a"]), &Order::Full, true).is_none());
    }

    #[test]
    fn the_order_counts_as_far_as_it_is_promised() {
        let (calm, torn) = (all(&["a", "b"]), all(&["b", "a"]));
        assert!(rows(&calm, &torn, &Order::Any, false).is_none());
        assert!(rows(&calm, &torn, &Order::Full, false).disordered);
        let by_key = Order::ByKey(vec!["k".into()]);
        let calm = all(&[r#"{"k":1,"n":1}"#, r#"{"k":2,"n":1}"#, r#"{"k":1,"n":2}"#]);
        let moved = all(&[r#"{"k":2,"n":1}"#, r#"{"k":1,"n":1}"#, r#"{"k":1,"n":2}"#]);
        let swapped = all(&[r#"{"k":1,"n":2}"#, r#"{"k":2,"n":1}"#, r#"{"k":1,"n":1}"#]);
        assert!(rows(&calm, &moved, &by_key, false).is_none());
        assert!(rows(&calm, &swapped, &by_key, false).disordered);
    }
}
