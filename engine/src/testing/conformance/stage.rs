//! The promises of a stage, and of a join.

#[cfg(test)]
mod broken;
mod run;

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::{Broken, Check, NO_PANIC, config, message, must_hold, require};
use crate::api::{Inputs, StageConfig};
use crate::testing::harness::Harness;
use run::Run;

/// Planning agrees.
pub const PLANNED: &str = "the configuration plans for its input, each time with the same schemas";
/// It builds what it said.
pub const BUILDS: &str = "a stage with merged inputs builds a stage, one with two a join";
/// Schemas are kept.
pub const SCHEMA: &str = "every batch that leaves by a port has the schema that was planned for the port";
/// Ports are declared.
pub const PORTS: &str = "rows leave by declared ports, whose names are unique and have no dot";
/// The sample is worked.
pub const WORKS: &str = "a stage with state works its input without an error";
/// Two instances agree.
pub const REPEATABLE: &str = "two instances say the same about the same rows";
/// Chunks do not matter.
pub const CHUNKING: &str = "how the rows are cut into batches does not show in what leaves";
/// The count is right.
pub const CARDINALITY: &str =
    "each row that entered has left, or is counted as filtered, rejected, late or held, as declared";
/// Nothing stays.
pub const LEAVES: &str = "when the input has ended, no row is held any more";
/// Rejected rows are those that entered.
pub const REJECTS: &str = "a rejected row stands as it entered";
/// Errors leave no trace.
pub const NO_TRACE: &str = "a call that failed leaves no trace in a stage without state";
/// More ends.
pub const MORE_ENDS: &str = "`Progress::More` comes to an end";
/// The output is bounded.
pub const BOUNDED: &str = "one call puts at most 32,768 rows into its output, then asks to go on";
/// Ticks move on.
pub const WAKES: &str = "a tick works, and moves `wake_at` on";
/// Pieces are named once.
pub const PIECES: &str = "each piece of state has a name of its own, in the same order at each visit";
/// State is complete.
pub const SNAPSHOT: &str = "another instance that restores a snapshot goes on with the same output";
/// Empty input.
pub const EMPTY: &str = "empty input ends without an error, and without rows unless the stage declares `Many`";

/// What [`Suite::check`] tests beside [`config::PROMISES`] and [`super::NO_PANIC`].
pub const PROMISES: &[&str] = &[
    PLANNED,
    BUILDS,
    SCHEMA,
    PORTS,
    WORKS,
    REPEATABLE,
    CHUNKING,
    CARDINALITY,
    LEAVES,
    REJECTS,
    NO_TRACE,
    MORE_ENDS,
    BOUNDED,
    WAKES,
    PIECES,
    SNAPSHOT,
    EMPTY,
];

/// The suite for a stage that reads rows like those of `input`: ten or more, good and bad ones, are a good sample.
///
/// ```
/// # use bourn_engine::{api::StageConfig, rows, testing::conformance};
/// # fn example(stage: impl StageConfig) {
/// conformance::stage(stage, rows![{"id": 1}, {"id": 2}, {"id": 3}]).check();
/// # }
/// ```
pub fn stage<C: StageConfig>(config: C, input: RecordBatch) -> Suite<C> {
    Suite { config, inputs: vec![input], failing: None, chunking: true }
}

/// The suite for a join.
pub fn join<C: StageConfig>(config: C, left: RecordBatch, right: RecordBatch) -> Suite<C> {
    Suite { config, inputs: vec![left, right], failing: None, chunking: true }
}

/// See [`stage()`].
pub struct Suite<C> {
    config: C,
    inputs: Vec<RecordBatch>,
    failing: Option<RecordBatch>,
    chunking: bool,
}

impl<C: StageConfig> Suite<C> {
    /// Rows on which the stage fails; tests that this leaves no trace.
    #[must_use]
    pub fn failing(mut self, rows: RecordBatch) -> Self {
        self.failing = Some(rows);
        self
    }

    /// For a stage whose purpose is to treat batches as they come (a sample of each, say): leaves [`CHUNKING`] out.
    #[must_use]
    pub fn chunking_matters(mut self) -> Self {
        self.chunking = false;
        self
    }

    /// Tests every promise.
    ///
    /// # Panics
    /// With the first promise that is broken.
    pub fn check(&self) {
        must_hold(C::NAME, self.verify());
    }

    /// As [`Suite::check`].
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn verify(&self) -> Check {
        let result = catch_unwind(AssertUnwindSafe(|| self.all()));
        result.unwrap_or_else(|panic| Err(Broken::new(NO_PANIC, message(&*panic))))
    }

    fn all(&self) -> Check {
        config::check(&self.config)?;
        let schemas: Vec<SchemaRef> = self.inputs.iter().map(RecordBatch::schema).collect();
        let joins = self.config.inputs() == Inputs::Two;
        require(joins == (schemas.len() == 2), BUILDS, || format!("{} inputs are given", schemas.len()))?;
        let planned = self.planned(&schemas)?;
        // Building fails here when it builds a call, or one of the two where the other was declared.
        let built = Harness::new(&self.config, &schemas).map_err(|e| Broken::new(BUILDS, e))?;
        require(built.joins() == joins, BUILDS, || format!("declared {:?}", self.config.inputs()))?;
        let run = Run { config: &self.config, inputs: &self.inputs, schemas, planned };
        run.pieces()?;
        run.empty()?;
        run.repeatable()?;
        if self.chunking {
            run.chunking()?;
        }
        run.snapshots()?;
        run.ticks()?;
        run.bounded()?;
        self.failing.as_ref().map_or(Ok(()), |rows| run.no_trace(rows))
    }

    /// The schema of each port, the main one first.
    fn planned(&self, inputs: &[SchemaRef]) -> Check<Vec<SchemaRef>> {
        let ports = self.config.ports();
        let mut unique = ports.clone();
        unique.sort();
        unique.dedup();
        let well = unique.len() == ports.len() && ports.iter().all(|p| !p.is_empty() && !p.contains('.'));
        require(well, PORTS, || format!("{ports:?}"))?;
        let plan = || {
            let main = self.config.schema(inputs);
            let others = ports.iter().map(|port| self.config.port_schema(port, inputs));
            let all: Result<Vec<_>, _> = std::iter::once(main).chain(others).collect();
            all.map_err(|problems| Broken::new(PLANNED, format!("{:?}", problems.0)))
        };
        let (first, second) = (plan()?, plan()?);
        require(first == second, PLANNED, || format!("{first:?}, then {second:?}"))?;
        Ok(first)
    }
}
