//! A file of the world, as the parquet crate wants to see it.

use std::io::{self, BufReader, ErrorKind, Read};
use std::sync::Arc;

use bourn_engine::env::ReadFile;
use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::thrift::has_list_of_booleans;

/// What stands behind the footer, in bytes: its length, and `PAR1`.
const FOOTER_END: usize = 8;
/// How much is read at once where a page begins, in bytes: most often more than its header.
const HEADER: usize = 1 << 10;

/// An open file and its length when it was opened.
#[derive(Clone)]
pub struct Input {
    pub file: Arc<dyn ReadFile>,
    pub length: u64,
}

impl Input {
    /// The bytes of the footer; none of a file that is too short for one.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn footer(&self) -> Result<Bytes> {
        let Some(at) = self.length.checked_sub(FOOTER_END as u64) else { return Ok(Bytes::new()) };
        let end = self.get_bytes(at, FOOTER_END)?;
        let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
        let Some(begin) = at.checked_sub(length.into()) else { return Ok(Bytes::new()) };
        self.get_bytes(begin, length as usize)
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Input {
    type T = BufReader<Header>;

    /// The parquet crate asks so for the header of a page, which it reads byte by byte.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let header = Header(Cursor { input: self.clone(), offset: start }, false);
        Ok(BufReader::with_capacity(HEADER, header))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // A broken footer may ask for more than there is; that much is never allocated.
        if start.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} lie beyond the end, {}", self.length)));
        }
        let mut bytes = vec![0; length];
        Cursor { input: self.clone(), offset: start }.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// The header of a page, and whether it was begun. It has no end of the file: the parquet crate takes what it passes over
/// there for passed, and would count to the size that a broken list claims.
pub struct Header(Cursor, bool);

impl Read for Header {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ends in the header of a page"));
        }
        let begun = std::mem::replace(&mut self.1, true);
        if !begun && has_list_of_booleans(&buffer[..count]) {
            return Err(io::Error::new(ErrorKind::InvalidData, "the header of a page has a list of booleans"));
        }
        Ok(count)
    }
}

struct Cursor {
    input: Input,
    offset: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.file.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::testing::simulation::Simulation;
    use std::path::Path;

    fn input(bytes: &[u8]) -> Input {
        let world = Simulation::new(1);
        world.files().put("a.parquet", bytes);
        Input { file: world.env().files().open(Path::new("a.parquet")).unwrap(), length: bytes.len() as u64 }
    }

    #[test]
    fn the_header_of_a_page_that_would_be_counted_for_minutes_is_refused() {
        let read = |bytes: &[u8]| {
            let mut header = input(bytes).get_read(1).unwrap();
            io::copy(&mut header, &mut io::sink()).unwrap_err().to_string()
        };
        assert_eq!(read(&[0, 0x15, 0x00]), "it ends in the header of a page");
        assert_eq!(read(&[0, 0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07]), "the header of a page has a list of booleans");
    }

    #[test]
    fn the_footer_is_what_its_length_says_and_nothing_where_there_is_no_room_for_it() {
        assert_eq!(input(b"PAR1ab\x02\0\0\0PAR1").footer().unwrap(), b"ab"[..]);
        for short in [&b"PAR1"[..], b"\xff\0\0\0PAR1"] {
            assert_eq!(input(short).footer().unwrap(), b""[..]);
        }
    }
}
