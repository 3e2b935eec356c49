//! Files that grow: their lines as they are appended, and new files as they appear.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{Chunk, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::env::{Env, FileId, ReadFile};
use bourn_engine::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::read::{Recipe, with_folders};
use super::read_lines::{LineDecoder, next_chunk};
use crate::codec::lines::{BLOCK, LineBuffer, Place};

/// How long a file without news is left alone, at first and at most.
const WAIT: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(100);
/// How often new files are looked for, at most.
const LOOK: Duration = Duration::from_millis(100);
/// How long a file that lost its name is read on: who writes to it may not have noticed yet.
const PARTING: Duration = Duration::from_secs(1);
/// How much is read at once of a file that has little news, in bytes.
const STEP: usize = 64 << 10;
/// The most files that are followed at once: each is open.
const FILES_MAX: usize = 1_024;

/// Reads all files of a pattern for ever, in one lane: which files there are is known only as they come.
pub struct Follow {
    env: Env,
    pattern: String,
    recipe: Recipe,
    schema: SchemaRef,
    split: Split,
    tails: Vec<Tail>,
    /// Where to go on in files that were not met again yet.
    marks: Marks,
    /// The file that is looked at first, so that none starves.
    turn: usize,
    look_at: Duration,
    wait: Duration,
}

/// How far each file was read, by its path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Marks(BTreeMap<String, Mark>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mark {
    id: FileId,
    place: Place,
}

/// A file that is followed.
struct Tail {
    split: Split,
    id: FileId,
    file: Arc<dyn ReadFile>,
    offset: u64,
    lines: LineBuffer,
    decoder: LineDecoder,
    /// When it had its last news, or lost its name.
    news: Duration,
    nameless: bool,
    ends: Option<Then>,
}

/// What becomes of a file whose last line, though unfinished, is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It was cut short, and is read from its beginning.
    Again,
    /// It is gone.
    Forgotten,
}

impl Follow {
    /// A source of the one split of `pattern`, if the lane has it.
    ///
    /// # Errors
    /// When its position is none.
    pub fn new(pattern: String, recipe: Recipe, lane: SourceContext) -> Result<Option<Self>> {
        let SourceContext { env, schema, splits, .. } = lane;
        let Some((split, position)) = splits.into_iter().next() else { return Ok(None) };
        let marks = position.as_ref().map(Position::read).transpose()?.unwrap_or_default();
        let look_at = env.monotonic();
        let wait = *WAIT.start();
        Ok(Some(Self { env, pattern, recipe, schema, split, tails: Vec::new(), marks, turn: 0, look_at, wait }))
    }

    /// Looks which files there are: new ones are opened, renamed ones known again, lost ones noticed.
    fn look(&mut self) -> Result<()> {
        let began = self.env.monotonic();
        let mut named = Vec::new();
        for path in self.env.glob(&self.pattern)? {
            let Some(id) = self.env.files().identify(&path)? else { continue };
            let name = path.to_string_lossy();
            if let Some(tail) = self.tails.iter_mut().find(|t| t.id == id) {
                if tail.split.name() != name {
                    tail.split = Split::new(name);
                }
                named.push(id);
            } else if let Some(tail) = self.open(&path, &name)? {
                named.push(tail.id);
                if self.tails.len() >= FILES_MAX {
                    let message = format!("more than {FILES_MAX} files match {}, and each is kept open", self.pattern);
                    return Err(Error::new(Kind::Budget, message));
                }
                self.tails.push(tail);
            }
        }
        // What was not met by now has vanished.
        self.marks = Marks::default();
        for tail in &mut self.tails {
            let nameless = !named.contains(&tail.id);
            if nameless && !tail.nameless {
                tail.news = began;
            }
            tail.nameless = nameless;
        }
        let now = self.env.monotonic();
        // A large folder takes its time; looking must not become all that is done.
        self.look_at = now + LOOK.max(20 * now.saturating_sub(began));
        Ok(())
    }

    /// Opens a file where it was left; `None` when it has vanished meanwhile, or is known.
    fn open(&mut self, path: &Path, name: &str) -> Result<Option<Tail>> {
        let file = match self.env.files().open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let named = |e: Error| e.context(name);
        let id = file.id().map_err(|e| named(e.into()))?;
        if self.tails.iter().any(|t| t.id == id) {
            return Ok(None);
        }
        let known = self.marks.0.iter().find(|(_, mark)| mark.id == id).map(|(path, _)| path.clone());
        let mark = known.and_then(|path| self.marks.0.remove(&path));
        let length = file.len().map_err(|e| named(e.into()))?;
        let place = mark.map(|m| m.place).filter(|place| place.offset <= length).unwrap_or_default();
        let mut decoder = self.recipe.decoder().map_err(named)?;
        if place.offset > 0 {
            decoder.read_header(self.recipe.texts.open(path, file.clone())?).map_err(named)?;
        }
        Ok(Some(Tail {
            split: Split::new(name),
            id,
            file,
            offset: place.offset,
            lines: LineBuffer::at(place),
            decoder,
            news: self.env.monotonic(),
            nameless: false,
            ends: None,
        }))
    }

    /// The next chunk of any file, if one has news.
    fn poll(&mut self) -> Result<Option<Chunk>> {
        for _ in 0..self.tails.len() {
            self.turn = (self.turn + 1) % self.tails.len();
            let now = self.env.monotonic();
            let tail = &mut self.tails[self.turn];
            loop {
                if let Some(chunk) = tail.next().map_err(|e| e.context(tail.split.name()))? {
                    return self.chunk(chunk).map(Some);
                }
                if tail.ends.is_some() || !tail.fill(now).map_err(|e| e.context(tail.split.name()))? {
                    break;
                }
            }
            match tail.ends.filter(|_| tail.lines.is_done()) {
                Some(Then::Again) => {
                    tail.decoder = self.recipe.decoder()?;
                    (tail.lines, tail.offset, tail.ends) = (LineBuffer::default(), 0, None);
                }
                Some(Then::Forgotten) => {
                    self.tails.remove(self.turn);
                    self.turn = 0;
                    // The next look at the others is soon enough.
                    break;
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// A chunk of one file as one of the whole pattern.
    fn chunk(&self, chunk: Chunk) -> Result<Chunk> {
        let path = chunk.split.name();
        let records = with_folders(chunk.records, &self.schema, path)?;
        let mark = |tail: &Tail| (tail.split.name().to_owned(), Mark { id: tail.id, place: tail.lines.place() });
        let marks = Marks(self.tails.iter().map(mark).collect());
        Ok(Chunk { records, split: self.split.clone(), position: Position::of(&marks)?, ..chunk })
    }
}

impl Tail {
    /// The next chunk of the whole lines at hand.
    fn next(&mut self) -> Result<Option<Chunk>> {
        next_chunk(&mut self.lines, &mut self.decoder, &self.split)
    }

    /// Reads what is new; returns whether there may be more to hand out.
    fn fill(&mut self, now: Duration) -> Result<bool> {
        let length = self.file.len()?;
        if length < self.offset {
            self.lines.filled(0);
            self.ends = Some(Then::Again);
            return Ok(true);
        }
        if length == self.offset {
            if self.lines.held() == 0 {
                // A file without news holds no memory.
                self.lines = LineBuffer::at(self.lines.place());
            }
            if self.nameless && now.saturating_sub(self.news) >= PARTING {
                self.lines.filled(0);
                self.ends = Some(Then::Forgotten);
                return Ok(true);
            }
            return Ok(false);
        }
        let step = if length - self.offset > STEP as u64 { BLOCK } else { STEP };
        let count = self.file.read_at(self.offset, self.lines.space(step))?;
        if count == 0 {
            return Ok(false);
        }
        self.lines.filled(count);
        self.offset += count as u64;
        self.news = now;
        Ok(true)
    }
}

impl Source for Follow {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            let began = self.env.monotonic();
            if began >= self.look_at {
                self.look()?;
            }
            if let Some(chunk) = self.poll()? {
                self.wait = *WAIT.start();
                return Ok(Some(chunk));
            }
            let took = self.env.monotonic().saturating_sub(began);
            self.env.sleep(self.wait.max(4 * took).min(*WAIT.end())).await;
            self.wait = (2 * self.wait).min(*WAIT.end());
        }
    }
}
