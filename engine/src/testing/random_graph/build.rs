//! The engine's graph from a shape.

use std::time::Duration;

use super::Seen;
use super::connectors::End;
use super::shape::{Does, Shape};
use super::stages::Step;
use crate::graph::{Graph, Input, OnError};

/// The id of the sink of the dead letters.
const DEAD_LETTERS: &str = "dead_letters";

/// Channels hold one row, so that every wait on a full channel happens.
pub(super) fn graph(shape: &Shape, seen: &Seen) -> Graph {
    let mut graph = Graph::new("random");
    for node in &shape.nodes {
        let does = node.does.clone();
        let builder = if does.is_source() {
            graph.source(&node.id, End { does, seen: seen.clone() })
        } else if does.is_sink() {
            graph.sink(&node.id, End { does, seen: seen.clone() })
        } else {
            graph.stage(&node.id, Step { does })
        };
        let input = |(from, port): &(usize, usize)| Input {
            node: shape.nodes[*from].id.clone(),
            port: (*port == 1).then(|| "rest".to_owned()),
        };
        let on_error = if node.to_dead_letters { OnError::DeadLetter } else { OnError::Drop };
        builder.from(node.inputs.iter().map(input)).lanes(node.lanes).on_error(on_error).on_full(node.on_full.clone());
    }
    if shape.dead_letters {
        let does = Does::Write { slow_ms: 0, transactional: true, refused_of: i64::MAX };
        graph.dead_letters(DEAD_LETTERS, End { does, seen: seen.clone() });
    }
    graph.options.edge_rows = Some(1);
    graph.options.fuse = shape.fuse;
    graph.options.epoch_every = Some(Duration::from_millis(shape.epoch_ms));
    graph
}
