//! Events to columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::data::columns::MOMENT;

use super::Stream;
use super::events::{self, AUCTIONS, CYCLE, Channels, PERSONS, PersonTexts};

const BID: &[(&str, DataType)] = &[
    ("auction", DataType::Int64),
    ("bidder", DataType::Int64),
    ("price", DataType::Int64),
    ("channel", DataType::Utf8),
    ("url", DataType::Utf8),
    ("date_time", MOMENT),
    ("extra", DataType::Utf8),
];
const AUCTION: &[(&str, DataType)] = &[
    ("id", DataType::Int64),
    ("item_name", DataType::Utf8),
    ("description", DataType::Utf8),
    ("initial_bid", DataType::Int64),
    ("reserve", DataType::Int64),
    ("date_time", MOMENT),
    ("expires", MOMENT),
    ("seller", DataType::Int64),
    ("category", DataType::Int64),
    ("extra", DataType::Utf8),
];
const PERSON: &[(&str, DataType)] = &[
    ("id", DataType::Int64),
    ("name", DataType::Utf8),
    ("email_address", DataType::Utf8),
    ("credit_card", DataType::Utf8),
    ("city", DataType::Utf8),
    ("state", DataType::Utf8),
    ("date_time", MOMENT),
    ("extra", DataType::Utf8),
];

/// The columns of a stream. That of all events has those of all three, and `event` says which it is.
pub fn schema(stream: Stream) -> SchemaRef {
    let whole = |columns: &[(&str, DataType)]| columns.iter().map(|(n, t)| Field::new(*n, t.clone(), false)).collect();
    let fields: Vec<Field> = match stream {
        Stream::Bid => whole(BID),
        Stream::Auction => whole(AUCTION),
        Stream::Person => whole(PERSON),
        Stream::All => {
            let mut fields = vec![Field::new("event", DataType::Utf8, false), Field::new("date_time", MOMENT, false)];
            for (name, data_type) in PERSON.iter().chain(AUCTION).chain(BID) {
                if fields.iter().all(|f| f.name() != name) {
                    fields.push(Field::new(*name, data_type.clone(), true));
                }
            }
            fields
        }
    };
    Arc::new(Schema::new(fields))
}

/// The number among all events of row `row` of a stream.
pub fn event_of(stream: Stream, row: u64) -> u64 {
    let (each, first) = match stream {
        Stream::All => return row,
        Stream::Person => (PERSONS, 0),
        Stream::Auction => (AUCTIONS, PERSONS),
        Stream::Bid => (CYCLE - PERSONS - AUCTIONS, PERSONS + AUCTIONS),
    };
    row / each * CYCLE + first + row % each
}

/// What kind an event is.
fn kind_of(event: u64) -> Stream {
    match event % CYCLE {
        offset if offset < PERSONS => Stream::Person,
        offset if offset < PERSONS + AUCTIONS => Stream::Auction,
        _ => Stream::Bid,
    }
}

/// Texts that grow row by row.
#[derive(Default)]
struct Texts {
    text: String,
    ends: Vec<i32>,
}

impl Texts {
    /// Notes that the row's text is complete.
    fn end(&mut self) {
        self.ends.push(i32::try_from(self.text.len()).expect("8,192 rows of less than a kilobyte"));
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.end();
    }

    fn finish(self) -> Result<ArrayRef> {
        Ok(Arc::new(string_array(self.text, self.ends)?))
    }
}

fn string_array(text: String, ends: Vec<i32>) -> Result<StringArray> {
    let offsets: ScalarBuffer<i32> = std::iter::once(0).chain(ends).collect::<Vec<_>>().into();
    Ok(StringArray::try_new(OffsetBuffer::new(offsets), text.into_bytes().into(), None)?)
}

fn moments(times: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(times))
}

fn numbers(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

/// What rows are made from.
#[derive(Debug)]
pub struct Maker {
    seed: u64,
    channels: Channels,
}

impl Maker {
    /// One that always makes the same rows of the same seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, channels: Channels::new() }
    }

    /// The rows from `row` on, `count` of them.
    ///
    /// # Errors
    /// Never for `count` up to 8,192.
    pub fn rows(&self, stream: Stream, row: u64, count: u64) -> Result<RecordBatch> {
        let events: Vec<_> = (row..row + count).map(|row| event_of(stream, row)).collect();
        match stream {
            Stream::Bid => self.bids(&events),
            Stream::Auction => self.auctions(&events),
            Stream::Person => self.persons(&events),
            Stream::All => self.all(&events),
        }
    }

    fn bids(&self, events: &[u64]) -> Result<RecordBatch> {
        let rows = events.len();
        let vec = || Vec::with_capacity(rows);
        let (mut auction, mut bidder, mut price, mut time) = (vec(), vec(), vec(), vec());
        let (mut channel, mut url, mut extra) = (Texts::default(), Texts::default(), Texts::default());
        for &event in events {
            let bid = events::bid(self.seed, event, &self.channels, &mut extra.text);
            auction.push(bid.auction);
            bidder.push(bid.bidder);
            price.push(bid.price);
            channel.push(bid.channel);
            url.push(bid.url);
            time.push(events::time_of(event));
            extra.end();
        }
        let columns = vec![
            numbers(auction),
            numbers(bidder),
            numbers(price),
            channel.finish()?,
            url.finish()?,
            moments(time),
            extra.finish()?,
        ];
        Ok(RecordBatch::try_new(schema(Stream::Bid), columns)?)
    }

    fn auctions(&self, events: &[u64]) -> Result<RecordBatch> {
        let (mut item, mut description, mut extra) = (Texts::default(), Texts::default(), Texts::default());
        let (mut rows, mut time) = (Vec::new(), Vec::new());
        for &event in events {
            rows.push(events::auction(self.seed, event, &mut item.text, &mut description.text, &mut extra.text));
            time.push(events::time_of(event));
            item.end();
            description.end();
            extra.end();
        }
        let of = |value: fn(&events::Auction) -> i64| rows.iter().map(value).collect::<Vec<_>>();
        let columns = vec![
            numbers(of(|a| a.id)),
            item.finish()?,
            description.finish()?,
            numbers(of(|a| a.initial_bid)),
            numbers(of(|a| a.reserve)),
            moments(time),
            moments(of(|a| a.expires)),
            numbers(of(|a| a.seller)),
            numbers(of(|a| a.category)),
            extra.finish()?,
        ];
        Ok(RecordBatch::try_new(schema(Stream::Auction), columns)?)
    }

    fn persons(&self, events: &[u64]) -> Result<RecordBatch> {
        let mut texts = PersonTexts::default();
        let mut ends: [Vec<i32>; 6] = Default::default();
        let (mut ids, mut time) = (Vec::new(), Vec::new());
        for &event in events {
            ids.push(events::person(self.seed, event, &mut texts));
            time.push(events::time_of(event));
            let PersonTexts { name, email_address, credit_card, city, state, extra } = &texts;
            for (ends, text) in ends.iter_mut().zip([name, email_address, credit_card, city, state, extra]) {
                ends.push(i32::try_from(text.len()).expect("8,192 rows of less than a kilobyte"));
            }
        }
        let PersonTexts { name, email_address, credit_card, city, state, extra } = texts;
        let mut columns = vec![numbers(ids)];
        for (text, ends) in [name, email_address, credit_card, city, state, extra].into_iter().zip(ends) {
            columns.push(Arc::new(string_array(text, ends)?));
        }
        columns.insert(6, moments(time));
        Ok(RecordBatch::try_new(schema(Stream::Person), columns)?)
    }

    /// The three kinds are made apart, one behind the other, and then put into the order of the events.
    fn all(&self, events: &[u64]) -> Result<RecordBatch> {
        let of = |kind| events.iter().copied().filter(|e| kind_of(*e) == kind).collect::<Vec<_>>();
        let parts =
            [self.persons(&of(Stream::Person))?, self.auctions(&of(Stream::Auction))?, self.bids(&of(Stream::Bid))?];
        let mut next = [0, parts[0].num_rows() as u64, (parts[0].num_rows() + parts[1].num_rows()) as u64];
        let (mut names, mut order) = (Texts::default(), Vec::with_capacity(events.len()));
        for event in events {
            let (part, name) = match kind_of(*event) {
                Stream::Person => (0, "person"),
                Stream::Auction => (1, "auction"),
                _ => (2, "bid"),
            };
            order.push(next[part]);
            next[part] += 1;
            names.push(name);
        }
        let order = UInt64Array::from(order);
        let schema = schema(Stream::All);
        let mut columns = vec![names.finish()?];
        for field in schema.fields().iter().skip(1) {
            let column = |part: &RecordBatch| match part.column_by_name(field.name()) {
                Some(column) => column.clone(),
                None => arrow::array::new_null_array(field.data_type(), part.num_rows()),
            };
            let stacked = parts.iter().map(column).collect::<Vec<_>>();
            let stacked: Vec<&dyn Array> = stacked.iter().map(AsRef::as_ref).collect();
            columns.push(take(&concat(&stacked)?, &order, None)?);
        }
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}
