//! Third pass: what runs each stage. One instance is built and dropped, so what can't be built is known before the start.

use super::{OperatorKind, Plan};
use crate::api::{BuildContext, Limits, Operator};
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::graph::Role;

/// Builds one instance of each stage to see what it is.
///
/// # Errors
/// What building says, placed below the stage.
pub fn learn(plan: &mut Plan, env: &Env) -> Result<(), Problems> {
    let mut problems = Vec::new();
    let mock = plan.options.mock;
    for node in &mut plan.nodes {
        let Role::Stage(config) = &node.role else { continue };
        if node.open.is_some() {
            continue;
        }
        let context = BuildContext {
            env: env.clone(),
            id: node.id.to_string(),
            lane: 0,
            lanes: node.lanes.max(1),
            inputs: node.inputs.clone(),
            mock,
        };
        match config.0.build(&context) {
            Ok(Operator::Stage(_) | Operator::Join(_)) if node.rate_limit.is_some() => {
                let problem = Problem::new(format!("`{}` makes no requests, so it has no rate", node.id));
                problems.push(node.place(problem));
            }
            Ok(Operator::Stage(_)) => node.operator = OperatorKind::Stage,
            Ok(Operator::Join(_)) => node.operator = OperatorKind::Join,
            Ok(Operator::Call(_, limits)) => {
                let rate = node.rate_limit.as_ref().map(|(_, rate)| *rate).or(limits.rate);
                node.operator = OperatorKind::Call(Limits { rate, ..limits });
            }
            Err(e) => problems.push(node.place(Problem::new(e.message().to_owned()))),
        }
    }
    Problems::check(problems)
}
