//! Rows that wait for the commit of their epoch, in files of the job: a segment an epoch.
#![cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "a file needs no receipt for each segment")
)]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bourn_engine::env::{Env, ReadFile, WriteFile};
use bourn_engine::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::file::keep_names;

/// The ending of their names.
const ENDING: &str = "arrows";
/// How much of a segment is read at a time to compare it with its checksum, in bytes.
const CHUNK: usize = 1 << 18;

/// The name of a segment: `ID-LANE-NUMBER.arrows`. No two ids have one name.
pub(crate) fn name(id: &str, lane: usize, number: u64) -> String {
    use std::fmt::Write as _;
    let mut plain = String::new();
    for c in id.chars() {
        if c.is_ascii_alphanumeric() {
            plain.push(c);
        } else {
            let _ = write!(plain, "_{:x}_", u32::from(c));
        }
    }
    format!("{plain}-{lane}-{number:08}.{ENDING}")
}

/// Removes the segments of a sink that were begun by earlier runs and that no receipt names, as far as they are `lane`'s,
/// or of a lane that is no more and falls to it.
///
/// # Errors
/// When the folder can't be read, or a file not be removed.
pub(crate) fn remove_left(
    env: &Env,
    folder: &Path,
    (id, lane, lanes): (&str, usize, usize),
    named: &BTreeSet<String>,
) -> Result<()> {
    let of_sink = name(id, 0, 0).strip_suffix(&format!("-0-00000000.{ENDING}")).unwrap_or_default().to_owned();
    let pattern = format!("{}/{of_sink}-*.{ENDING}", glob::Pattern::escape(&folder.to_string_lossy()));
    for place in env.glob(&pattern)? {
        let found = place.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let rest = found.strip_prefix(&of_sink).and_then(|n| n.strip_prefix('-')).unwrap_or_default();
        let of = rest.split('-').next().and_then(|n| n.parse::<usize>().ok());
        if of.is_some_and(|of| of % lanes == lane) && !named.contains(&found) {
            env.files().remove(&place)?;
        }
    }
    Ok(())
}

/// Tells whether several sinks of a job write to one place. They know of each other by files that they lock.
pub(crate) struct Sharing {
    first: Option<Box<dyn Send + Sync>>,
    _second: Option<Box<dyn Send + Sync>>,
    second_at: PathBuf,
}

impl Sharing {
    /// One more sink writes to `place`. All must have said so before the first of them asks.
    ///
    /// # Errors
    /// When a file can't be locked.
    pub(crate) fn new(env: &Env, folder: &Path, place: &str) -> Result<Self> {
        let at = |number: u8| folder.join(format!("{:016x}-{number}.lock", xxh3_64(place.as_bytes())));
        let first = env.files().lock(&at(1))?;
        let second = if first.is_none() { env.files().lock(&at(2))? } else { None };
        Ok(Self { first, _second: second, second_at: at(2) })
    }

    /// Whether another one writes to the place.
    ///
    /// # Errors
    /// When a file can't be locked.
    pub(crate) fn is_shared(&self, env: &Env) -> Result<bool> {
        Ok(self.first.is_none() || env.files().lock(&self.second_at)?.is_none())
    }
}

/// A segment that is being written.
pub(crate) struct Segment {
    place: PathBuf,
    writer: StreamWriter<Summed>,
    rows: u64,
    /// Whether a write has failed, so that what follows could not be read.
    torn: bool,
}

/// A segment that is on the disk, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// Its name in the folder of the job.
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// XXH3 of its content, 128 bits in hex.
    pub(crate) checksum: String,
}

/// The rows of a segment.
pub(crate) type Rows = StreamReader<io::BufReader<Reading>>;

impl Segment {
    /// Begins a segment; what is there is replaced.
    ///
    /// # Errors
    /// When the file can't be made.
    pub(crate) fn create(env: &Env, place: PathBuf, schema: &Schema) -> Result<Self> {
        let file = Summed { file: env.files().create(&place)?, sum: Xxh3::new(), bytes: 0 };
        let writer = StreamWriter::try_new(file, schema).map_err(|e| Error::from(e).context(place.display()))?;
        Ok(Self { place, writer, rows: 0, torn: false })
    }

    /// Adds rows. A failed write is final: rows behind a torn one could not be read.
    ///
    /// # Errors
    /// When the disk is full or broken.
    pub(crate) fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.torn {
            return Err(Error::new(Kind::Io, format!("{}: a write has failed before", self.place.display())));
        }
        let written = self.writer.write(rows);
        self.torn = written.is_err();
        written.map_err(|e| Error::from(e).context(self.place.display()).permanent())?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// How large it is, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.get_ref().bytes
    }

    /// The rows so far.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn so_far(&self, env: &Env) -> Result<Rows> {
        open(env, &self.place)
    }

    /// Ends it, and makes it and its name stay on the disk.
    ///
    /// # Errors
    /// When the disk is full or broken: the segment must not be trusted any more.
    pub(crate) async fn seal(self, env: &Env) -> Result<Sealed> {
        let Self { place, writer, rows, torn } = self;
        let at = place.clone();
        let ended = env.blocking(move || -> Result<Summed> {
            if torn {
                return Err(Error::new(Kind::Io, "a write has failed before"));
            }
            let mut file = writer.into_inner()?;
            file.file.sync()?;
            Ok(file)
        });
        let Summed { sum, bytes, .. } = ended.await?.map_err(|e| e.context(place.display()).permanent())?;
        keep_names(env, [at]).await?;
        let name = place.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Sealed { name, rows, bytes, checksum: format!("{:032x}", sum.digest128()) })
    }
}

impl Sealed {
    /// Its rows, once its content is found to be what was sealed.
    ///
    /// # Errors
    /// When it is gone, or not what it was.
    pub(crate) fn open(&self, env: &Env, folder: &Path) -> Result<Rows> {
        let place = folder.join(&self.name);
        let file = match env.files().open(&place) {
            Err(e) if e.kind() == Kind::NotFound => {
                let message =
                    format!("{}: what the checkpoint has staged is gone; `--fresh` begins anew", place.display());
                return Err(Error::new(Kind::NotFound, message));
            }
            file => file?,
        };
        let (mut sum, mut reading, mut chunk) = (Xxh3::new(), Reading { file, at: 0 }, vec![0; CHUNK]);
        loop {
            match reading.read(&mut chunk).map_err(|e| Error::from(e).context(place.display()))? {
                0 => break,
                count => sum.update(&chunk[..count]),
            }
        }
        if reading.at != self.bytes || format!("{:032x}", sum.digest128()) != self.checksum {
            let message = format!("{}: it is damaged: not what the checkpoint has staged there", place.display());
            return Err(Error::new(Kind::Other, message));
        }
        open(env, &place)
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// When nobody can tell.
    pub(crate) fn is_there(&self, env: &Env, folder: &Path) -> Result<bool> {
        Ok(env.files().identify(&folder.join(&self.name))?.is_some())
    }

    /// Removes it. One that is gone already is no error.
    ///
    /// # Errors
    /// When it can't be removed.
    pub(crate) fn remove(&self, env: &Env, folder: &Path) -> Result<()> {
        match env.files().remove(&folder.join(&self.name)) {
            Err(e) if e.kind() != Kind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// The rows of a file, which may lack its end.
///
/// # Errors
/// When it can't be opened, or holds something else.
pub(crate) fn open(env: &Env, place: &Path) -> Result<Rows> {
    let file = env.files().open(place)?;
    let rows = StreamReader::try_new_buffered(Reading { file, at: 0 }, None);
    rows.map_err(|e| Error::from(e).context(place.display()))
}

/// A file with the checksum of what was written to it.
struct Summed {
    file: Box<dyn WriteFile>,
    sum: Xxh3,
    bytes: u64,
}

impl Write for Summed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer)?;
        self.sum.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file from its beginning.
pub(crate) struct Reading {
    file: Arc<dyn ReadFile>,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.at, buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}
