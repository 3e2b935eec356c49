//! Which stages share a task: neighbours that hand each other every row, lane by lane.

use super::{Exchange, OperatorKind, Plan};
use crate::api::OnFull;

/// Groups the nodes into chains. Only synchronous stages are fused; a join only as the head of a chain.
pub fn fuse(plan: &mut Plan) {
    let mut chain_of: Vec<Option<usize>> = vec![None; plan.nodes.len()];
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for n in 0..plan.nodes.len() {
        let joined = plan.options.fuse.then(|| fusible_edge(plan, n)).flatten();
        if let Some(e) = joined {
            let writer = plan.edges[e].from;
            let chain = chain_of[writer].expect("a writer stands before its readers");
            plan.edges[e].fused = true;
            chains[chain].push(n);
            chain_of[n] = Some(chain);
        } else {
            chain_of[n] = Some(chains.len());
            chains.push(vec![n]);
        }
    }
    plan.chains = chains;
}

/// The edge by which a node can share the task of what it reads.
fn fusible_edge(plan: &Plan, n: usize) -> Option<usize> {
    let mut inputs = plan.edges.iter().enumerate().filter(|(_, e)| e.to == n);
    let (index, edge) = inputs.next()?;
    let (from, to) = (&plan.nodes[edge.from], &plan.nodes[n]);
    let only_input = inputs.next().is_none();
    let only_reader = plan.edges.iter().filter(|e| e.from == edge.from && e.port == 0).count() == 1;
    let synchronous =
        to.operator == OperatorKind::Stage && matches!(from.operator, OperatorKind::Stage | OperatorKind::Join);
    let same_lane = edge.exchange == Exchange::Forward && from.lanes == to.lanes;
    let waits = edge.on_full == OnFull::Block;
    (waits && only_input && only_reader && synchronous && same_lane && edge.port == 0).then_some(index)
}
