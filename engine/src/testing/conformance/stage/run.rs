//! The tests of a stage, one promise after the other.

use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{
    BOUNDED, BUILDS, CARDINALITY, CHUNKING, EMPTY, LEAVES, MORE_ENDS, NO_TRACE, PIECES, PORTS, REJECTS, REPEATABLE,
    SCHEMA, SNAPSHOT, WAKES, WORKS,
};
use crate::api::output::RejectedRow;
use crate::api::{Cardinality, Rejected, StageConfig};
use crate::data::records::ROWS_MAX;
use crate::error::Error;
use crate::testing::conformance::{Broken, Check, equal, require};
use crate::testing::harness::rows::{columns, difference, difference_of_sets, rows_of};
use crate::testing::harness::{Harness, Said};
use crate::time::Timestamp;

/// A suite at work.
pub(super) struct Run<'a, C> {
    pub(super) config: &'a C,
    pub(super) inputs: &'a [RecordBatch],
    pub(super) schemas: Vec<SchemaRef>,
    /// By port.
    pub(super) planned: Vec<SchemaRef>,
}

/// Batches with the input that they enter by, in their order.
type Feed = Vec<(usize, RecordBatch)>;

impl<C: StageConfig> Run<'_, C> {
    pub(super) fn empty(&self) -> Check {
        let mut stage = self.build()?;
        self.end(&mut stage, 0).map_err(|broken| match broken.promise {
            WORKS => Broken { promise: EMPTY, ..broken },
            _ => broken,
        })?;
        let quiet = self.config.cardinality() == Cardinality::Many || stage.said.emitted() == 0;
        require(quiet, EMPTY, || format!("{} rows left", stage.said.emitted()))
    }

    pub(super) fn repeatable(&self) -> Check {
        let (first, second) = (self.whole(self.cut(|_| 3))?, self.whole(self.cut(|_| 3))?);
        equal(unlike(&first, &second), REPEATABLE, "the second instance")
    }

    pub(super) fn chunking(&self) -> Check {
        let expected = self.whole(self.cut(|_| ROWS_MAX))?;
        equal(unlike(&expected, &self.whole(self.cut(|_| 1))?), CHUNKING, "one row at a time")?;
        for seed in 0..5 {
            let mut random = SmallRng::seed_from_u64(seed);
            let said = self.whole(self.cut(|left| random.random_range(1..=left.clamp(1, 5))))?;
            equal(unlike(&expected, &said), CHUNKING, &format!("cut at random by seed {seed}"))?;
        }
        Ok(())
    }

    pub(super) fn pieces(&self) -> Check {
        let mut stage = self.build()?;
        let mut names = || {
            let saved = stage.snapshot().map_err(|e| Broken::new(SNAPSHOT, e))?;
            Ok(saved.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        let (first, second) = (names()?, names()?);
        let mut unique = first.clone();
        unique.sort();
        unique.dedup();
        require(unique.len() == first.len() && first == second, PIECES, || format!("{first:?}, then {second:?}"))
    }

    /// At each place between two batches another instance takes over.
    pub(super) fn snapshots(&self) -> Check {
        let feed = self.cut(|_| 2);
        let expected = self.whole(feed.clone())?;
        for cut in 0..=feed.len() {
            let mut stage = self.build()?;
            let mut entered = 0;
            self.feed(&mut stage, &feed[..cut], &mut entered)?;
            let failed = |e: Error| Broken::new(SNAPSHOT, e);
            let saved = stage.snapshot().map_err(failed)?;
            let mut other = self.build()?;
            other.said = std::mem::take(&mut stage.said);
            // The first goes on before the other is restored: what was saved must not change with it. What it says, and
            // whether that is right, is of no interest here.
            for (input, rows) in &feed[cut..] {
                let _said = stage.process_from(*input, rows);
            }
            let _said = stage.finish();
            other.restore(saved).map_err(failed)?;
            self.feed(&mut other, &feed[cut..], &mut entered)?;
            self.end(&mut other, entered)?;
            equal(unlike(&expected, &other.said), SNAPSHOT, &format!("restored after {cut} batches"))?;
        }
        Ok(())
    }

    pub(super) fn ticks(&self) -> Check {
        let mut stage = self.build()?;
        let mut entered = 0;
        for batch in self.cut(|_| 2) {
            self.feed(&mut stage, &[batch], &mut entered)?;
            stage.pass(Duration::from_secs(10)).map_err(|e| Broken::new(WAKES, e))?;
            self.count(&mut stage, entered)?;
        }
        self.end(&mut stage, entered)
    }

    /// Batches as large as they come, made of the sample again and again.
    pub(super) fn bounded(&self) -> Check {
        let mut stage = self.build()?;
        let mut entered = 0;
        for (input, sample) in self.inputs.iter().enumerate().filter(|(_, sample)| sample.num_rows() > 0) {
            let copies = vec![sample; ROWS_MAX.div_ceil(sample.num_rows())];
            let rows = concat_batches(&sample.schema(), copies).map_err(|e| Broken::new(WORKS, e))?;
            self.feed(&mut stage, &[(input, rows.slice(0, ROWS_MAX))], &mut entered)?;
        }
        self.end(&mut stage, entered)?;
        require(stage.largest <= 4 * ROWS_MAX, BOUNDED, || format!("{} rows", stage.largest))
    }

    pub(super) fn no_trace(&self, failing: &RecordBatch) -> Check {
        let feed = self.cut(|_| 3);
        let expected = self.whole(feed.clone())?;
        let mut stage = self.build()?;
        let stateless = stage.held().map_err(|e| Broken::new(WORKS, e))?.pieces == 0;
        let failed = stage.process(failing).is_err();
        if !stateless || !failed {
            return Ok(());
        }
        let mut entered = 0;
        self.feed(&mut stage, &feed, &mut entered)?;
        self.end(&mut stage, entered)?;
        equal(unlike(&expected, &stage.said), NO_TRACE, "after a batch that failed")
    }

    fn build(&self) -> Check<Harness> {
        Harness::new(self.config, &self.schemas).map_err(|e| Broken::new(BUILDS, e))
    }

    /// The inputs one after the other, in batches of as many rows as `size` says of the rows that are left.
    fn cut(&self, mut size: impl FnMut(usize) -> usize) -> Feed {
        let mut feed = Feed::new();
        for (input, rows) in self.inputs.iter().enumerate() {
            let mut from = 0;
            while from < rows.num_rows() {
                let left = rows.num_rows() - from;
                let taken = size(left).min(left);
                feed.push((input, rows.slice(from, taken)));
                from += taken;
            }
        }
        feed
    }

    /// A whole job.
    fn whole(&self, feed: Feed) -> Check<Said> {
        let mut stage = self.build()?;
        let mut entered = 0;
        self.feed(&mut stage, &feed, &mut entered)?;
        self.end(&mut stage, entered)?;
        Ok(stage.said)
    }

    fn feed(&self, stage: &mut Harness, feed: &[(usize, RecordBatch)], entered: &mut usize) -> Check {
        for (input, rows) in feed {
            process(stage, *input, rows)?;
            *entered += rows.num_rows();
            self.count(stage, *entered)?;
        }
        Ok(())
    }

    /// The end of the input.
    fn end(&self, stage: &mut Harness, entered: usize) -> Check {
        let ended = stage.advance(Timestamp::MAX).and_then(|()| stage.finish());
        ended.map_err(|e| Broken::new(if stage.endless { MORE_ENDS } else { WORKS }, format!("at the end: {e}")))?;
        self.count(stage, entered)?;
        let held = stage.held().map_err(|e| Broken::new(WORKS, e))?.rows;
        require(held == 0 || self.config.cardinality() == Cardinality::Many, LEAVES, || format!("{held} are"))
    }

    /// Looks at everything that was said so far: by which ports, in which schema, and how many rows.
    fn count(&self, stage: &mut Harness, entered: usize) -> Check {
        let held = stage.held().map_err(|e| Broken::new(WORKS, e))?.rows;
        let said = &stage.said;
        require(said.ports.len() <= self.planned.len(), PORTS, || {
            format!("rows left by port {}, and {} are declared", said.ports.len() - 1, self.planned.len() - 1)
        })?;
        for (port, planned) in self.planned.iter().enumerate() {
            let wrong = said.ports.get(port).into_iter().flatten().find(|rows| rows.schema() != *planned);
            equal(
                wrong.map(|w| format!("planned ({}), left ({})", columns(planned), columns(w.schema_ref()))),
                SCHEMA,
                &format!("port {port}"),
            )?;
        }
        for rejected in &said.rejected {
            let RejectedRow::Rows(rows) = &rejected.row else { continue };
            let known = self.schemas.contains(&rows.schema());
            require(known, REJECTS, || format!("rejected ({})", columns(rows.schema_ref())))?;
        }
        let (emitted, rejected, dropped) = (said.emitted(), said.rejections(), said.filtered + said.late);
        let counted = match self.config.cardinality() {
            Cardinality::Many => return Ok(()),
            Cardinality::One => dropped == 0 && entered == emitted + rejected + held,
            Cardinality::AtMostOne => entered == emitted + rejected + dropped + held,
        };
        require(counted, CARDINALITY, || {
            format!(
                "declared {:?}: {entered} rows in, {emitted} out, {rejected} rejected, {} filtered, {} late, {held} held",
                self.config.cardinality(),
                said.filtered,
                said.late
            )
        })
    }
}

/// One batch as the engine gives it: after an error in halves, if the stage has no state.
fn process(stage: &mut Harness, input: usize, rows: &RecordBatch) -> Check {
    let Err(error) = stage.process_from(input, rows) else { return Ok(()) };
    require(!stage.endless, MORE_ENDS, || error.to_string())?;
    let stateless = stage.held().is_ok_and(|held| held.pieces == 0);
    require(stateless, WORKS, || error.to_string())?;
    if rows.num_rows() == 1 {
        stage.said.rejected.push(Rejected::rows(rows.clone(), error));
        return Ok(());
    }
    let half = rows.num_rows() / 2;
    process(stage, input, &rows.slice(0, half))?;
    process(stage, input, &rows.slice(half, rows.num_rows() - half))
}

/// Says in what two instances differ.
fn unlike(expected: &Said, found: &Said) -> Option<String> {
    let rejected = |said: &Said| -> Vec<serde_json::Value> {
        let rows = |r: &Rejected| match &r.row {
            RejectedRow::Rows(rows) => rows_of(rows),
            RejectedRow::Text(text) => vec![text.as_str().into()],
        };
        said.rejected.iter().flat_map(rows).collect()
    };
    let none = Vec::new();
    let ports = (0..expected.ports.len().max(found.ports.len())).find_map(|port| {
        let [a, b] = [expected, found].map(|said| said.ports.get(port).unwrap_or(&none));
        difference(a, b).map(|d| format!("port {port}: {d}"))
    });
    let counts = |said: &Said| (said.filtered, said.late);
    let counted = (counts(expected) != counts(found))
        .then(|| format!("(filtered, late) was {:?} and is {:?}", counts(expected), counts(found)));
    let refused = difference_of_sets(&rejected(expected), &rejected(found)).map(|d| format!("rejected: {d}"));
    ports.or(counted).or(refused)
}
