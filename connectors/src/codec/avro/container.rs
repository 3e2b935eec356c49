//! An Avro object container file: a header with the schema, then blocks of rows.

use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_avro::codec::Tz;
use arrow_avro::reader::{Reader, ReaderBuilder};
use bourn_engine::data::records::{BYTES_MAX, ROWS_MAX};
use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Kind, Result};

use super::block::{self, Codec};
use super::shape::{Shape, Walk};
use super::{broken, guard, long, put_bytes, put_long};
use crate::codec::table::plain;

const MAGIC: &[u8; 4] = b"Obj\x01";
/// What stands between blocks.
type Sync = [u8; 16];
/// How much of a file is read at first, in bytes: most often more than its header.
const HEADER: usize = 64 << 10;
/// The longest header, in bytes.
const HEADER_MAX: usize = 16 << 20;

/// An open file, its header read.
pub struct Container {
    input: Arc<dyn ReadFile>,
    length: u64,
    /// Where the first block begins.
    begin: u64,
    header: Header,
    shape: Arc<Shape>,
    schema: SchemaRef,
}

struct Header {
    schema: Vec<u8>,
    codec: Codec,
    sync: Sync,
    length: usize,
}

impl Container {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(input: Arc<dyn ReadFile>) -> Result<Self> {
        let length = input.len()?;
        let mut size = HEADER;
        let header = loop {
            let bytes = bytes_at(&*input, 0, length.min(size as u64))?;
            match Header::read(&bytes)? {
                Some(header) => break header,
                None if bytes.len() < size => return Err(broken("it ends in its header")),
                None if size >= HEADER_MAX => return Err(broken("its header is longer than 16 MiB")),
                None => size *= 4,
            }
        };
        let shape = Shape::of(&header.schema)?;
        let found = guard(|| reader(header.crafted(&[], 0), 1, None))?.schema();
        let schema = Arc::new(Schema::new(found.fields().iter().map(|f| plain(f)).collect::<Vec<_>>()));
        Ok(Self { input, length, begin: header.length as u64, header, shape, schema })
    }

    /// The columns of the file.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads the columns with these indices, from row `first` on.
    ///
    /// # Errors
    /// None yet: broken blocks are met later.
    pub fn batches(self, columns: &[usize], first: u64) -> Result<Batches> {
        let offset = self.begin;
        Ok(Batches { file: self, columns: columns.to_vec(), skip: first, offset, block: Block::default() })
    }
}

/// A reader of the arrow crate over a file in memory.
fn reader(
    bytes: Vec<u8>,
    rows: usize,
    columns: Option<&[usize]>,
) -> Result<Reader<Cursor<Vec<u8>>>, arrow::error::ArrowError> {
    let builder = ReaderBuilder::new().with_batch_size(rows).with_tz(Tz::Utc);
    let builder = match columns {
        Some(columns) => builder.with_projection(columns.to_vec()),
        None => builder,
    };
    builder.build(Cursor::new(bytes))
}

impl Header {
    /// Reads a header; `None` when `bytes` end before it does.
    fn read(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
            return if MAGIC.starts_with(bytes) { Ok(None) } else { Err(broken("it does not begin with `Obj1`")) };
        };
        let (mut schema, mut codec) = (None, Codec::Null);
        loop {
            let Some((count, at)) = long(rest)? else { return Ok(None) };
            rest = &rest[at..];
            if count == 0 {
                break;
            }
            if count < 0 {
                let Some((_, at)) = long(rest)? else { return Ok(None) };
                rest = &rest[at..];
            }
            for _ in 0..count.unsigned_abs() {
                let Some(key) = take(&mut rest)? else { return Ok(None) };
                let Some(value) = take(&mut rest)? else { return Ok(None) };
                match key {
                    b"avro.schema" => schema = Some(value.to_vec()),
                    b"avro.codec" => codec = Codec::named(value)?,
                    _ => {}
                }
            }
        }
        let Some(sync) = rest.first_chunk::<16>() else { return Ok(None) };
        let schema = schema.ok_or_else(|| broken("its header has no `avro.schema`"))?;
        Ok(Some(Self { schema, codec, sync: *sync, length: bytes.len() - rest.len() + sync.len() }))
    }

    /// A file that holds these rows alone, not compressed.
    fn crafted(&self, rows: &[u8], count: usize) -> Vec<u8> {
        let mut file = Vec::with_capacity(self.schema.len() + rows.len() + 128);
        file.extend_from_slice(MAGIC);
        put_long(2, &mut file);
        put_bytes(b"avro.schema", &mut file);
        put_bytes(&self.schema, &mut file);
        put_bytes(b"avro.codec", &mut file);
        put_bytes(b"null", &mut file);
        put_long(0, &mut file);
        file.extend_from_slice(&self.sync);
        if count > 0 {
            put_long(count as u64, &mut file);
            put_bytes(rows, &mut file);
            file.extend_from_slice(&self.sync);
        }
        file
    }
}

/// A length and so many bytes; `None` when there are fewer.
fn take<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    let Some((length, at)) = long(rest)? else { return Ok(None) };
    let length = usize::try_from(length).map_err(|_| broken("a text of fewer than no bytes"))?;
    let Some(end) = at.checked_add(length).filter(|end| *end <= rest.len()) else { return Ok(None) };
    let taken = &rest[at..end];
    *rest = &rest[end..];
    Ok(Some(taken))
}

fn bytes_at(file: &dyn ReadFile, offset: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => return Err(broken(format!("it was cut off at {} while it was read", offset + filled as u64))),
            count => filled += count,
        }
    }
    Ok(bytes)
}

/// The batches of a file.
pub struct Batches {
    file: Container,
    columns: Vec<usize>,
    /// How many rows are still to be passed over.
    skip: u64,
    offset: u64,
    block: Block,
}

/// What is left of a block.
struct Block {
    bytes: Vec<u8>,
    at: usize,
    rows: u64,
    walk: Walk,
}

impl Default for Block {
    fn default() -> Self {
        Self { bytes: Vec::new(), at: 0, rows: 0, walk: Walk::over(0) }
    }
}

impl Batches {
    /// The next rows, of one block or several; `None` at the end.
    ///
    /// # Errors
    /// When the file is broken here.
    pub fn read(&mut self) -> Result<Option<RecordBatch>> {
        let (mut rows, mut count) = (Vec::new(), 0);
        while count < ROWS_MAX && rows.len() < BYTES_MAX {
            if self.block.rows == 0 {
                if self.block.at < self.block.bytes.len() {
                    return Err(broken(format!("a block before byte {} holds more than its rows", self.offset)));
                }
                if !self.next_block()? {
                    break;
                }
            }
            let block = &mut self.block;
            let begin = block.at;
            while block.rows > 0 && count < ROWS_MAX && rows.len() + (block.at - begin) < BYTES_MAX {
                block.at += self.file.shape.pass(&block.bytes[block.at..], &mut block.walk)?;
                block.rows -= 1;
                count += 1;
            }
            rows.extend_from_slice(&block.bytes[begin..block.at]);
        }
        if count == 0 {
            return Ok(None);
        }
        if rows.is_empty() {
            return Err(Error::unsupported("the rows of this Avro file have no bytes"));
        }
        let crafted = self.file.header.crafted(&rows, count);
        let batch = guard(|| reader(crafted, count, Some(&self.columns))?.next().transpose())?;
        let batch = batch.filter(|b| b.num_rows() == count);
        batch.map(Some).ok_or_else(|| broken("a block has other rows than it says"))
    }

    /// Reads on to the next block with rows that are wanted; returns whether there is one.
    fn next_block(&mut self) -> Result<bool> {
        while self.offset < self.file.length {
            let left = self.file.length - self.offset;
            let cut = |this: &Self| broken(format!("it ends at byte {}, in the middle of a block", this.file.length));
            let head = bytes_at(&*self.file.input, self.offset, left.min(20))?;
            let (count, first) = long(&head)?.ok_or_else(|| cut(self))?;
            let (size, second) = long(&head[first..])?.ok_or_else(|| cut(self))?;
            let count = u64::try_from(count).map_err(|_| broken("a block of fewer than no rows"))?;
            let size = u64::try_from(size).map_err(|_| broken("a block of fewer than no bytes"))?;
            let begin = (first + second) as u64;
            let sync = size_of::<Sync>() as u64;
            if size.checked_add(begin + sync).is_none_or(|whole| whole > left) {
                return Err(cut(self));
            }
            if size > block::BYTES_MAX {
                return Err(Error::new(Kind::Budget, format!("a block of {size} bytes, and 1 GiB is the most")));
            }
            let mut bytes = bytes_at(&*self.file.input, self.offset + begin, size + sync)?;
            let marker = bytes.split_off(bytes.len() - size_of::<Sync>());
            if marker != self.file.header.sync {
                let message = format!("what stands behind the block at byte {} is not its mark", self.offset);
                return Err(broken(message));
            }
            self.offset += begin + size + sync;
            if count <= self.skip {
                self.skip -= count;
                continue;
            }
            let bytes = self.file.header.codec.unpack(bytes)?;
            let mut block = Block { walk: Walk::over(bytes.len()), bytes, at: 0, rows: count };
            for _ in 0..std::mem::take(&mut self.skip) {
                block.at += self.file.shape.pass(&block.bytes[block.at..], &mut block.walk)?;
                block.rows -= 1;
            }
            self.block = block;
            return Ok(true);
        }
        Ok(false)
    }

    /// How many bytes of the file lie before what comes next.
    pub fn bytes_read(&self) -> u64 {
        self.offset
    }
}
