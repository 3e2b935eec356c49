//! Many files: the next by rows, size or time, and one for each value of some columns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Rejected, Written};
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::diagnostic::Problem;
use bourn_engine::{Error, Result};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::out::{Out, Recipe};
use super::partition::Partition;
use super::{Files, NUMBER};
use crate::codec::compression::Packing;
use crate::file::File;

/// How many files of a lane are open at once, as a rule. Beyond it the one that was written to longest ago is ended.
pub const OPEN_MAX: usize = 64;
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
}

/// Where the files of a lane are.
pub struct Place {
    /// The path with the place of the number, or the folder.
    pub path: String,
    /// Which lane.
    pub lane: usize,
    /// How many files are open at once; beyond it the one that was written to longest ago is ended.
    pub open_max: usize,
}

struct Open {
    out: Out,
    begun: Duration,
}

impl Spread {
    /// Files of one lane, at its path or in the folders below it.
    pub fn new(recipe: Recipe, place: Place, rotate: Rotate, partition: Option<Partition>) -> Self {
        Self { recipe, place, rotate, partition, open: IndexMap::new(), number: 0 }
    }

    /// The place of the next file of a folder.
    fn next_path(&mut self, folder: &str) -> PathBuf {
        let number = format!("{:05}", self.number);
        self.number += 1;
        if self.partition.is_none() {
            return self.place.path.replace(NUMBER, &number).into();
        }
        let packed = match self.recipe.packing {
            Some(Packing::Gzip) => ".gz",
            Some(Packing::Zstd) => ".zst",
            None => "",
        };
        let name = format!("part-{}-{number}.{}{packed}", self.place.lane, self.recipe.format.ending());
        Path::new(&self.place.path).join(folder).join(name)
    }

    async fn write_to(&mut self, folder: &str, mut rows: RecordBatch) -> Result<()> {
        let now = self.recipe.env.monotonic();
        while rows.num_rows() > 0 {
            let index = if let Some(index) = self.open.get_index_of(folder) {
                index
            } else {
                if self.open.len() >= self.place.open_max
                    && let Some((_, mut longest_ago)) = self.open.shift_remove_index(0)
                {
                    longest_ago.out.finish().await?;
                }
                let path = self.next_path(folder);
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
                && let Some((_, mut full)) = self.open.shift_remove_index(last)
            {
                full.out.finish().await?;
            }
        }
        Ok(())
    }

    /// Ends the files that were begun too long ago.
    async fn end_old(&mut self) -> Result<()> {
        let now = self.recipe.env.monotonic();
        while let Some(mut old) = self.take_old(now) {
            old.out.finish().await?;
        }
        Ok(())
    }

    fn take_old(&mut self, now: Duration) -> Option<Open> {
        let Interval(every) = self.rotate.every?;
        let index = self.open.values().position(|open| now.saturating_sub(open.begun) >= every)?;
        self.open.shift_remove_index(index).map(|(_, old)| old)
    }

    async fn end_all(&mut self) -> Result<()> {
        while let Some((_, mut open)) = self.open.shift_remove_index(0) {
            open.out.finish().await?;
        }
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

    async fn prepare(&mut self) -> Result<()> {
        self.end_all().await
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
