//! The plan as text and as a Mermaid drawing.

use std::fmt::Write;

use super::{DEAD_LETTERS, Exchange, Open, OperatorKind, Plan, PlannedEdge, PlannedNode};
use crate::api::checkpointing::Timeout;
use crate::api::{Limits, OnFull, Order};
use crate::data::sql_type::sql_name;
use crate::data::units::{Interval, Size};
use crate::graph::{OnError, Role};

impl Plan {
    /// What `bourn plan` prints: nodes with schemas and lanes, edges with exchanges and reservations, tasks, guarantees.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        // Writing into a string can't fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "job {}", self.name)?;
        writeln!(out, "  memory {}, epochs {}", Size(self.options.memory), self.epochs())?;
        if let Some(checkpoints) = &self.checkpoints {
            let (place, keep) = (checkpoints.place(&self.name), checkpoints.keep);
            write!(out, "  checkpoints in {place}, the newest {keep} stay")?;
            if let Some(Timeout { after, tolerated }) = checkpoints.timeout {
                write!(out, "; one may take {}, and {tolerated} times longer", Interval(after))?;
            }
            writeln!(out)?;
        }
        if let Some(most) = self.options.tolerated {
            writeln!(out, "  ends when more than {most} of the rows fail")?;
        }
        writeln!(out, "\nnodes")?;
        for (n, node) in self.nodes.iter().enumerate() {
            writeln!(out, "  {} {}{}", node.id, node.describe(), self.reads(n))?;
            writeln!(out, "    {}", node.config())?;
            for other in &node.fallback {
                writeln!(out, "    fallback ({}) {}", other.0.kind(), other.0.describe())?;
            }
            for (port, schema) in node.outputs.iter().enumerate() {
                let name = if port == 0 { String::new() } else { format!(".{}", node.ports[port - 1]) };
                let columns: Vec<String> = schema
                    .fields()
                    .iter()
                    .map(|f| {
                        format!(
                            "{} {}{}",
                            f.name(),
                            sql_name(f.data_type()),
                            if f.is_nullable() { "" } else { " not null" }
                        )
                    })
                    .collect();
                writeln!(out, "    -> {name}({})", columns.join(", "))?;
            }
            if let Some(open) = &node.open {
                writeln!(out, "    {}", node.left_open(open))?;
            }
        }
        if self.open().next().is_none() {
            self.write_tasks(out)?;
        }
        writeln!(out, "\ndelivery")?;
        for g in &self.guarantees {
            writeln!(out, "  {} -> {}: {} ({})", g.source, g.sink, g.level, g.reason)?;
        }
        Ok(())
    }

    fn write_tasks(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\ntasks")?;
        for chain in &self.chains {
            let ids: Vec<&str> = chain.iter().map(|n| &*self.nodes[*n].id).collect();
            let lanes = self.nodes[chain[0]].lanes;
            writeln!(out, "  {}{}", ids.join(" + "), if lanes > 1 { format!(" x {lanes}") } else { String::new() })?;
        }
        writeln!(out, "\nchannels")?;
        for e in self.edges.iter().filter(|e| !e.fused) {
            let (from, to) = (&self.nodes[e.from], &self.nodes[e.to]);
            let (from, to) = (format!("{}{}", from.id, port_name(from, e.port)), &to.id);
            let full = self.when_full(e);
            writeln!(out, "  {from} -> {to}: {}, {} rows, {}{full}", e.exchange, e.rows, Size(e.bytes as u64))?;
        }
        Ok(())
    }

    /// The graph as a Mermaid flowchart.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (n, node) in self.nodes.iter().enumerate() {
            let label = format!("{}<br/>{}", node.id, node.kind());
            let shape = match node.role {
                Role::Source(_) => format!("([\"{label}\"])"),
                Role::Stage(_) => format!("[\"{label}\"]"),
                Role::Sink(_) => format!("[(\"{label}\")]"),
            };
            let _ = writeln!(text, "  n{n}{shape}");
        }
        for e in &self.edges {
            let port = port_name(&self.nodes[e.from], e.port);
            let arrow =
                if port.is_empty() { "-->".to_owned() } else { format!("-- \"{}\" -->", port.trim_start_matches('.')) };
            let _ = writeln!(text, "  n{} {arrow} n{}", e.from, e.to);
        }
        text
    }

    /// What an edge does when it is full, if it does not block.
    fn when_full(&self, edge: &PlannedEdge) -> String {
        match &edge.on_full {
            OnFull::Block => String::new(),
            OnFull::Drop => ", when full: drop".into(),
            // A branch that meets the others again goes from epoch to epoch with them.
            isolate @ OnFull::Isolate(_) if self.lags(edge) => format!(", when full: {isolate}, epochs of its own"),
            isolate @ OnFull::Isolate(_) => format!(", when full: {isolate}"),
        }
    }

    fn epochs(&self) -> String {
        self.epoch_every.map_or_else(|| "one, at the end".to_owned(), |d| format!("every {}", Interval(d)))
    }

    fn reads(&self, n: usize) -> String {
        let mut from: Vec<String> = self
            .edges_to(n)
            .map(|e| format!("{}{}", self.nodes[e.from].id, port_name(&self.nodes[e.from], e.port)))
            .collect();
        from.dedup();
        if from.is_empty() { String::new() } else { format!(" <- {}", from.join(", ")) }
    }
}

impl PlannedNode {
    /// The kind of stage or connector.
    pub fn kind(&self) -> &'static str {
        match &self.role {
            Role::Source(c) | Role::Sink(c) => c.0.kind(),
            Role::Stage(c) => c.0.kind(),
        }
    }

    /// What stands in place of the columns.
    fn left_open(&self, open: &Open) -> String {
        let source = &open.source;
        match self.role {
            Role::Source(_) => format!("{open}; `bourn validate --connect` asks"),
            Role::Stage(_) => format!("schema: open, as that of `{source}`"),
            Role::Sink(_) => format!("not checked, since the schema of `{source}` is open"),
        }
    }

    /// The configuration as it was written: what came from the environment is shown by its name.
    fn config(&self) -> String {
        match &self.role {
            Role::Source(c) | Role::Sink(c) => c.0.describe().to_string(),
            Role::Stage(c) => c.0.describe().to_string(),
        }
    }

    fn describe(&self) -> String {
        let role = match &self.role {
            Role::Source(_) => "source ",
            Role::Sink(_) => "sink ",
            Role::Stage(_) => "",
        };
        let mut text = format!("({role}{})", self.kind());
        if self.lanes > 1 {
            let _ = write!(text, " x {} lanes", self.lanes);
        }
        if let OperatorKind::Call(l) = &self.operator {
            let shared = self.rate_limit.as_ref().map(|(name, _)| format!(" shared as `{name}`")).unwrap_or_default();
            let rate = l.rate.map(|r| format!(", {r}{shared}")).unwrap_or_default();
            let order = if l.order == Order::Kept { "kept" } else { "free" };
            let timeout = match l.timeout {
                Limits::NO_TIMEOUT => "no timeout".to_owned(),
                timeout => format!("timeout {timeout}"),
            };
            let _ = write!(text, " [{} rows a request, {} in flight, order {order}, {timeout}", l.rows, l.in_flight);
            let _ = write!(text, ", {} attempts{}]", l.retry.max_attempts, rate);
            if self.journal.is_some() {
                text.push_str(" answers kept");
            }
        }
        match self.on_error {
            OnError::Fail => {}
            OnError::Drop => text.push_str(" on error: drop"),
            OnError::DeadLetter => text.push_str(" on error: dead letter"),
        }
        if let Some(rows) = self.admission {
            let _ = write!(text, " at most {rows} rows under way");
        }
        text
    }
}

impl std::fmt::Display for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "schema: not known without asking {}", self.asks)
    }
}

impl std::fmt::Display for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forward => f.write_str("forward"),
            Self::Hash(columns) => write!(f, "hash({})", columns.join(", ")),
            Self::RoundRobin => f.write_str("round robin"),
            Self::Broadcast => f.write_str("broadcast"),
        }
    }
}

fn port_name(node: &PlannedNode, port: usize) -> String {
    match port {
        0 => String::new(),
        DEAD_LETTERS => ".dead_letters".into(),
        port => format!(".{}", node.ports[port - 1]),
    }
}
