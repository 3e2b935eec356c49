//! Third pass: what runs each stage. One instance is built and dropped, so what can't be built is known before the start.

use super::{OperatorKind, Plan};
use crate::api::{BuildContext, Call, Operator};
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::error::Result;
use crate::graph::Role;
use crate::state::StateVisitor;
use crate::state::visitor::{Piece, Scope};

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
            jobs: None,
        };
        match config.0.build(&context) {
            Ok(Operator::Stage(_) | Operator::Join(_)) if node.rate_limit.is_some() => {
                let problem = Problem::new(format!("`{}` makes no requests, so it has no rate", node.id));
                problems.push(node.place(problem));
            }
            Ok(Operator::Stage(mut stage)) => {
                node.operator = OperatorKind::Stage;
                node.keeps_keys = keeps_keys(|visitor| stage.visit_state(visitor));
            }
            Ok(Operator::Join(mut join)) => {
                node.operator = OperatorKind::Join;
                node.keeps_keys = keeps_keys(|visitor| join.visit_state(visitor));
            }
            Ok(Operator::Call(call, limits)) => {
                node.accounts = call.accounts();
                let shared = node.rate_limit.as_ref().map(|(_, shared)| *shared);
                node.operator = OperatorKind::Call(shared.unwrap_or_default().of(limits));
            }
            Err(e) => problems.push(node.place(Problem::new(e.message().to_owned()))),
        }
    }
    Problems::check(problems)
}

/// Whether a stage names a piece of state that belongs to keys.
fn keeps_keys(visit: impl FnOnce(&mut dyn StateVisitor) -> Result<()>) -> bool {
    struct Look(bool);
    impl StateVisitor for Look {
        fn piece(&mut self, _: &str, piece: &mut dyn Piece) -> Result<()> {
            self.0 |= piece.scope() == Scope::Key;
            Ok(())
        }
    }
    let mut look = Look(false);
    visit(&mut look).is_ok() && look.0
}
