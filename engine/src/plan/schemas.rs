//! Second pass: the schema of every edge.

use arrow::datatypes::SchemaRef;

use super::{DEAD_LETTERS, Plan, PlannedNode};
use crate::api::{ConnectContext, Inputs, merged};
use crate::data::columns;
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::graph::Role;

/// Asks sources, stages and sinks in order. A node whose input is at fault is left out, so that one fault is told once.
///
/// # Errors
/// Every problem that they name, placed below the node.
pub async fn infer(plan: &mut Plan, env: &Env) -> Result<(), Problems> {
    let mut problems = Vec::new();
    let mut failed = vec![false; plan.nodes.len()];
    for n in 0..plan.nodes.len() {
        let inputs: Vec<_> = plan.edges.iter().filter(|e| e.to == n).map(|e| (e.from, e.port)).collect();
        failed[n] = inputs.iter().any(|(from, port)| *port != DEAD_LETTERS && failed[*from]);
        if failed[n] {
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
        let node = &mut plan.nodes[n];
        let context = ConnectContext { env: env.clone(), id: node.id.to_string() };
        let outputs = match &node.role {
            Role::Source(connector) => connector.0.schema(&context).await.map(|s| vec![s]),
            Role::Stage(config) => {
                let read = match config.0.inputs() {
                    Inputs::Two => Ok(()),
                    Inputs::Merged => merge(&mut schemas, &names),
                };
                let mut found = read.and_then(|()| config.0.schema(&schemas)).map(|s| vec![s]);
                for port in &node.ports {
                    found = found.and_then(|mut all| {
                        all.push(config.0.port_schema(port, &schemas)?);
                        Ok(all)
                    });
                }
                found
            }
            Role::Sink(connector) => match (merge(&mut schemas, &names), schemas.first()) {
                (Ok(()), Some(schema)) => {
                    let mut checked = connector.0.check_sink(schema, &context).await;
                    for (number, other) in node.fallback.iter().enumerate() {
                        let other = other.0.check_sink(schema, &context).await;
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
                problems.extend(found.into_iter().map(|p| node.place(p)));
            }
        }
    }
    Problems::check(problems)
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
