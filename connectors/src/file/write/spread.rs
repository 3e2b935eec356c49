//! Many files: the next by rows, size or time, and one for each value of some columns.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Epochs, Outcome, Receipt, Rejected, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::diagnostic::Problem;
use bourn_engine::env::points;
use bourn_engine::{Error, Kind, Result};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::out::{Out, Recipe, keep_names, with_part};
use super::partition::Partition;
use super::{Files, NUMBER};
use crate::codec::compression::Packing;
use crate::file::File;
use crate::file::again::inserted;

/// How many files of a lane are open at once, as a rule. Beyond it the one that was written to longest ago is ended.
pub const OPEN_MAX: usize = 200;
/// From so many on a file holds less in memory.
const MANY_OPEN: usize = 64;
/// The longest name of a folder that file systems take, in bytes.
const NAME_MAX: usize = 255;

/// When a file is full, by whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// It has so many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// It has this size, about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// It was begun so long ago, whether or not rows come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Interval>,
}

/// Checks what is told of many files.
pub fn check(file: &File) -> Vec<Problem> {
    let mut problems = Vec::new();
    let has_number = file.path.contains(NUMBER);
    match &file.rotate {
        Some(Rotate { rows: None, size: None, every: None }) => {
            problems.push(Problem::new("nothing says when a file is full").under("rotate").help("say `rows: 1000000`"));
        }
        Some(Rotate { rows, size, every }) => {
            let never = [
                ("rows", *rows == Some(0)),
                ("size", *size == Some(Size(0))),
                ("every", *every == Some(Interval(Duration::ZERO))),
            ];
            for (key, _) in never.iter().filter(|(_, zero)| *zero) {
                problems.push(Problem::new("a file takes more than nothing").under(*key).under("rotate"));
            }
            if !has_number && file.partition_by.is_none() {
                let problem = Problem::new("`rotate` makes many files, and the path names one").under("path");
                problems.push(problem.help(format!("put `{NUMBER}` into it")));
            }
        }
        None if has_number && file.partition_by.is_none() => {
            let problem = Problem::new(format!("`{NUMBER}` counts files, and nothing makes many")).under("path");
            problems.push(problem.help("say when a file is full: `rotate: { rows: 1000000 }`"));
        }
        None => {}
    }
    problems
}

/// Writes many files beside their places, and puts each there when it is full or the epoch ends: so what an epoch has
/// committed can be read, and what can be read is whole.
pub struct Spread {
    recipe: Recipe,
    place: Place,
    rotate: Rotate,
    partition: Option<Partition>,
    /// The open file of each folder, the one written to longest ago first. Without folders, that of the empty one.
    open: IndexMap<String, Open>,
    /// Of the next file. One count for all folders, so that no count must be kept for each.
    number: u64,
    /// For a job that keeps checkpoints: files that are whole and wait for the end of the epoch.
    whole: Option<Vec<PathBuf>>,
    /// Whether it was told that files were ended because too many were open.
    ended_early: bool,
}

/// The receipt of an epoch: its files, which wait beside their places, and the number of the next one.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    files: Vec<PathBuf>,
    next: u64,
}

/// Where the files of a lane are.
pub struct Place {
    /// The path with the place of the number, or the folder.
    pub path: String,
    /// Which lane.
    pub lane: usize,
    /// How many files are open at once; beyond it the one that was written to longest ago is ended.
    pub open_max: usize,
    /// What tells them apart from those of a job that they stand beside.
    pub mark: Option<String>,
}

struct Open {
    out: Out,
    begun: Duration,
}

impl Spread {
    /// Files of one lane, at its path or in the folders below it.
    ///
    /// # Errors
    /// When what an earlier run has left can't be read or removed.
    pub fn new(
        recipe: Recipe,
        place: Place,
        rotate: Rotate,
        partition: Option<Partition>,
        epochs: Option<&Epochs>,
    ) -> Result<Self> {
        let lane = place.lane;
        let (open, whole) = (IndexMap::new(), epochs.map(|_| Vec::new()));
        let mut spread = Self { recipe, place, rotate, partition, open, number: 0, whole, ended_early: false };
        if let Some(epochs) = epochs {
            let waiting = |(of, receipt): &(usize, Receipt)| Ok((*of, receipt.read::<Waiting>()?));
            let waiting: Vec<(usize, Waiting)> = epochs.receipts.iter().map(waiting).collect::<Result<_>>()?;
            spread.number = waiting.iter().find(|(of, _)| *of == lane).map_or(0, |(_, w)| w.next);
            let wanted = waiting.into_iter().flat_map(|(_, w)| w.files).collect();
            spread.remove_left(&wanted, epochs.behind > 0)?;
        }
        Ok(spread)
    }

    /// Removes what was begun and never committed, and what was committed behind the epoch that the job goes on from: an
    /// older checkpoint than the newest was taken then.
    fn remove_left(&self, wanted: &BTreeSet<PathBuf>, resumes: bool) -> Result<()> {
        let env = &self.recipe.env;
        let escaped = glob::Pattern::escape(&self.place.path);
        let (pattern, before, after) = match &self.partition {
            None => {
                let (before, after) = self.place.path.split_once(NUMBER).unwrap_or((&self.place.path, ""));
                (escaped.replace(&glob::Pattern::escape(NUMBER), "*").replace(NUMBER, "*"), before.to_owned(), after)
            }
            Some(_) => (format!("{escaped}/**/part-{}-*", self.place.lane), format!("part-{}-", self.place.lane), ""),
        };
        let number = |place: &Path| {
            let text = place.to_string_lossy();
            let rest =
                if self.partition.is_some() { text.rsplit_once(&before)?.1 } else { text.strip_prefix(&*before)? };
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            rest[digits.len()..].starts_with(after).then(|| digits.parse::<u64>().ok())?
        };
        for path in env.glob(&format!("{pattern}.part"))? {
            let place = path.with_extension("");
            if number(&place).is_some() && !wanted.contains(&place) {
                env.files().remove(&path)?;
            }
        }
        for place in if resumes { env.glob(&pattern)? } else { Vec::new() } {
            if number(&place).is_some_and(|n| n >= self.number) && place.extension().is_none_or(|e| e != "part") {
                env.files().remove(&place)?;
            }
        }
        Ok(())
    }

    /// The place of the next file of a folder.
    fn next_path(&mut self, folder: &str) -> PathBuf {
        let number = format!("{:05}", self.number);
        self.number += 1;
        if self.partition.is_none() {
            // A path without a place for the number names one file, which is beside another, and ends with the epoch.
            let is_further = self.number > 1 && !self.place.path.contains(NUMBER);
            let path = self.place.path.replace(NUMBER, &number);
            return if is_further { inserted(&path, &format!("-{number}")) } else { path }.into();
        }
        let packed = match self.recipe.packing {
            Some(Packing::Gzip) => ".gz",
            Some(Packing::Zstd) => ".zst",
            None => "",
        };
        let mark = self.place.mark.as_ref().map_or_else(|| "part".to_owned(), |mark| format!("replay-{mark}"));
        let name = format!("{mark}-{}-{number}.{}{packed}", self.place.lane, self.recipe.format.ending());
        Path::new(&self.place.path).join(folder).join(name)
    }

    /// Many small files are slow to write and to read; the first of them says why.
    fn tell_ended_early(&mut self) {
        if !std::mem::replace(&mut self.ended_early, true) {
            let (path, most) = (&self.place.path, self.place.open_max);
            tracing::warn!(
                "{path}: rows of more than {most} folders come in turn, and no more files are open at once: they are ended \
                 early, and there will be many small ones; name fewer columns in `partition_by`, or order the rows by them"
            );
        }
    }

    async fn write_to(&mut self, folder: &str, mut rows: RecordBatch) -> Result<()> {
        let now = self.recipe.env.monotonic();
        while rows.num_rows() > 0 {
            let index = if let Some(index) = self.open.get_index_of(folder) {
                index
            } else {
                if self.open.len() >= self.place.open_max
                    && let Some((_, longest_ago)) = self.open.shift_remove_index(0)
                {
                    self.tell_ended_early();
                    self.end(longest_ago).await?;
                }
                let path = self.next_path(folder);
                if self.partition.is_some() && self.open.len() >= MANY_OPEN {
                    self.recipe.options.memory_max = self.recipe.options.memory_max.min(1 << 20);
                }
                let out = self.recipe.open(path)?;
                self.open.insert_full(folder.to_owned(), Open { out, begun: now }).0
            };
            let last = self.open.len() - 1;
            self.open.move_index(index, last);
            let open = &mut self.open[last];
            let room = self.rotate.rows.map_or(u64::MAX, |most| most.saturating_sub(open.out.rows()));
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(rows.num_rows());
            open.out.write(&rows.slice(0, count))?;
            rows = rows.slice(count, rows.num_rows() - count);
            if is_full(open, self.rotate, now)
                && let Some((_, full)) = self.open.shift_remove_index(last)
            {
                self.end(full).await?;
            }
        }
        Ok(())
    }

    /// Ends the files that were begun too long ago.
    async fn end_old(&mut self) -> Result<()> {
        let now = self.recipe.env.monotonic();
        while let Some(old) = self.take_old(now) {
            self.end(old).await?;
        }
        Ok(())
    }

    fn take_old(&mut self, now: Duration) -> Option<Open> {
        let Interval(every) = self.rotate.every?;
        let index = self.open.values().position(|open| now.saturating_sub(open.begun) >= every)?;
        self.open.shift_remove_index(index).map(|(_, old)| old)
    }

    async fn end_all(&mut self) -> Result<()> {
        while let Some((_, open)) = self.open.shift_remove_index(0) {
            self.end(open).await?;
        }
        Ok(())
    }

    /// Ends a file, and puts it in its place, or lets it wait for the end of the epoch.
    async fn end(&mut self, mut open: Open) -> Result<()> {
        let Some(whole) = &mut self.whole else {
            open.out.finish().await?;
            // What was replayed is settled when the job has ended: then its name must stay.
            return if self.place.mark.is_some() { open.out.keep_name().await } else { Ok(()) };
        };
        open.out.seal().await?;
        whole.push(open.out.path().to_owned());
        Ok(())
    }
}

fn is_full(open: &Open, rotate: Rotate, now: Duration) -> bool {
    rotate.rows.is_some_and(|most| open.out.rows() >= most)
        || rotate.size.is_some_and(|most| open.out.size() >= most.0)
        || rotate.every.is_some_and(|every| now.saturating_sub(open.begun) >= every.0)
}

impl Files for Spread {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.end_old().await?;
        let Some(partition) = &self.partition else {
            self.write_to("", rows.clone()).await?;
            return Ok(Written::all());
        };
        let (mut written, mut groups) = (Written::all(), Vec::new());
        for (folder, rows) in partition.split(rows)? {
            let rest = partition.rest(&rows)?;
            if let Some(name) = folder.split('/').find(|name| name.len() > NAME_MAX) {
                let message =
                    format!("its folder would have a name of {} bytes, and {NAME_MAX} are the most", name.len());
                written.rejected.push(Rejected::rows(rows, Error::validation(message)));
            } else {
                groups.push((folder, rest));
            }
        }
        for (folder, rows) in groups {
            self.write_to(&folder, rows).await?;
        }
        Ok(written)
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        self.end_all().await?;
        let Some(whole) = &mut self.whole else { return Ok(None) };
        let files = std::mem::take(whole);
        // The names beside their places must stay, or there is nothing to commit.
        keep_names(&self.recipe.env, files.iter().map(|place| with_part(place))).await?;
        Receipt::of(&Waiting { files, next: self.number }).map(Some)
    }

    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        let Waiting { files, .. } = receipt.read()?;
        let env = &self.recipe.env;
        for place in &files {
            let part = with_part(place);
            match env.files().rename(&part, place) {
                Ok(()) => env.reached(points::FILE_PLACED),
                // It was committed before.
                Err(e) if e.kind() == Kind::NotFound && env.files().identify(place)?.is_some() => {}
                Err(e) if e.kind() == Kind::NotFound => {
                    let message =
                        format!("{}: what the checkpoint has of it is gone; `--fresh` begins anew", part.display());
                    return Err(Error::new(Kind::NotFound, message));
                }
                Err(e) => return Err(e),
            }
        }
        keep_names(env, files).await?;
        Ok(Outcome::Committed)
    }

    fn wake_at(&self) -> Option<Duration> {
        let Interval(every) = self.rotate.every?;
        self.open.values().map(|open| open.begun.saturating_add(every)).min()
    }

    async fn tick(&mut self) -> Result<()> {
        self.end_old().await
    }

    async fn finish(&mut self) -> Result<()> {
        self.end_all().await
    }
}
