//! What the ways of routes have brought in earlier runs of a workflow, as its journal has it.

use std::collections::BTreeMap;

use bourn_engine::spec::model::Chain;
use bourn_engine::workflow::record::{Record, Status};
use bourn_journal::{Run, Sqlite};
use serde::Serialize;
use serde_json::Value;

use super::insights::{LOOKED_AT, runs_of, without_places};
use crate::failure::Failure;

/// What stands behind the name of a route where its reward is.
const REWARD: &str = ".reward";

/// What a run says of one of its routes.
struct Known {
    /// The name of the route, places of elements left out.
    route: String,
    /// The steps that it chose.
    way: Value,
    reward: f64,
}

/// The rewards of a way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Mean {
    /// In how many runs one is known.
    pub rewards: u64,
    pub mean: f64,
}

/// What the ways of each route have brought, by the steps of the way: `domestic, told`.
pub(super) type Routes = BTreeMap<String, BTreeMap<String, Mean>>;

/// Tells the routes of a workflow what their ways have brought in its newest runs.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub fn teach(journal: &Sqlite, chain: &Chain) -> Result<(), Failure> {
    let routes = chain.routes();
    if routes.is_empty() {
        return Ok(());
    }
    for known in known(journal, &runs_of(journal, &chain.name, LOOKED_AT)?)? {
        let of = routes.iter().filter(|(name, _)| *name == known.route.replace("[]", ""));
        of.for_each(|(_, arms)| arms.learn(&known.way, known.reward));
    }
    Ok(())
}

/// The same for a person.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub(super) fn routes(journal: &Sqlite, runs: &[Run]) -> Result<Routes, Failure> {
    let mut routes = Routes::new();
    for Known { route, way, reward } in known(journal, runs)? {
        let steps = way.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        let mean = routes.entry(route).or_default().entry(steps).or_default();
        mean.rewards += 1;
        mean.mean += (reward - mean.mean) / mean.rewards as f64;
    }
    Ok(routes)
}

fn known(journal: &Sqlite, runs: &[Run]) -> Result<Vec<Known>, Failure> {
    let mut all = Vec::new();
    let record = |text: &str| serde_json::from_str::<Record>(text).map_err(|e| Failure::Failed(e.into()));
    for run in runs {
        let history = journal.history(run).map_err(Failure::Failed)?.0;
        for (name, said) in &history {
            let Some(route) = name.strip_suffix(REWARD).filter(|name| !name.starts_with('@')) else { continue };
            let Some(chosen) = history.get(route) else { continue };
            let (said, chosen) = (record(said.get())?, record(chosen.get())?);
            // What a fork has taken over counts where it was done.
            let (Status::Completed, Some(reward)) = (said.status, said.results.and_then(|r| r.as_f64())) else {
                continue;
            };
            all.push(Known { route: without_places(route), way: chosen.results.unwrap_or_default(), reward });
        }
    }
    Ok(all)
}
