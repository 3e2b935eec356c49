//! A file of Arrow IPC: a footer that says where its batches lie.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, MetadataVersion};
use bourn_engine::Result;
use bourn_engine::env::ReadFile;

use super::{broken, guard, handed_out, message, schema_of};

pub(super) const MAGIC: &[u8] = b"ARROW1";
/// What stands behind the footer, in bytes: its length and the magic.
const FOOTER_END: u64 = 10;

/// An open file, its footer read.
pub struct File {
    input: Arc<dyn ReadFile>,
    length: u64,
    /// As the file has it.
    found: SchemaRef,
    schema: SchemaRef,
    version: MetadataVersion,
    dictionaries: Vec<Block>,
    blocks: Vec<Block>,
}

impl File {
    /// Reads the footer.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(input: Arc<dyn ReadFile>) -> Result<Self> {
        let length = input.len()?;
        let end = length.checked_sub(FOOTER_END).ok_or_else(|| broken("it is shorter than a footer"))?;
        let trailer = message::bytes_at(&*input, length, end, FOOTER_END)?;
        if &trailer[4..] != MAGIC {
            return Err(broken("it does not end in `ARROW1`"));
        }
        let size = i32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
        let size = u64::try_from(size).map_err(|_| broken("its footer has fewer than no bytes"))?;
        let begin = end.checked_sub(size).ok_or_else(|| broken(format!("its footer claims {size} bytes")))?;
        let footer = message::bytes_at(&*input, length, begin, size)?;
        let footer = arrow_ipc::root_as_footer(&footer).map_err(|e| broken(format!("its footer: {e}")))?;
        let schema = footer.schema().ok_or_else(|| broken("its footer has no schema"))?;
        let found = guard(|| schema_of(schema))?;
        Ok(Self {
            schema: handed_out(&found),
            version: footer.version(),
            dictionaries: footer.dictionaries().iter().flatten().copied().collect(),
            blocks: footer.recordBatches().iter().flatten().copied().collect(),
            input,
            length,
            found,
        })
    }

    /// The columns of the file.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads the columns with these indices, from row `first` on.
    ///
    /// # Errors
    /// When a dictionary is broken.
    pub fn batches(self, columns: &[usize], first: u64) -> Result<Batches> {
        let mut decoder = FileDecoder::new(self.found.clone(), self.version).with_projection(columns.to_vec());
        for block in &self.dictionaries {
            let bytes = self.bytes(block)?;
            let (metadata, _) = lengths(block)?;
            let found = message::metadata(&bytes, metadata)?;
            message::check(found, &bytes[metadata..])?;
            guard(|| decoder.read_dictionary(block, &bytes))?;
        }
        Ok(Batches { blocks: self.blocks.clone().into_iter(), file: self, decoder, skip: first, read: 0 })
    }

    fn bytes(&self, block: &Block) -> Result<arrow::buffer::Buffer> {
        let (metadata, body) = lengths(block)?;
        let offset = u64::try_from(block.offset()).map_err(|_| broken("a batch before its beginning"))?;
        message::bytes_at(&*self.input, self.length, offset, metadata as u64 + body)
    }
}

/// The lengths of the metadata and of the body of a message.
fn lengths(block: &Block) -> Result<(usize, u64)> {
    let metadata = usize::try_from(block.metaDataLength()).ok().filter(|m| *m >= 8);
    let body = u64::try_from(block.bodyLength()).ok().filter(|b| *b <= i64::MAX as u64 / 2);
    metadata.zip(body).ok_or_else(|| broken("a message of fewer than no bytes"))
}

/// The batches of a file, of whatever size they are.
pub struct Batches {
    file: File,
    decoder: FileDecoder,
    blocks: std::vec::IntoIter<Block>,
    /// How many rows are still to be passed over.
    skip: u64,
    read: u64,
}

impl Batches {
    /// The next batch, and how many of its rows are to be passed over; `None` at the end.
    ///
    /// # Errors
    /// When the file is broken here.
    pub fn read(&mut self) -> Result<Option<(RecordBatch, u64)>> {
        while let Some(block) = self.blocks.next() {
            let (length, body) = lengths(&block)?;
            let offset = u64::try_from(block.offset()).map_err(|_| broken("a batch before its beginning"))?;
            self.read = offset.saturating_add(length as u64).saturating_add(body);
            let bytes = message::bytes_at(&*self.file.input, self.file.length, offset, length as u64)?;
            let rows = message::rows_in(message::metadata(&bytes, length)?)?;
            if rows <= self.skip {
                self.skip -= rows;
                continue;
            }
            let bytes = self.file.bytes(&block)?;
            message::check(message::metadata(&bytes, length)?, &bytes[length..])?;
            if let Some(batch) = guard(|| self.decoder.read_record_batch(&block, &bytes))? {
                return Ok(Some((batch, std::mem::take(&mut self.skip))));
            }
        }
        Ok(None)
    }

    /// How many bytes of the file lie before what comes next.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }
}
