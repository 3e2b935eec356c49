//! Which letters are meant.

use bourn_engine::checkpoint::settled::Known;
use bourn_engine::data::letter::Letter;
use bourn_engine::time::Timestamp;
use bourn_engine::{Error, Kind};

use super::args::Which;
use super::office::Office;
use crate::failure::Failure;
use crate::screen::Screen;

/// The shortest beginning of an id that is taken for one.
const BEGINNING: usize = 4;
/// How much of rows may be chosen at once, in bytes: they are held in memory.
const BYTES_MAX: usize = 512 << 20;

/// Whether letters are settled ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// Those that are neither replayed nor discarded.
    Open,
    /// All.
    All,
}

/// The letters that are chosen, in the order in which they are read.
pub struct Chosen {
    /// They themselves.
    pub letters: Vec<Letter>,
    /// Whether all letters could be read.
    pub is_whole: bool,
    /// What is settled.
    pub known: Known,
}

/// Whether a letter is what `which` says.
pub fn is_meant(which: &Which, letter: &Letter, now: Timestamp) -> bool {
    (which.stage.is_empty() || which.stage.contains(&letter.stage))
        && which.kind.as_ref().is_none_or(|kind| *kind == letter.kind)
        && which.reason.as_ref().is_none_or(|part| letter.reason.contains(part))
        && which.since.is_none_or(|since| letter.time >= since.at(now))
        && which.until.is_none_or(|until| letter.time < until.at(now))
}

/// Reads the letters with these ids, or all, that are what `which` says.
///
/// # Errors
/// When they can't be read, an id is none, or they are too many.
pub async fn chosen(
    office: &Office<'_>,
    (ids, which): (&[String], &Which),
    among: Among,
    screen: &Screen,
) -> Result<Chosen, Failure> {
    let ids: Vec<String> = ids.iter().map(|id| id.to_lowercase()).collect();
    if let Some(short) = ids.iter().find(|id| id.len() < BEGINNING) {
        return Err(Failure::invalid(format!("`{short}` is too short for an id: {BEGINNING} digits are the least")));
    }
    let (known, now) = (office.known()?, office.engine.env().wall());
    let mut begins = vec![0; ids.len()];
    let (mut letters, mut bytes) = (Vec::new(), 0);
    let limit = which.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let is_whole = office
        .read(screen, |letter| {
            let mut is_named = false;
            for (id, count) in ids.iter().zip(&mut begins) {
                if letter.id.starts_with(id.as_str()) {
                    *count += 1;
                    is_named = true;
                }
            }
            let is_open = among == Among::All || !known.is_settled(&letter.id);
            let is_one = (ids.is_empty() || is_named) && is_open && is_meant(which, &letter, now);
            if is_one && letters.len() < limit && bytes < BYTES_MAX {
                bytes += letter.row.len();
                letters.push(letter);
            }
        })
        .await?;
    for (id, count) in ids.iter().zip(begins) {
        let message = match count {
            0 => format!("there is no dead letter `{id}`; `bourn dlq show` tells their ids"),
            1 => continue,
            _ => format!("{count} dead letters have an id that begins with `{id}`: say more of it"),
        };
        return Err(Failure::Failed(Error::new(Kind::NotFound, message)));
    }
    if bytes >= BYTES_MAX {
        let message = format!(
            "more than {} MiB of rows are chosen; take fewer at a time: `--limit {}`",
            BYTES_MAX >> 20,
            letters.len()
        );
        return Err(Failure::Failed(Error::new(Kind::Budget, message)));
    }
    if let Some(id) = ids.iter().find(|id| !letters.iter().any(|letter| letter.id.starts_with(id.as_str()))) {
        let why = "is replayed or discarded, or is not what else was said";
        return Err(Failure::Failed(Error::new(Kind::NotFound, format!("the dead letter `{id}` {why}"))));
    }
    Ok(Chosen { letters, is_whole, known })
}
