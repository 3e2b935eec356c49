//! The bytes of a file or a pipe one after the other, decompressed where they are compressed.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;

use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Kind, Result};
use flate2::bufread::MultiGzDecoder;

use super::{Limits, Packing};

/// How much of a compressed file is read at once, in bytes.
const STEP: usize = 128 << 10;
/// How much a file may give before its ratio is looked at, in bytes.
const FLOOR: u64 = 16 << 20;

/// A text that is read from its beginning, or from further behind.
pub struct Text {
    inner: Inner,
    /// How many bytes of the text were given, those that were passed over included.
    given: u64,
}

enum Inner {
    Plain(Sequential),
    Packed { decoder: Decoder, packing: Packing, limits: Limits },
}

enum Decoder {
    /// Nothing was read yet: the first bytes of a pipe may be long in coming.
    Unread(BufReader<Sequential>),
    Gzip(Box<MultiGzDecoder<BufReader<Sequential>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Sequential>>>),
    /// Of an input without a byte, which is no text at all.
    Empty,
}

impl Text {
    /// The text in `file`, which is compressed so, if it is, and may grow so far.
    ///
    /// # Errors
    /// When the file can't be looked at.
    pub fn open(file: Arc<dyn ReadFile>, packing: Option<Packing>, limits: Limits) -> Result<Self> {
        let length = file.len()?;
        Ok(Self::of(Origin::File { file, length }, packing, limits))
    }

    /// The text that a pipe gives. Nothing is read before the first [`read`](Self::read), which waits for the pipe.
    pub fn of_pipe(pipe: Box<dyn Read + Send>, packing: Option<Packing>, limits: Limits) -> Self {
        Self::of(Origin::Pipe(pipe), packing, limits)
    }

    fn of(origin: Origin, packing: Option<Packing>, limits: Limits) -> Self {
        let input = Sequential { origin, offset: 0, failed: false };
        let inner = match packing {
            None => Inner::Plain(input),
            Some(packing) => {
                let decoder = Decoder::Unread(BufReader::with_capacity(STEP, input));
                Inner::Packed { decoder, packing, limits }
            }
        };
        Self { inner, given: 0 }
    }

    /// Bytes of the input that were read so far.
    pub fn bytes_read(&self) -> u64 {
        match &self.inner {
            Inner::Plain(input) => input.offset,
            Inner::Packed { decoder, .. } => decoder.offset(),
        }
    }

    /// Goes to the byte `offset` of the text. What is compressed is read again from its beginning.
    ///
    /// # Errors
    /// When there is less, or it can't be read.
    pub fn skip_to(&mut self, offset: u64) -> Result<()> {
        let short = |has: u64| {
            let message = format!("holds {has} bytes, and {offset} of it had been read before: it is another file");
            Error::validation(message)
        };
        if let Inner::Plain(Sequential { origin: Origin::File { length, .. }, offset: at, .. }) = &mut self.inner {
            if *length < offset {
                return Err(short(*length));
            }
            *at = offset;
            self.given = offset;
            return Ok(());
        }
        let mut passed = vec![0; STEP];
        while self.given < offset {
            let most = usize::try_from(offset - self.given).unwrap_or(STEP).min(STEP);
            if self.read(&mut passed[..most])? == 0 {
                return Err(short(self.given));
            }
        }
        Ok(())
    }

    /// Fills `buffer` with what comes next; returns how many bytes, 0 at the end.
    ///
    /// # Errors
    /// When the file can't be read, is not whole, or grows beyond its limits.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (decoder, packing, limits) = match &mut self.inner {
            Inner::Plain(input) => {
                let count = input.read(buffer)?;
                self.given += count as u64;
                return Ok(count);
            }
            Inner::Packed { decoder, packing, limits } => (decoder, *packing, *limits),
        };
        let count = decoder.read(buffer, packing).map_err(|e| decoder.fault(e, packing))?;
        self.given += count as u64;
        let grown = u128::from(self.given) > u128::from(decoder.offset().max(1)) * u128::from(limits.ratio);
        if self.given > FLOOR && grown {
            let message = format!(
                "its {} holds more than {} times its {} bytes: if that is meant, say `decompress: {{ ratio: … }}`",
                packing.name(),
                limits.ratio,
                decoder.offset(),
            );
            return Err(Error::new(Kind::Budget, message));
        }
        if let Some(size) = limits.size.filter(|s| self.given > s.0) {
            let message = format!("its {} holds more than {} bytes, which `decompress` allows", packing.name(), size.0);
            return Err(Error::new(Kind::Budget, message));
        }
        Ok(count)
    }
}

impl Decoder {
    fn read(&mut self, buffer: &mut [u8], packing: Packing) -> io::Result<usize> {
        if let Self::Unread(input) = self {
            let is_empty = input.fill_buf()?.is_empty();
            *self = match (std::mem::replace(self, Self::Empty), packing) {
                (Self::Unread(_), _) if is_empty => Self::Empty,
                (Self::Unread(input), Packing::Gzip) => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
                (Self::Unread(input), Packing::Zstd) => {
                    Self::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(input)?))
                }
                (other, _) => other,
            };
        }
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Unread(_) | Self::Empty => Ok(0),
        }
    }

    fn input(&self) -> Option<&BufReader<Sequential>> {
        match self {
            Self::Gzip(decoder) => Some(decoder.get_ref()),
            Self::Zstd(decoder) => Some(decoder.get_ref()),
            Self::Unread(input) => Some(input),
            Self::Empty => None,
        }
    }

    /// How many bytes of the input were worked.
    fn offset(&self) -> u64 {
        self.input().map_or(0, |input| input.get_ref().offset - input.buffer().len() as u64)
    }

    /// An error of the disk or the pipe stays one; any other is the data's, and told with its place.
    fn fault(&self, error: io::Error, packing: Packing) -> Error {
        if self.input().is_some_and(|input| input.get_ref().failed) {
            return error.into();
        }
        let (name, at) = (packing.name(), self.offset());
        let message = match error.kind() {
            ErrorKind::UnexpectedEof => format!("ends at byte {at}, in the middle of its {name}"),
            _ => format!("is no {name} at byte {at}: {error}"),
        };
        Error::validation(message).with_source(error)
    }
}

/// A file or a pipe read from one byte to the next.
struct Sequential {
    origin: Origin,
    offset: u64,
    failed: bool,
}

enum Origin {
    File {
        file: Arc<dyn ReadFile>,
        /// What it held when it was opened; it may grow.
        length: u64,
    },
    Pipe(Box<dyn Read + Send>),
}

impl Origin {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (file, had) = match self {
            Self::File { file, length } => (file, *length),
            Self::Pipe(pipe) => loop {
                match pipe.read(buffer) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    other => return other,
                }
            },
        };
        let count = file.read_at(offset, buffer)?;
        if count == 0 && offset < had && !buffer.is_empty() {
            let has = file.len().unwrap_or(0);
            let message = format!("had {had} bytes, and has {has} now: it was cut off while it was read");
            return Err(io::Error::other(message));
        }
        Ok(count)
    }
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.origin.read(self.offset, buffer);
        self.failed |= read.is_err();
        let count = read?;
        self.offset += count as u64;
        Ok(count)
    }
}
