//! The part of a graph behind some of its nodes: rows enter there, and what stands before them is left out.

use std::collections::{BTreeMap, HashSet};

use super::logical::{Graph, Input, Node, Role};
use crate::api::registry::BoxConnector;
use crate::api::{Checkpointing, Inputs, OnFull};
use crate::error::{Error, Kind, Result};

/// What the id of the node begins with before which the rows of a pipeline become runs of a workflow: `@run:STAGE`.
pub(crate) const RUNS: &str = "@run:";

impl Graph {
    /// Where rows enter that this node could not work on: rows of a workflow pass it again from its beginning.
    pub fn entry<'a>(&'a self, id: &'a str) -> &'a str {
        let begins = |node: &&Node| node.id.strip_prefix(RUNS) == Some(id);
        self.nodes.iter().find(begins).map_or(id, |node| &node.id)
    }

    /// The nodes that `entries` name and all that reads them, directly or not. A source that is named is replaced; a stage
    /// or sink reads its connector beside what else is left of its inputs. What the dead letters go to stays.
    ///
    /// The part is run once, to its end, beside the job itself: it keeps no checkpoints, its edges hold up what they have no
    /// room for, and no row is dropped there.
    ///
    /// # Errors
    /// When there is no such node, or one that joins two inputs would lack one.
    pub fn behind(&self, entries: BTreeMap<String, BoxConnector>) -> Result<Self> {
        let mut entries: BTreeMap<_, _> =
            entries.into_iter().map(|(id, rows)| (self.entry(&id).to_owned(), rows)).collect();
        if let Some(id) = entries.keys().find(|id| self.node(id).is_none()) {
            return Err(Error::new(Kind::NotFound, format!("there is no source, stage or sink `{id}`")));
        }
        let ids: Vec<String> = entries.keys().cloned().collect();
        let kept = self.reached(ids.iter().map(String::as_str));
        let mut part = Self { name: self.name.clone(), nodes: Vec::new(), options: self.options.clone() };
        part.options.checkpoints = Checkpointing::Off;
        part.options.epoch_every = None;
        // What is wished for is the job's, which recovers.
        part.options.delivery = None;
        for node in self.nodes.iter().filter(|node| kept.contains(node.id.as_str())) {
            let mut node = Node { on_full: OnFull::Block, ..node.clone() };
            let before = node.inputs.len();
            node.inputs.retain(|input| kept.contains(input.node.as_str()));
            let entry = entries.remove(&node.id);
            if let Role::Stage(stage) = &node.role
                && stage.0.inputs() == Inputs::Two
                && (entry.is_some() || node.inputs.len() < before)
            {
                let message = format!("`{}` joins two inputs, and rows of one alone can't be run through it", node.id);
                return Err(Error::unsupported(message));
            }
            match (entry, &mut node.role) {
                (Some(connector), Role::Source(replaced)) => *replaced = connector,
                (Some(connector), _) => {
                    let id = format!("@{}", node.id);
                    node.inputs.push(Input { node: id.clone(), port: None });
                    part.source(id, connector);
                }
                (None, _) => {}
            }
            part.nodes.push(node);
        }
        Ok(part)
    }

    /// The nodes that rows reach which enter at `from`, these among them, and where the dead letters go.
    fn reached<'a>(&'a self, from: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
        let letters = self.options.dead_letters.as_deref();
        let mut kept: HashSet<&str> = from.collect();
        loop {
            let before = kept.len();
            let reads = |node: &&Node| node.inputs.iter().any(|input| kept.contains(input.node.as_str()));
            let found: Vec<&str> = self.nodes.iter().filter(reads).map(|node| node.id.as_str()).collect();
            kept.extend(found);
            if kept.len() == before {
                kept.extend(letters);
                return kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{from_stream, into_stream};
    use crate::rows;

    fn source() -> BoxConnector {
        let rows = rows![{"n": 1}];
        from_stream(rows.schema(), futures::stream::iter([Ok::<_, Error>(rows)]))
    }

    /// `in` -> `a` -> `b` -> `out`, and `a` -> `side`.
    fn graph() -> Graph {
        let mut graph = Graph::new("g");
        graph.source("in", source());
        graph.map_batches("a", |rows| Ok(rows.clone()));
        graph.map_batches("b", |rows| Ok(rows.clone()));
        graph.sink("out", into_stream().0);
        graph.sink("side", into_stream().0).from(["a"]);
        graph.dead_letters("letters", into_stream().0);
        graph
    }

    fn shape(entries: &[&str]) -> Vec<String> {
        let entries = entries.iter().map(|id| ((*id).to_owned(), source())).collect();
        let part = graph().behind(entries).unwrap();
        let node = |n: &Node| {
            let inputs: Vec<_> = n.inputs.iter().map(|i| i.node.as_str()).collect();
            format!("{} <- {}", n.id, inputs.join(" "))
        };
        part.nodes.iter().map(node).collect()
    }

    #[test]
    fn what_stands_before_an_entry_is_left_out_and_what_reads_it_stays() {
        assert_eq!(shape(&["b"]), ["@b <- ", "b <- @b", "out <- b", "letters <- "]);
        assert_eq!(shape(&["out"]), ["@out <- ", "out <- @out", "letters <- "]);
        let whole = ["in <- ", "a <- in", "b <- a", "out <- b", "side <- a", "letters <- "];
        assert_eq!(shape(&["in"]), whole);
    }

    #[test]
    fn an_entry_behind_another_reads_both() {
        let both = ["@a <- ", "a <- @a", "@b <- ", "b <- a @b", "out <- b", "side <- a", "letters <- "];
        assert_eq!(shape(&["a", "b"]), both);
    }

    #[test]
    fn an_entry_that_is_not_there_is_told() {
        let error = graph().behind([("c".to_owned(), source())].into()).err().unwrap();
        assert!(error.message().contains("`c`"), "{error}");
    }
}
