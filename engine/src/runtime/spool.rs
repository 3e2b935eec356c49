//! A queue on the disk: frames in segment files, each removed when its last frame has been read.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{self, Frame, HEADER};
use crate::data::records::Credit;
use crate::env::{Env, ReadFile, WriteFile};
use crate::error::{Error, Kind, Result};

/// The end of the names of segments.
const ENDING: &str = "spool";
/// A segment is at most this large, and an eighth of the cap: what is read frees its room in such steps.
const SEGMENT_MAX: u64 = 64 << 20;
/// Smaller segments would be more names than rows.
const SEGMENT_MIN: u64 = 64 << 10;

/// The folder of a job's spools. No other job can have it at the same time.
pub struct Folder {
    path: PathBuf,
    #[expect(dead_code, reason = "held for its drop")]
    lock: Box<dyn Send + Sync>,
}

impl Folder {
    /// Takes the folder of a job, and removes what one that has died has left there: none of it was acknowledged.
    ///
    /// # Errors
    /// When another job has it, or the disk fails.
    pub fn claim(env: &Env, base: &Path, job: &str) -> Result<Self> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name: String = job.chars().map(plain).collect();
        let (path, lock) = (base.join(&name), base.join(format!("{name}.lock")));
        let Some(lock) = env.files().lock(&lock).map_err(|e| e.context("the spool"))? else {
            let message = format!(
                "{}: another job `{job}` has its spools here; give one of them another `name`, or another `path` under `isolate`",
                path.display()
            );
            return Err(Error::new(Kind::Io, message));
        };
        let left = format!("{}/*.{ENDING}", glob::Pattern::escape(&path.to_string_lossy()));
        for file in env.files().glob(&left)? {
            env.files().remove(&file).map_err(|e| e.context("removing what a dead job has spooled"))?;
        }
        Ok(Self { path, lock })
    }
}

/// A queue of frames on the disk, with a cap on its bytes. Nothing in it outlives the job, so nothing is synced.
pub struct Spool {
    env: Env,
    folder: Arc<Folder>,
    name: String,
    cap: u64,
    /// From the oldest, which is read, to the newest, which is written.
    segments: VecDeque<Segment>,
    writer: Option<Box<dyn WriteFile>>,
    reader: Option<Arc<dyn ReadFile>>,
    /// What has been read of the oldest segment.
    read_to: u64,
    next_segment: u64,
    /// Frames written and read so far.
    frames: (u64, u64),
    rows: u64,
    /// The admissions of rows in here: at most as many as there are rows under way at once.
    credits: VecDeque<(u64, Arc<Credit>)>,
}

struct Segment {
    path: PathBuf,
    size: u64,
}

impl Spool {
    /// An empty queue of at most `cap` bytes. It makes its first file when something is written.
    pub fn new(env: Env, folder: Arc<Folder>, name: String, cap: u64) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
        Self {
            env,
            folder,
            name: name.chars().map(plain).collect(),
            cap,
            segments: VecDeque::new(),
            writer: None,
            reader: None,
            read_to: 0,
            next_segment: 0,
            frames: (0, 0),
            rows: 0,
            credits: VecDeque::new(),
        }
    }

    /// Whether everything that was written has been read.
    pub fn is_empty(&self) -> bool {
        self.frames.0 == self.frames.1
    }

    /// Rows that wait.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.size).sum()
    }

    /// Whether a frame of so many bytes may be written now.
    pub fn fits(&self, bytes: usize) -> bool {
        self.bytes() + bytes as u64 <= self.cap
    }

    /// Puts an encoded frame behind the others.
    ///
    /// # Errors
    /// What the disk says: it is full, or broken.
    pub fn push(&mut self, frame: &[u8], rows: usize, credit: Option<Arc<Credit>>) -> Result<()> {
        let segment_max = (self.cap / 8).clamp(SEGMENT_MIN, SEGMENT_MAX);
        if self.segments.back().is_none_or(|s| s.size >= segment_max) || self.writer.is_none() {
            self.begin_segment()?;
        }
        let (Some(writer), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else {
            return Err(Error::engine("a spool has no segment to write to"));
        };
        writer.write_all(frame).map_err(|e| Error::from(e).context(segment.path.display()))?;
        segment.size += frame.len() as u64;
        self.credits.extend(credit.map(|c| (self.frames.0, c)));
        self.frames.0 += 1;
        self.rows += rows as u64;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<()> {
        let path = self.folder.path.join(format!("{}.{:08}.{ENDING}", self.name, self.next_segment));
        self.next_segment += 1;
        self.writer = Some(self.env.files().create(&path)?);
        self.segments.push_back(Segment { path, size: 0 });
        Ok(())
    }

    /// Takes the oldest frame; none if there is none.
    ///
    /// # Errors
    /// What the disk says, or that it gave back something else than was written.
    pub fn pop(&mut self) -> Result<Option<Frame>> {
        let Some(segment) = self.segments.front().filter(|_| !self.is_empty()) else { return Ok(None) };
        let at = |e: Error| e.context(segment.path.display());
        let reader = match &self.reader {
            Some(reader) => reader.clone(),
            None => self.env.files().open(&segment.path)?,
        };
        let mut header = [0; HEADER];
        read_exactly(&*reader, self.read_to, &mut header).map_err(at)?;
        let length = frame::length(&header);
        let end = self.read_to + HEADER as u64 + length;
        if end > segment.size {
            return Err(at(frame::damaged()));
        }
        let mut body = vec![0; usize::try_from(length)?];
        read_exactly(&*reader, self.read_to + HEADER as u64, &mut body).map_err(at)?;
        let mut frame = frame::decode(&header, &body).map_err(at)?;
        (self.reader, self.read_to) = (Some(reader), end);
        if let Some((_, credit)) = self.credits.pop_front_if(|(of, _)| *of == self.frames.1) {
            frame.carry(credit);
        }
        self.frames.1 += 1;
        self.rows -= frame.rows() as u64;
        // The last segment goes when all of it has been read, whatever its size: the next frame begins another.
        if self.read_to == self.segments[0].size && (self.segments.len() > 1 || self.is_empty()) {
            self.end_segment()?;
        }
        Ok(Some(frame))
    }

    fn end_segment(&mut self) -> Result<()> {
        self.reader = None;
        self.read_to = 0;
        if self.segments.len() == 1 {
            self.writer = None;
        }
        match self.segments.pop_front() {
            Some(segment) => self.env.files().remove(&segment.path),
            None => Ok(()),
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        for segment in &self.segments {
            // What can't be removed now is when a job of this name starts.
            let _ = self.env.files().remove(&segment.path);
        }
    }
}

fn read_exactly(file: &dyn ReadFile, mut at: u64, mut buffer: &mut [u8]) -> Result<()> {
    while !buffer.is_empty() {
        match file.read_at(at, buffer)? {
            0 => return Err(frame::damaged()),
            count => {
                at += count as u64;
                buffer = &mut buffer[count..];
            }
        }
    }
    Ok(())
}
