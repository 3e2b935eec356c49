//! The promises of a source.

#[cfg(test)]
mod broken;
mod read;
mod run;

use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::{Broken, Check, config, in_time, must_hold, require, without_panic};
use crate::api::{ConnectContext, Connector, Known, Replay};
use crate::data::position::Split;
use crate::env::Env;
use crate::testing::harness::rows::columns;
use run::Run;

/// The connector says that it has a source.
pub const DECLARED: &str = "a connector with a source declares what the source can do";
/// The schema is one.
pub const SCHEMA: &str = "every chunk has the declared schema, and the schema is the same each time it is asked for";
/// Nothing is guessed.
pub const KNOWN: &str = "what is known of the schema without a network is what is found by asking";
/// Splits are stable.
pub const SPLITS: &str = "splits are the same each time they are asked for, and each has a name of its own";
/// Chunks keep to the splits.
pub const OWN_SPLITS: &str = "a source reads the splits that it was given, and no others";
/// Chunks are bounded.
pub const BOUNDED: &str = "a chunk has at most 65,536 rows and 32 MiB";
/// Reading ends.
pub const ENDS: &str = "a read ends within the bound, and finite input comes to its end";
/// Reading works.
pub const READS: &str = "reading does not fail for good";
/// Nothing lost, nothing twice.
pub const COUNT: &str = "every row is read once, whether one lane reads all splits or each split has a lane";
/// Replay is exact.
pub const REPLAY: &str = "a source that starts behind the position of a chunk reads exactly the rest";
/// Cancel safety.
pub const DROPPED: &str = "after a pending read was dropped, a new source loses nothing";
/// Acks succeed.
pub const ACKS: &str = "an ack succeeds, at once or late, while others are dropped";
/// Redelivery.
pub const REDELIVERY: &str = "rows that were not acknowledged come again, and those that were do not";

/// What [`Suite::check`] tests beside [`config::PROMISES`] and [`super::NO_PANIC`].
pub const PROMISES: &[&str] =
    &[DECLARED, SCHEMA, KNOWN, SPLITS, OWN_SPLITS, BOUNDED, ENDS, READS, COUNT, REPLAY, DROPPED, ACKS, REDELIVERY];

/// The suite for the source of `connector`.
pub fn source<C: Connector>(connector: C) -> Suite<C> {
    Suite { connector, rows: None, bound: Duration::from_mins(1), chunks: 64 }
}

/// See [`source()`].
pub struct Suite<C> {
    connector: C,
    rows: Option<usize>,
    bound: Duration,
    chunks: usize,
}

impl<C: Connector> Suite<C> {
    /// How many rows there are, those that can't be read included. A source that replays what was not acknowledged
    /// needs to be told: its input has no end.
    #[must_use]
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = Some(rows);
        self
    }

    /// How long one read may take; a minute if not said.
    #[must_use]
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// How many chunks of an endless input are read; 64 if not said.
    #[must_use]
    pub fn chunks(mut self, chunks: usize) -> Self {
        self.chunks = chunks;
        self
    }

    /// Tests every promise that the declared capabilities imply.
    ///
    /// # Panics
    /// With the first promise that is broken.
    pub async fn check(&self, env: &Env) {
        must_hold(C::NAME, self.verify(env).await);
    }

    /// As [`Suite::check`].
    ///
    /// # Errors
    /// The first promise that is broken.
    pub async fn verify(&self, env: &Env) -> Check {
        without_panic(self.all(env)).await
    }

    async fn all(&self, env: &Env) -> Check {
        config::check(&self.connector)?;
        let capabilities = self.connector.capabilities().source;
        let capabilities = capabilities.ok_or_else(|| Broken::new(DECLARED, "`capabilities().source` is none"))?;
        let run = Run { suite: self, env, capabilities, schema: self.schema(env).await? };
        let splits = self.splits(env).await?;
        match capabilities.replay {
            Replay::Unacknowledged => run.redelivery(&splits).await,
            Replay::Nothing => run.once(&splits).await.map(drop),
            Replay::FromPosition => {
                let read = run.once(&splits).await?;
                run.lanes(&splits, &read).await?;
                run.acks(&splits).await?;
                run.replay(&splits, &read).await?;
                run.drops(&splits, &read).await
            }
        }
    }

    async fn schema(&self, env: &Env) -> Check<SchemaRef> {
        let context = ConnectContext { env: env.clone(), id: "source".into(), lanes: 1 };
        let ask = || async {
            let schema = in_time(env, self.bound, ENDS, self.connector.schema(&context)).await?;
            schema.map_err(|problems| Broken::new(SCHEMA, format!("{:?}", problems.0)))
        };
        let (first, second) = (ask().await?, ask().await?);
        require(first == second, SCHEMA, || format!("it was {} and is {}", columns(&first), columns(&second)))?;
        let known = in_time(env, self.bound, ENDS, self.connector.known(&context)).await?;
        match known.map_err(|problems| Broken::new(KNOWN, format!("{:?}", problems.0)))? {
            Known::Asks(_) => {}
            Known::Schema(known) => require(first == known, KNOWN, || {
                format!("{} is known, and {} is found", columns(&known), columns(&first))
            })?,
        }
        Ok(first)
    }

    async fn splits(&self, env: &Env) -> Check<Vec<Split>> {
        let context = ConnectContext { env: env.clone(), id: "source".into(), lanes: 1 };
        let ask = || async {
            let splits = in_time(env, self.bound, ENDS, self.connector.splits(&context)).await?;
            splits.map_err(|e| Broken::new(SPLITS, e))
        };
        let (first, second) = (ask().await?, ask().await?);
        require(first == second, SPLITS, || format!("{first:?}, then {second:?}"))?;
        let mut unique = first.clone();
        unique.sort();
        unique.dedup();
        require(unique.len() == first.len(), SPLITS, || format!("a name stands twice in {first:?}"))?;
        Ok(first)
    }
}
