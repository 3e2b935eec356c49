//! Second pass: the schema of every edge.

use arrow::datatypes::SchemaRef;

use super::{DEAD_LETTERS, Plan};
use crate::api::{ConnectContext, Inputs};
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
        let schemas: Vec<SchemaRef> = inputs
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
                let mut found = same_columns(&node.id, config.0.inputs(), &schemas)
                    .and_then(|()| config.0.schema(&schemas))
                    .map(|s| vec![s]);
                for port in &node.ports {
                    found = found.and_then(|mut all| {
                        all.push(config.0.port_schema(port, &schemas)?);
                        Ok(all)
                    });
                }
                found
            }
            Role::Sink(connector) => {
                let merged = match schemas.first() {
                    Some(_) => same_columns(&node.id, Inputs::Merged, &schemas),
                    None => Ok(()),
                };
                match (merged, schemas.first()) {
                    (Ok(()), Some(schema)) => connector.0.check_sink(schema, &context).await.map(|()| Vec::new()),
                    (checked, _) => checked.map(|()| Vec::new()),
                }
            }
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

/// Inputs that are merged must have the same columns.
fn same_columns(id: &str, inputs: Inputs, schemas: &[SchemaRef]) -> Result<(), Problems> {
    if inputs == Inputs::Two {
        return Ok(());
    }
    let Some((first, others)) = schemas.split_first() else { return Ok(()) };
    for other in others {
        let columns =
            |s: &SchemaRef| s.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>();
        let (a, b) = (columns(first), columns(other));
        if a != b {
            let show = |c: &[(String, arrow::datatypes::DataType)]| {
                c.iter().map(|(n, t)| format!("{n} {t}")).collect::<Vec<_>>().join(", ")
            };
            let problem = Problem::new(format!("`{id}` merges inputs with different columns"));
            return Err(problem
                .label(format!("one has: {}; another: {}", show(&a), show(&b)))
                .help("bring them to the same columns with `map` first")
                .into());
        }
    }
    Ok(())
}
