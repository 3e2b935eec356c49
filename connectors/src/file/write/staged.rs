//! One file that is whole at its end only, over many epochs: rows are staged, and the file is made of them when the job ends.

use std::path::PathBuf;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Epochs, Outcome, Receipt, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::env::{Env, points};
use bourn_engine::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::Files;
use super::out::{Recipe, keep_names};
use crate::staging::{self, Segment};

/// Rows of each epoch in a file of their own, in a folder of the job.
pub struct Staged {
    recipe: Recipe,
    own: Segments,
    /// Those of lanes that are no more.
    others: Vec<Segments>,
    open: Option<Segment>,
    /// How large a segment grows, about, in bytes.
    segment_max: u64,
}

/// The receipt of an epoch: which segments there are, and the file that is to be made of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Segments {
    path: PathBuf,
    /// The folder and the beginning of their names.
    at: PathBuf,
    count: u64,
}

impl Segments {
    fn place(&self, number: u64) -> PathBuf {
        let mut name = self.at.as_os_str().to_owned();
        name.push(format!("-{number:08}.arrows"));
        name.into()
    }

    /// Removes those behind the last one that counts.
    fn remove_left(&self, env: &Env) -> Result<()> {
        for place in env.glob(&format!("{}-*.arrows", glob::Pattern::escape(&self.at.to_string_lossy())))? {
            let stem = place.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let number = stem.rsplit('-').next().and_then(|n| n.parse::<u64>().ok());
            if number.is_none_or(|n| n >= self.count) {
                env.files().remove(&place)?;
            }
        }
        Ok(())
    }
}

impl Staged {
    /// The file of one lane of a sink.
    ///
    /// # Errors
    /// When what an earlier run has left can't be read or removed.
    pub fn new(
        recipe: Recipe,
        path: PathBuf,
        (id, lane, lanes): (&str, usize, usize),
        epochs: &Epochs,
        segment_max: u64,
    ) -> Result<Self> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
        let id: String = id.chars().map(plain).collect();
        let (mut own, mut others) =
            (Segments { path, at: epochs.folder.join(format!("{id}-{lane}")), count: 0 }, Vec::new());
        for (of, receipt) in &epochs.receipts {
            let segments: Segments = receipt.read()?;
            if *of == lane {
                own.count = segments.count;
            } else if of % lanes == lane {
                others.push(segments);
            }
        }
        own.remove_left(&recipe.env)?;
        Ok(Self { recipe, own, others, open: None, segment_max })
    }
}

impl Staged {
    async fn seal(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            open.seal(&self.recipe.env).await?;
            self.own.count += 1;
        }
        Ok(())
    }
}

/// Makes the file of its segments, and removes them.
async fn assemble(recipe: &Recipe, segments: &Segments) -> Result<()> {
    let env = &recipe.env;
    let mut staged = Vec::new();
    for number in 0..segments.count {
        match staging::open(env, &segments.place(number)) {
            Ok(rows) => staged.push((segments.place(number), rows)),
            // An earlier run has made the file, and was cut off while it removed these, the first one first.
            Err(e) if number == 0 && e.kind() == Kind::NotFound && env.files().identify(&segments.path)?.is_some() => {
                return remove(env, segments);
            }
            Err(e) => return Err(e.context("what was staged")),
        }
    }
    let mut out = recipe.open_beside(segments.path.clone())?;
    for (place, staged) in staged {
        for rows in staged {
            out.write(&rows.map_err(|e| Error::from(e).context(place.display()).context("what was staged"))?)?;
        }
    }
    out.finish().await?;
    keep_names(env, [segments.path.clone()]).await?;
    env.reached(points::ASSEMBLED);
    remove(env, segments)
}

fn remove(env: &Env, segments: &Segments) -> Result<()> {
    for number in 0..segments.count {
        match env.files().remove(&segments.place(number)) {
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

impl Files for Staged {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        if self.open.is_none() {
            let place = self.own.place(self.own.count);
            self.open = Some(Segment::create(&self.recipe.env, place, &self.recipe.schema)?);
        }
        if let Some(open) = &mut self.open {
            open.append(rows)?;
            if open.bytes() >= self.segment_max {
                self.seal().await?;
            }
        }
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        self.seal().await?;
        Receipt::of(&self.own).map(Some)
    }

    async fn commit(&mut self, _: &Receipt) -> Result<Outcome> {
        // What is committed is what the newest receipt counts.
        Ok(Outcome::Committed)
    }

    async fn finish(&mut self) -> Result<()> {
        let Self { recipe, own, others, .. } = self;
        for segments in std::iter::once(&*own).chain(&*others) {
            assemble(recipe, segments).await?;
        }
        Ok(())
    }
}
