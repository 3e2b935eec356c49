//! Nexmark: an auction house, as the benchmark of that name has it.
//!
//! The crate `nexmark` 0.2 has the same distributions but no seed, counts event time in `f32` (which stands still behind
//! 2^24 events), reads the clock for its defaults and makes an allocation for each text; so this is our own.

mod columns;
mod events;
mod random;

use arrow::datatypes::SchemaRef;
use bourn_engine::Result;
use bourn_engine::api::{BoxSource, Capabilities, Chunk, ConnectContext, Connector, Replay, Source, SourceContext};
use bourn_engine::data::position::Split;
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::data::units::Rate;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generate::{Nothing, RowPosition};
use crate::pace::Pace;
use columns::Maker;

/// Generates the events of the Nexmark benchmark: persons who sell at auctions and bid on them.
///
/// The same seed generates the same rows. Event time begins on 2015-07-15 and runs at 10,000 events a second, of which
/// 9,200 are bids, 600 auctions and 200 persons.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nexmark {
    /// How many rows; without end if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// How many in a length of time: `50000/s`; as fast as they are taken if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What the random numbers are drawn from.
    #[serde(default)]
    pub seed: u64,
    /// Which of the events.
    #[serde(default)]
    pub stream: Stream,
}

/// Which of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Bids: `auction`, `bidder`, `price`, `channel`, `url`, `date_time`, `extra`.
    #[default]
    Bid,
    /// New auctions.
    Auction,
    /// New persons.
    Person,
    /// All events in their order; `event` says which it is, and the columns of the others are null.
    All,
}

impl Connector for Nexmark {
    const NAME: &'static str = "nexmark";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, self.events.is_some())
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(columns::schema(self.stream))
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let Some((split, position)) = context.splits.into_iter().next() else {
            return Ok(BoxSource::new(Nothing));
        };
        Ok(BoxSource::new(Events {
            env: context.env,
            pace: Pace::new(self.rate),
            maker: Maker::new(self.seed),
            stream: self.stream,
            split,
            next: position.map_or(Ok(0), |p| p.read::<RowPosition>().map(|p| p.row))?,
            total: self.events,
            // Numbers of events stay within what a row's number can be multiplied by.
            end: self.events.unwrap_or(u64::MAX).min(u64::from(u32::MAX) << 24),
        }))
    }
}

struct Events {
    env: Env,
    pace: Pace,
    maker: Maker,
    stream: Stream,
    split: Split,
    next: u64,
    /// None when it is without end.
    total: Option<u64>,
    end: u64,
}

impl Source for Events {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let left = usize::try_from(self.end.saturating_sub(self.next)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let count = self.pace.admit(ROWS_MAX.min(left), &self.env).await as u64;
        let batch = self.maker.rows(self.stream, self.next, count)?;
        self.next += count;
        RowPosition { row: self.next }.chunk(batch, self.split.clone(), self.total).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunks, open, read_all, rows};
    use bourn_engine::data::position::Position;
    use serde_json::Value;

    fn nexmark(stream: Stream, events: u64, seed: u64) -> Nexmark {
        Nexmark { events: Some(events), seed, stream, ..Nexmark::default() }
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_rows_and_another_one_others() {
        for stream in [Stream::Bid, Stream::Auction, Stream::Person, Stream::All] {
            let read = async |seed| rows(&read_all(&nexmark(stream, 500, seed)).await.unwrap());
            let (one, again, other) = (read(1).await, read(1).await, read(2).await);
            assert_eq!(one.len(), 500);
            assert_eq!(one, again);
            assert_ne!(one, other);
        }
    }

    #[tokio::test]
    async fn it_goes_on_behind_any_position() {
        for stream in [Stream::Bid, Stream::All] {
            let config = nexmark(stream, 20_000, 1);
            let whole = read_all(&config).await.unwrap();
            assert_eq!(whole.len(), 3);
            for (i, chunk) in whole.iter().enumerate() {
                let rest = chunks(open(&config, Some(&chunk.position)).await.unwrap()).await.unwrap();
                let batches = |chunks: &[Chunk]| chunks.iter().map(|c| c.records.clone()).collect::<Vec<_>>();
                assert_eq!(batches(&rest), batches(&whole[i + 1..]));
            }
        }
    }

    #[tokio::test]
    async fn all_events_are_those_of_the_three_streams_in_order() {
        let all = rows(&read_all(&nexmark(Stream::All, 1_000, 1)).await.unwrap());
        for (stream, name, count) in
            [(Stream::Bid, "bid", 920), (Stream::Auction, "auction", 60), (Stream::Person, "person", 20)]
        {
            let own = rows(&read_all(&nexmark(stream, count, 1)).await.unwrap());
            let found: Vec<_> = all.iter().filter(|r| r["event"] == name).collect();
            assert_eq!(found.len(), own.len());
            for (found, own) in found.into_iter().zip(own) {
                let Value::Object(own) = own else { panic!("a row is an object") };
                assert!(own.iter().all(|(k, v)| found[k] == *v));
            }
        }
        let times: Vec<_> = all.iter().map(|r| r["date_time"].as_str().unwrap().to_owned()).collect();
        assert!(times.is_sorted());
    }

    #[tokio::test]
    async fn progress_is_told_in_rows_when_there_is_an_end() {
        let whole = read_all(&nexmark(Stream::Bid, 10_000, 1)).await.unwrap();
        let told: Vec<_> = whole.iter().map(|c| c.progress).collect();
        assert_eq!(told, [Some((8_192, 10_000)), Some((10_000, 10_000))]);
        let endless = open(&Nexmark::default(), None).await.unwrap().read().await.unwrap();
        assert_eq!(endless.unwrap().progress, None);
    }

    #[tokio::test]
    async fn a_stream_far_on_does_not_overflow() {
        let config = Nexmark { events: None, ..nexmark(Stream::Bid, 0, 1) };
        let far = Position::of(&RowPosition { row: (u64::from(u32::MAX) << 24) - 5 }).unwrap();
        assert_eq!(rows(&chunks(open(&config, Some(&far)).await.unwrap()).await.unwrap()).len(), 5);
    }
}
