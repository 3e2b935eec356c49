//! Edges between the parts of a spec by their ids: what is not there, and what goes round in a circle.

use std::collections::BTreeSet;

use crate::diagnostic::{Problem, did_you_mean};

/// A name that leads nowhere, and the nearest of those that are there.
pub(crate) fn dangling<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Problem {
    let problem = Problem::new(format!("there is no {what} `{name}`"));
    if let Some(help) = did_you_mean(name, known.clone()) {
        return problem.help(help);
    }
    let mut known: Vec<_> = known.into_iter().filter(|k| !k.is_empty()).collect();
    known.dedup();
    if known.is_empty() { problem } else { problem.help(format!("there is: {}", known.join(", "))) }
}

/// The first circle among nodes that each read others: its members in the order in which rows would go round, from the
/// one that was declared first.
pub(crate) fn cycle(reads: &[Vec<usize>]) -> Option<Vec<usize>> {
    // A walk along `reads`; `way` is the path from its start and how many edges of each node were taken.
    let mut done = vec![false; reads.len()];
    for start in 0..reads.len() {
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        let mut on_way: BTreeSet<usize> = [start].into();
        while let Some((node, taken)) = way.last_mut() {
            let next = reads[*node].get(*taken).copied().filter(|_| !done[*node]);
            *taken += 1;
            match next {
                Some(next) if on_way.contains(&next) => {
                    let from = way.iter().position(|(n, _)| *n == next).unwrap_or_default();
                    let mut circle: Vec<_> = way[from..].iter().map(|(n, _)| *n).collect();
                    circle.reverse();
                    let first = (0..circle.len()).min_by_key(|i| circle[*i]).unwrap_or_default();
                    circle.rotate_left(first);
                    return Some(circle);
                }
                Some(next) if !done[next] => {
                    way.push((next, 0));
                    on_way.insert(next);
                }
                Some(_) => {}
                None => {
                    done[*node] = true;
                    on_way.remove(node);
                    way.pop();
                }
            }
        }
    }
    None
}

/// `cycle: a -> b -> a`
pub(crate) fn cycle_problem<'a>(names: impl Iterator<Item = &'a str>) -> Problem {
    let mut names: Vec<_> = names.collect();
    names.extend(names.first().copied());
    Problem::new(format!("cycle: {}", names.join(" -> ")))
        .help("each can start only after the one before it; take one away")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cycle_is_told_from_its_first_member_in_the_order_of_the_rows() {
        // 1 reads 3, 2 reads 1, 3 reads 2: rows go 1 -> 2 -> 3 -> 1.
        assert_eq!(cycle(&[vec![], vec![0, 3], vec![1], vec![2]]), Some(vec![1, 2, 3]));
        assert_eq!(cycle(&[vec![0]]), Some(vec![0]));
        assert_eq!(cycle(&[vec![], vec![0], vec![0], vec![1, 2]]), None);
    }

    proptest! {
        #[test]
        fn a_cycle_is_found_exactly_when_there_is_one(edges in prop::collection::vec((0usize..8, 0usize..8), 0..14)) {
            let mut reads = vec![Vec::new(); 8];
            let mut graph = petgraph::graph::DiGraph::<(), ()>::new();
            let nodes: Vec<_> = (0..8).map(|_| graph.add_node(())).collect();
            for (a, b) in edges {
                reads[a].push(b);
                graph.add_edge(nodes[b], nodes[a], ());
            }
            let found = cycle(&reads);
            prop_assert_eq!(found.is_some(), petgraph::algo::is_cyclic_directed(&graph));
            if let Some(circle) = found {
                for (i, node) in circle.iter().enumerate() {
                    let next = circle[(i + 1) % circle.len()];
                    prop_assert!(reads[next].contains(node));
                }
            }
        }
    }
}
