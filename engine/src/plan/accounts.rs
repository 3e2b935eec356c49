//! A pass of checks: what stages are to keep and to account for, they can.

use super::{OperatorKind, Plan, PlannedNode};
use crate::api::{Accounts, Budget, OnExceeded, Purses};
use crate::diagnostic::{Problem, Problems};

impl Plan {
    /// The budgets that bind a node: its own, and those of the job and of each run if it asks models.
    pub(crate) fn budgets(&self, node: &PlannedNode) -> impl Iterator<Item = Budget> {
        let own =
            if let OperatorKind::Call(limits) = &node.operator { limits.budget.as_deref().copied() } else { None };
        let jobs = self.options.budget.into_iter().chain(self.options.purses.as_ref().map(Purses::budget));
        own.into_iter().chain(jobs.filter(|_| node.accounts.tokens))
    }

    /// Whether the job is to stop when a budget is spent, and to go on later.
    pub(crate) fn pauses(&self) -> bool {
        self.nodes.iter().flat_map(|node| self.budgets(node)).any(|budget| budget.on_exceeded == OnExceeded::Pause)
    }
}

/// Checks the nodes whose operators are known.
///
/// # Errors
/// What a node can't account for, placed below it.
pub fn check(plan: &Plan) -> Result<(), Problems> {
    let known = plan.nodes.iter().filter(|node| node.open.is_none());
    let mut problems: Vec<_> = known.flat_map(|node| of(plan, node)).collect();
    if plan.pauses() && plan.checkpoints.is_none() && plan.options.kept.is_none() {
        let problem =
            Problem::new("a job that pauses goes on from its checkpoint or its journal, and this one keeps none");
        problems.push(problem.help("add `checkpoint: { every: 10s }`, or say `on_exceeded: fail`"));
    }
    Problems::check(problems)
}

fn of(plan: &Plan, node: &PlannedNode) -> Vec<Problem> {
    let (Accounts { keeps, tokens, usd, .. }, id) = (node.accounts, &node.id);
    let asks = matches!(node.operator, OperatorKind::Call(_));
    let mut problems = Vec::new();
    if node.journal.is_some() && !asks {
        problems.push(Problem::new(format!("`{id}` asks nobody, so it has no answers to keep")));
    } else if node.journal.is_some() && !keeps {
        problems.push(Problem::new(format!("`{id}` can't keep its answers: what they depend on is not known")));
    }
    let budgets: Vec<_> = plan.budgets(node).collect();
    if !budgets.is_empty() && !tokens {
        problems.push(Problem::new(format!("`{id}` does not say what it costs, so it can't keep a budget")));
    } else if budgets.iter().any(|budget| budget.usd.is_some()) && !usd {
        let problem = Problem::new(format!("a budget in money is kept, and `{id}` has no `price`"));
        problems.push(problem.help("say what a million tokens cost: `price: { input: 3, output: 15 }`"));
    }
    problems.into_iter().map(|problem| node.place(problem)).collect()
}
