//! How many lanes each node gets, and how rows are spread over them.

use super::{Exchange, Plan};
use crate::api::Distribution;
use crate::graph::Role;

/// Gives each node its lanes and each edge its exchange. A stage that does not say takes as many lanes as the widest
/// node it reads, a sink one: a lane of a sink is a file or a connection of its own, so the user asks for it.
pub fn spread(plan: &mut Plan) {
    for n in 0..plan.nodes.len() {
        let widest = plan.edges.iter().filter(|e| e.to == n).map(|e| plan.nodes[e.from].lanes).max().unwrap_or(1);
        let node = &plan.nodes[n];
        let lanes = match (&node.role, distribution(&node.role)) {
            (_, Distribution::Single) => 1,
            (Role::Stage(_), _) if node.lanes == 0 => widest,
            _ => node.lanes.max(1),
        };
        plan.nodes[n].lanes = lanes.max(1);
    }
    for e in 0..plan.edges.len() {
        let (from, to) = (&plan.nodes[plan.edges[e].from], &plan.nodes[plan.edges[e].to]);
        let exchange = match distribution(&to.role) {
            _ if to.lanes == 1 => Exchange::Forward,
            Distribution::Keyed(columns) => Exchange::Hash(columns),
            Distribution::Broadcast => Exchange::Broadcast,
            _ if from.lanes == to.lanes => Exchange::Forward,
            _ => Exchange::RoundRobin,
        };
        plan.edges[e].exchange = exchange;
    }
}

fn distribution(role: &Role) -> Distribution {
    match role {
        Role::Stage(config) => config.0.distribution(),
        Role::Source(_) | Role::Sink(_) => Distribution::Any,
    }
}
