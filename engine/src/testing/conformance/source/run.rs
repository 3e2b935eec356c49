//! The tests of a source, one promise after the other.

use std::time::Duration;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;

use super::read::{Part, Places, Read};
use super::{ACKS, BOUNDED, COUNT, DROPPED, ENDS, OWN_SPLITS, READS, REDELIVERY, REPLAY, SCHEMA, Suite};
use crate::api::connector::SourceCapabilities;
use crate::api::{Ack, BoxSource, Chunk, Connector, Source, SourceContext};
use crate::data::position::Split;
use crate::data::records::bytes_needed;
use crate::env::Env;
use crate::error::{Error, Result, Retry};
use crate::testing::conformance::{Broken, Check, drop_after, equal, in_time, require};
use crate::testing::harness::rows::{columns, difference};

const ROWS_MAX: usize = 65_536;
const BYTES_MAX: usize = 32 << 20;
/// Chunks after which replay is tried, spread over the input.
const CUTS: usize = 24;
/// The most awaits at which a read is dropped.
const DROPS: usize = 12;

/// A suite at work.
pub(super) struct Run<'a, C> {
    pub(super) suite: &'a Suite<C>,
    pub(super) env: &'a Env,
    pub(super) capabilities: SourceCapabilities,
    pub(super) schema: SchemaRef,
}

impl<C: Connector> Run<'_, C> {
    async fn open(&self, splits: Places) -> Check<BoxSource> {
        let context = SourceContext { env: self.env.clone(), id: "source".into(), splits, schema: self.schema.clone() };
        let opened = in_time(self.env, self.suite.bound, ENDS, self.suite.connector.source(context)).await?;
        opened.map_err(|e| Broken::new(READS, format!("opening: {e}")))
    }

    /// One read; a transient error is tried again, as the engine does.
    async fn next(&self, source: &mut BoxSource) -> Check<Option<Chunk>> {
        let mut failure: Option<Error> = None;
        for attempt in 0..10 {
            match in_time(self.env, self.suite.bound, ENDS, source.read()).await? {
                Ok(chunk) => return Ok(chunk),
                Err(e) if e.retry() == Retry::Never => return Err(Broken::new(READS, e)),
                Err(e) => failure = Some(e),
            }
            self.env.sleep(Duration::from_millis(10 << attempt)).await;
        }
        Err(Broken::new(READS, format!("ten attempts: {}", failure.map(|e| e.to_string()).unwrap_or_default())))
    }

    /// Reads until the end, or until there are `rows` rows, or as many chunks as the suite says of an endless input.
    async fn read(&self, places: Places, rows: Option<usize>) -> Check<Read> {
        let given: Vec<Split> = places.iter().map(|(split, _)| split.clone()).collect();
        let mut source = self.open(places).await?;
        let mut read = Read { chunks: Vec::new(), ended: false };
        let enough = |read: &Read| match rows {
            Some(rows) => read.rows() >= rows,
            None => !self.capabilities.finite && read.chunks.len() >= self.suite.chunks,
        };
        while !enough(&read) {
            let Some(chunk) = self.next(&mut source).await? else {
                read.ended = true;
                break;
            };
            self.chunk(&chunk, &given)?;
            read.chunks.push(chunk);
        }
        Ok(read)
    }

    fn chunk(&self, chunk: &Chunk, given: &[Split]) -> Check {
        let Chunk { records, split, .. } = chunk;
        require(given.contains(split), OWN_SPLITS, || format!("a chunk of `{split}`, the source has {given:?}"))?;
        require(records.schema() == self.schema, SCHEMA, || {
            format!("declared ({}), read ({})", columns(&self.schema), columns(records.schema_ref()))
        })?;
        let (rows, bytes) = (records.num_rows(), bytes_needed(records));
        require(rows <= ROWS_MAX && (rows <= 1 || bytes <= BYTES_MAX), BOUNDED, || {
            format!("a chunk of {rows} rows and {bytes} bytes")
        })?;
        let nulls =
            records.columns().iter().zip(self.schema.fields()).find(|(c, f)| !f.is_nullable() && c.null_count() > 0);
        require(nulls.is_none(), SCHEMA, || "a null in a column that has none".into())
    }

    /// One lane reads everything.
    pub(super) async fn once(&self, splits: &[Split]) -> Check<Read> {
        let endless_rows = self.suite.rows.filter(|_| !self.capabilities.finite);
        let read = self.read(start(splits), endless_rows).await?;
        let (rows, ended) = (read.rows(), read.ended);
        require(ended || !self.capabilities.finite, ENDS, || format!("no end after {rows} rows"))?;
        if let (Some(expected), true) = (self.suite.rows, self.capabilities.finite) {
            require(rows == expected, COUNT, || format!("{expected} rows were expected and {rows} read"))?;
        }
        Ok(read)
    }

    /// Each split has a lane.
    pub(super) async fn lanes(&self, splits: &[Split], whole: &Read) -> Check {
        for split in splits {
            let wanted = whole.of(split, 0);
            let rows = (!self.capabilities.finite).then(|| wanted.total());
            let alone = self.read(start(std::slice::from_ref(split)), rows).await?.of(split, 0);
            equal(self.compare(&wanted, &alone), COUNT, &format!("`{split}` in a lane of its own"))?;
        }
        Ok(())
    }

    /// Acks are fired late and out of order, and some are dropped.
    pub(super) async fn acks(&self, splits: &[Split]) -> Check {
        let read = self.read(start(splits), None).await?;
        let mut acks: Vec<Ack> = read.chunks.into_iter().filter_map(|c| c.ack).collect();
        acks.reverse();
        for (n, ack) in acks.into_iter().enumerate() {
            if n % 3 != 1 {
                fire(self.env, self.suite.bound, ack).await?;
            }
        }
        Ok(())
    }

    /// A new source behind chunk after chunk.
    pub(super) async fn replay(&self, splits: &[Split], whole: &Read) -> Check {
        let last = whole.chunks.len();
        let step = last.div_ceil(CUTS).max(1);
        for cut in (0..last).step_by(step).chain([last.saturating_sub(1)]).filter(|cut| *cut < last) {
            let places = whole.places(splits, cut + 1);
            let rows = (!self.capabilities.finite).then(|| whole.rows_from(cut + 1));
            let rest = self.read(places, rows).await?;
            let when = |split| format!("behind chunk {} of {last}, split `{split}`", cut + 1);
            for split in splits {
                let wanted = whole.of(split, cut + 1);
                equal(self.compare(&wanted, &rest.of(split, 0)), REPLAY, &when(split))?;
            }
        }
        Ok(())
    }

    /// A read is dropped at each of its awaits, and a new source goes on behind the last chunk that had come.
    pub(super) async fn drops(&self, splits: &[Split], whole: &Read) -> Check {
        let every = whole.rows();
        for pending in 1..=DROPS {
            let mut source = self.open(start(splits)).await?;
            let mut read = Read { chunks: Vec::new(), ended: false };
            // Counted by rows, as an input may come in other chunks each time: a read behind the last row would wait for ever.
            while read.rows() < every {
                let dropped = drop_after(pending, source.read());
                match in_time(self.env, self.suite.bound, DROPPED, dropped).await? {
                    Some(Ok(Some(chunk))) => read.chunks.push(chunk),
                    _ => break,
                }
            }
            drop(source);
            let (chunks, left) = (read.chunks.len(), every.saturating_sub(read.rows()));
            let rest = self.read(read.places(splits, chunks), (!self.capabilities.finite).then_some(left)).await;
            read.chunks.extend(rest.map_err(|broken| Broken { promise: DROPPED, ..broken })?.chunks);
            for split in splits {
                let when = format!("dropped at await {pending} after {chunks} chunks, split `{split}`");
                equal(self.compare(&whole.of(split, 0), &read.of(split, 0)), DROPPED, &when)?;
            }
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// What is not acknowledged comes again.
    pub(super) async fn redelivery(&self, splits: &[Split]) -> Check {
        let rows = self.suite.rows.ok_or_else(|| {
            Broken::new(REDELIVERY, "the suite was not told with `.rows(n)` how many rows wait in the input")
        })?;
        let first = self.read(start(splits), Some(rows)).await?;
        require(first.rows() == rows, COUNT, || format!("{rows} rows were expected and {} read", first.rows()))?;
        drop(first);
        let again = in_time(self.env, self.suite.bound, REDELIVERY, self.read(start(splits), Some(rows))).await;
        let again = again.and_then(|read| read).map_err(|broken| match broken.promise {
            ENDS => Broken { promise: REDELIVERY, ..broken },
            _ => broken,
        })?;
        require(again.rows() == rows, REDELIVERY, || format!("{} of {rows} rows came again", again.rows()))?;
        let every = again.chunks.iter().all(|c| c.ack.is_some());
        require(every, ACKS, || "a chunk without an ack, so its rows would come again for ever".into())?;
        for ack in again.chunks.into_iter().filter_map(|c| c.ack) {
            fire(self.env, self.suite.bound, ack).await?;
        }
        let mut source = self.open(start(splits)).await?;
        let quiet = in_time(self.env, Duration::from_secs(1), ENDS, source.read()).await;
        let more = matches!(&quiet, Ok(Ok(Some(chunk))) if chunk.records.num_rows() > 0);
        require(!more, REDELIVERY, || "rows that were acknowledged came again".into())
    }

    /// An endless input is compared as far as both were read.
    fn compare(&self, wanted: &Part, found: &Part) -> Option<String> {
        if self.capabilities.finite {
            let rejected = (wanted.rejected != found.rejected)
                .then(|| format!("{} rows could not be read, and now {}", wanted.rejected, found.rejected));
            return difference(&wanted.batches, &found.batches).or(rejected);
        }
        let rows = wanted.count().min(found.count());
        difference(&wanted.first(rows), &found.first(rows))
    }
}

fn start(splits: &[Split]) -> Places {
    splits.iter().map(|split| (split.clone(), None)).collect()
}

async fn fire(env: &Env, bound: Duration, ack: Ack) -> Check {
    let fired: Result<()> = in_time(env, bound, ACKS, ack.fire()).await?;
    fired.map_err(|e| Broken::new(ACKS, e))
}
