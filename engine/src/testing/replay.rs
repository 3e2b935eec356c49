//! A run decided again from what the journal has of it, in a world of its own: nothing outside is asked, and no time passes.

use std::time::Duration;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use futures::stream;

use super::simulation::{Outcome, Simulation};
use crate::api::Registry;
use crate::diagnostic::Problems;
use crate::embed::{from_stream, into_stream};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::journal::{History, Memory};
use crate::spec::{Loaded, Spec};
use crate::workflow::{self, Recorded, Runs, Verdict};

/// Rounds may be days apart.
const TIME_MAX: Duration = Duration::from_hours(24 * 365 * 100);
/// What stands for an input that was no good, and is not kept.
const NO_INPUT: &str = "not kept";

/// A run as the journal has it.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its id.
    pub id: String,
    /// Its input as JSON; none when that was no good.
    pub input: Option<String>,
    /// What is known of it.
    pub history: History,
}

/// Decides a run again, by this spec: conditions, switches, places, lists, the ends of rounds, and what asks nobody, such as `set`. What
/// steps asked is answered by the history, so no call is made, whatever the spec says. `changed` is applied to what came out before it is
/// compared.
///
/// # Errors
/// When the graph of the spec has problems.
///
/// ```
/// # use bourn_engine::Result;
/// # use bourn_engine::api::Registry;
/// # use bourn_engine::journal::History;
/// # use bourn_engine::spec::load;
/// # use bourn_engine::testing::replay::{Past, replay};
/// # use bourn_engine::testing::simulation::Simulation;
/// let spec = "steps: [{ id: way, switch: [{ when: '${.input.n > 5}', then: [] }] }]";
/// let loaded = load(spec, "ways.yaml", &Registry::new(), &Simulation::new(1).env()).unwrap();
/// let history: History = serde_json::from_str(r#"{"way": {"status": "COMPLETED", "results": ["a"], "attempts": 1}}"#).unwrap();
/// let past = Past { id: "a".into(), input: Some("{\"n\": 7}".into()), history };
/// let verdict = replay(&loaded, &Registry::new(), &past, |record| record).unwrap();
/// assert_eq!(verdict.difference.unwrap().step, "way");
/// ```
pub fn replay(
    loaded: &Loaded,
    registry: &Registry,
    past: &Past,
    changed: impl Fn(String) -> String,
) -> Result<Verdict, Problems> {
    let Spec::Chain(spec) = &loaded.spec else { return Err(Error::validation("a pipeline has no runs").into()) };
    let (recorded, journal) = (Recorded::of(past.history.clone()), Memory::default());
    let line = line(past.input.as_deref().unwrap_or(NO_INPUT))?;
    let lines = from_stream(line.schema(), stream::iter([Ok::<_, Error>(line)]));
    let runs = Runs::of("inputs", lines).with_id(&past.id).replaying(recorded.clone());
    let mut graph = workflow::compile(loaded, &runs.with_journal(std::sync::Arc::new(journal.clone()), 1));
    let (sink, documents) = into_stream();
    graph.sink("@documents", sink);
    let world = Simulation::new(1).time_max(TIME_MAX);
    let engine = Engine::new(registry.clone()).with_env(world.env());
    let outcome = world.run(async {
        let job = engine.start(engine.plan(graph).await?).await?;
        let read = documents.for_each(|_| std::future::ready(()));
        let (ended, ()) = futures::future::join(job.wait(), read).await;
        Ok::<_, Problems>(ended?)
    });
    match outcome {
        Outcome::Done(ended) => ended?,
        stuck => return Err(Error::engine(format!("the run does not come to its end again: {stuck:?}")).into()),
    }
    let mut replayed = History::default();
    for (name, record) in journal.runs().values().flat_map(|run| &run.history.0) {
        let record = changed(record.get().to_owned());
        replayed.0.insert(name.clone(), serde_json::value::RawValue::from_string(record).map_err(Error::from)?);
    }
    Ok(workflow::judge(spec, &recorded, &replayed)?)
}

/// The input as a source of runs gives it.
fn line(input: &str) -> Result<RecordBatch> {
    let columns: [(&str, ArrayRef); 3] = [
        ("text", std::sync::Arc::new(StringArray::from(vec![input]))),
        ("file", std::sync::Arc::new(StringArray::from(vec!["--input"]))),
        ("number", std::sync::Arc::new(UInt64Array::from(vec![1]))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}
