//! Second pass: the schema of every edge.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use futures::future::{Either, select};

use super::{Asking, DEAD_LETTERS, Open, Plan, PlannedNode};
use crate::api::erased::{ErasedConnector, ErasedStage};
use crate::api::{ConnectContext, Inputs, Known, Side, merged};
use crate::data::columns;
use crate::data::units::Interval;
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::graph::Role;

/// How long a server may take for all that it is asked, where everyone is asked.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks sources, stages and sinks in order. A node whose input is at fault is left out, so that one fault is told once; one
/// whose input is open is left open.
///
/// # Errors
/// Every problem that they name, placed below the node.
pub async fn infer(plan: &mut Plan, env: &Env, asking: Asking) -> Result<(), Problems> {
    let mut problems = Vec::new();
    let mut failed = vec![false; plan.nodes.len()];
    for n in 0..plan.nodes.len() {
        let inputs: Vec<_> = plan.edges.iter().filter(|e| e.to == n).map(|e| (e.from, e.port)).collect();
        // Rejected rows have the same columns wherever they come from.
        let read = || inputs.iter().filter(|(_, port)| *port != DEAD_LETTERS).map(|(from, _)| *from);
        failed[n] = read().any(|from| failed[from]);
        plan.nodes[n].open = read().find_map(|from| plan.nodes[from].open.clone());
        if failed[n] || plan.nodes[n].open.is_some() {
            continue;
        }
        let names: Vec<String> = inputs.iter().map(|(from, port)| named(&plan.nodes[*from], *port)).collect();
        let mut schemas: Vec<SchemaRef> = inputs
            .iter()
            .map(|(from, port)| match *port {
                DEAD_LETTERS => columns::DEAD_LETTER.clone(),
                port => plan.nodes[*from].outputs[port].clone(),
            })
            .collect();
        let is_stage = |node: &&PlannedNode| matches!(node.role, Role::Stage(_));
        let stages: Vec<_> = plan.nodes[..n].iter().filter(is_stage).map(|node| node.id.clone()).collect();
        let node = &mut plan.nodes[n];
        let asked = Asked {
            context: ConnectContext { env: env.clone(), id: node.id.to_string(), lanes: node.lanes.max(1) },
            asking,
        };
        let outputs = match &node.role {
            Role::Source(connector) => match asked.source(&*connector.0).await {
                Ok(Known::Schema(schema)) => Ok(vec![schema]),
                Ok(Known::Asks(server)) => {
                    node.open = Some(Open { source: node.id.clone(), asks: server.into() });
                    Ok(Vec::new())
                }
                Err(problems) => Err(problems),
            },
            Role::Stage(config) => {
                let read = match config.0.inputs() {
                    Inputs::Two => Ok(()),
                    Inputs::Merged => merge(&mut schemas, &names),
                };
                read.and_then(|()| ports(&*config.0, &node.ports, &schemas))
            }
            Role::Sink(connector) => match (merge(&mut schemas, &names), schemas.first()) {
                (Ok(()), Some(schema)) => {
                    let mut checked = asked.sink(&*connector.0, schema).await;
                    for (number, other) in node.fallback.iter().enumerate() {
                        let other = asked.sink(&*other.0, schema).await;
                        checked = and(checked, other.map_err(|found| in_fallback(found, number)));
                    }
                    checked.map(|()| Vec::new())
                }
                (read, _) => read.map(|()| Vec::new()),
            },
        };
        node.inputs = schemas;
        match outputs {
            Ok(outputs) => node.outputs = outputs,
            Err(Problems(found)) => {
                failed[n] = true;
                problems.extend(found.into_iter().map(|p| node.place(names_a_stage(p, &stages))));
            }
        }
    }
    Problems::check(problems)
}

/// Says so when what is taken for a column is the name of a stage.
fn names_a_stage(problem: Problem, stages: &[Arc<str>]) -> Problem {
    let named = stages.iter().find(|id| problem.message == format!("unknown column `{id}`"));
    match named.filter(|_| problem.help.is_none()) {
        Some(id) => problem.help(format!("`{id}` is a stage, and no column: what it gives is among these")),
        None => problem,
    }
}

/// The schema of each port, the main one first.
fn ports(config: &dyn ErasedStage, names: &[String], inputs: &[SchemaRef]) -> Result<Vec<SchemaRef>, Problems> {
    let mut all = vec![config.schema(inputs)?];
    for port in names {
        all.push(config.port_schema(port, inputs)?);
    }
    Ok(all)
}

/// A connector that is asked.
struct Asked {
    context: ConnectContext,
    asking: Asking,
}

impl Asked {
    async fn source(&self, connector: &dyn ErasedConnector) -> Result<Known, Problems> {
        match self.asking {
            Asking::Nobody => connector.known(&self.context).await,
            Asking::Sources => connector.schema(&self.context).await.map(Known::Schema),
            Asking::Everyone => {
                // What is at fault without a network is told as ever.
                let known = connector.known(&self.context).await?;
                let all = async {
                    connector.reach(Side::Source, &self.context).await?;
                    connector.schema(&self.context).await.map(Known::Schema)
                };
                match known {
                    Known::Asks(server) => self.in_time(&server, all).await,
                    Known::Schema(_) => self.in_time(connector.kind(), all).await,
                }
            }
        }
    }

    async fn sink(&self, connector: &dyn ErasedConnector, schema: &SchemaRef) -> Result<(), Problems> {
        connector.check_sink(schema, &self.context).await?;
        if self.asking != Asking::Everyone {
            return Ok(());
        }
        self.in_time(connector.kind(), connector.reach(Side::Sink(schema), &self.context)).await
    }

    /// The answer of a server, with the name of the source or sink before what is wrong with it.
    async fn in_time<T>(&self, server: &str, answer: impl Future<Output = Result<T, Problems>>) -> Result<T, Problems> {
        let answer = match select(pin!(answer), self.context.env.sleep(PATIENCE)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => {
                let waited = Interval(PATIENCE);
                Err(Problem::new(format!("{server}: no answer within {waited}")).into())
            }
        };
        let tell = |p: Problem| Problem { message: format!("`{}`: {}", self.context.id, p.message), ..p };
        answer.map_err(|Problems(found)| Problems(found.into_iter().map(tell).collect()))
    }
}

/// The problems of both.
fn and(one: Result<(), Problems>, other: Result<(), Problems>) -> Result<(), Problems> {
    let found = [one, other].into_iter().filter_map(Result::err).flat_map(|Problems(found)| found);
    Problems::check(found.collect())
}

/// The sink's own path leads to its configuration, not to that of a fallback.
fn in_fallback(found: Problems, number: usize) -> Problems {
    let tell =
        |p: Problem| Problem { message: format!("fallback {}: {}", number + 1, p.message), path: Vec::new(), ..p };
    Problems(found.0.into_iter().map(tell).collect())
}

/// Inputs that are merged are read with the columns that they have together: the runtime relabels those that differ.
fn merge(schemas: &mut [SchemaRef], names: &[String]) -> Result<(), Problems> {
    if schemas.len() > 1 {
        let together = merged(schemas, |n| names[n].clone())?;
        schemas.fill(together);
    }
    Ok(())
}

/// What messages call an input.
fn named(from: &PlannedNode, port: usize) -> String {
    match port {
        0 => format!("`{}`", from.id),
        DEAD_LETTERS => format!("the dead letters of `{}`", from.id),
        port => format!("`{}.{}`", from.id, from.ports[port - 1]),
    }
}
