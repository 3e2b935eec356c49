//! A shape from a seed.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::shape::{Does, Node, Shape};
use crate::api::OnFull;

/// Draws a graph.
pub(super) fn shape(seed: u64) -> Shape {
    let mut draw = Draw { random: SmallRng::seed_from_u64(seed), nodes: Vec::new(), dead_letters: false };
    draw.dead_letters = draw.chance(60);
    for n in 0..draw.random.random_range(1..=3) {
        let read = draw.source(n);
        let lanes = if let Does::Read { splits, .. } = &read { draw.upto(splits.len()) } else { 1 };
        draw.add(read, Vec::new(), lanes);
    }
    let stages = draw.random.random_range(2..=12);
    let diamond = seed.is_multiple_of(2);
    let mut left = stages;
    while left > 0 {
        // A diamond needs a node to part at, a way around, and a node to meet at.
        if diamond && left == stages {
            let top = draw.output();
            let around = draw.stage(vec![top]);
            draw.stage(vec![top, (around, 0)]);
            left -= 2;
        } else {
            let inputs = draw.inputs();
            draw.stage(inputs);
            left -= 1;
        }
    }
    draw.sinks();
    draw.policies();
    let (fuse, epoch_ms) = (draw.chance(50), draw.random.random_range(5..200));
    Shape { nodes: draw.nodes, dead_letters: draw.dead_letters, fuse, epoch_ms }
}

struct Draw {
    random: SmallRng,
    nodes: Vec<Node>,
    dead_letters: bool,
}

impl Draw {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn upto(&mut self, most: usize) -> usize {
        self.random.random_range(1..=most)
    }

    fn slow_ms(&mut self) -> u64 {
        if self.chance(40) { self.random.random_range(1..50) } else { 0 }
    }

    fn add(&mut self, does: Does, inputs: Vec<(usize, usize)>, lanes: usize) -> usize {
        let to_dead_letters = self.dead_letters && self.chance(70);
        let number = self.nodes.len();
        let id = match &does {
            Does::Read { .. } => format!("source{number}"),
            Does::Write { .. } => format!("sink{number}"),
            _ => format!("stage{number}"),
        };
        self.nodes.push(Node { id, does, inputs, on_full: OnFull::Block, lanes, to_dead_letters });
        number
    }

    fn source(&mut self, number: i64) -> Does {
        let mut splits = Vec::new();
        for _ in 0..self.upto(3) {
            splits.push(if self.chance(20) { 0 } else { self.upto(60) });
        }
        Does::Read { first: 1 + number * 1_000, splits, chunk: self.upto(12), slow_ms: self.slow_ms() }
    }

    /// Any output: of a source or stage, sometimes its second port.
    fn output(&mut self) -> (usize, usize) {
        let from = self.random.random_range(0..self.nodes.len());
        let parts = matches!(self.nodes[from].does, Does::Part { .. });
        (from, usize::from(parts && self.chance(50)))
    }

    /// An output that nobody reads yet, if there is one.
    fn unread(&mut self) -> Option<(usize, usize)> {
        let unread = self.all_unread();
        if unread.is_empty() { None } else { Some((unread[self.random.random_range(0..unread.len())], 0)) }
    }

    fn all_unread(&self) -> Vec<usize> {
        let read = |n: &usize| self.nodes.iter().any(|node| node.inputs.iter().any(|(from, _)| from == n));
        (0..self.nodes.len()).filter(|n| !self.nodes[*n].does.is_sink() && !read(n)).collect()
    }

    fn inputs(&mut self) -> Vec<(usize, usize)> {
        let many = if self.chance(30) { self.random.random_range(2..=3) } else { 1 };
        let mut inputs: Vec<(usize, usize)> = Vec::new();
        for _ in 0..many {
            let fresh = if self.chance(70) { self.unread() } else { None };
            let input = match fresh {
                Some(fresh) => fresh,
                None => self.output(),
            };
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        inputs
    }

    fn stage(&mut self, inputs: Vec<(usize, usize)>) -> usize {
        let of = self.random.random_range(2..9);
        let kinds = if inputs.len() == 2 { 11 } else { 10 };
        let does = match self.random.random_range(0..kinds) {
            0 => Does::Pass { keyed: false },
            1 => Does::Pass { keyed: true },
            2 => Does::Keep { of },
            3 => Does::Repeat { times: self.random.random_range(1..=3) },
            4 => Does::Part { of },
            5 => Does::Reject { of },
            6 => Does::Fail { of },
            7 => Does::Hold { rows: self.upto(20) },
            8 => Does::Call {
                slow_ms: self.slow_ms(),
                ordered: self.chance(50),
                rows: self.upto(4),
                in_flight: self.upto(6),
                refused_of: of,
                flaky: self.chance(30),
            },
            9 => Does::Unique,
            _ => Does::Join,
        };
        let lanes = if self.chance(40) { self.upto(3) } else { 1 };
        self.add(does, inputs, lanes)
    }

    /// Some graphs have edges that drop, or that spool on a disk of some rows or of many.
    fn policies(&mut self) {
        if !self.chance(40) {
            return;
        }
        for node in 0..self.nodes.len() {
            let disk = if self.chance(50) { 4 << 10 } else { 1 << 20 };
            let policy = match self.random.random_range(0..6) {
                0 => OnFull::Drop,
                1 | 2 => OnFull::isolate(disk),
                _ => OnFull::Block,
            };
            if !self.nodes[node].does.is_source() {
                self.nodes[node].on_full = policy;
            }
        }
    }

    /// Every output that nobody reads gets a sink, some of them the same; and sometimes one that is read already.
    fn sinks(&mut self) {
        let mut unread: Vec<(usize, usize)> = self.all_unread().into_iter().map(|n| (n, 0)).collect();
        if self.chance(30) {
            let other = self.output();
            if !unread.contains(&other) {
                unread.push(other);
            }
        }
        while !unread.is_empty() {
            let many = self.upto(unread.len().min(3));
            let inputs = unread.split_off(unread.len() - many);
            let refused_of = if self.chance(30) { self.random.random_range(3..20) } else { i64::MAX };
            let (slow_ms, transactional) = (self.slow_ms(), self.chance(50));
            let lanes = if self.chance(30) { self.upto(3) } else { 1 };
            self.add(Does::Write { slow_ms, transactional, refused_of }, inputs, lanes);
        }
    }
}
