//! Which dead letters are settled: what was replayed or discarded, in a file beside the checkpoints of a job. The letters
//! themselves stay where their sink has put them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::checksum;
use crate::api::store::plain;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::time::Timestamp;

/// What was done with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// A replay of them was begun. Without an end behind it, it was cut off, and some of their rows may have been written.
    Begun,
    /// Their replay was committed.
    Replayed,
    /// Nobody wants them any more.
    Discarded,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub time: Timestamp,
    /// What.
    pub done: Done,
    /// With which letters.
    pub ids: Vec<String>,
}

/// The file of a job. Each line is a checksum and an [`Entry`] as JSON; lines are added and never changed.
#[derive(Clone, Debug)]
pub struct Settled {
    env: Env,
    path: PathBuf,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The last that was done with each letter.
    pub letters: BTreeMap<String, (Done, Timestamp)>,
    /// How many bytes of the file are whole lines.
    length: u64,
    /// Whether there is a file.
    exists: bool,
}

impl Known {
    /// Whether a letter was replayed or discarded.
    pub fn is_settled(&self, id: &str) -> bool {
        self.letters.get(id).is_some_and(|(done, _)| *done != Done::Begun)
    }

    /// Whether a replay of a letter was begun and did not come to its end.
    pub fn is_in_doubt(&self, id: &str) -> bool {
        self.letters.get(id).is_some_and(|(done, _)| *done == Done::Begun)
    }
}

impl Settled {
    /// The file of a job, whose checkpoints are below `base`.
    pub fn new(env: Env, base: &Path, job: &str) -> Self {
        Self { env, path: base.join(format!("{}.letters", plain(job))) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps others from settling letters as long as what is returned lives; none when another is at work.
    ///
    /// # Errors
    /// What the disk says.
    pub fn lock(&self) -> Result<Option<Box<dyn Send + Sync>>> {
        self.env.files().lock(&self.path.with_extension("letters.lock"))
    }

    /// Reads the file. A last line that was torn by a crash does not count.
    ///
    /// # Errors
    /// What the disk says, and when a line before the last is not what was written.
    pub fn read(&self) -> Result<Known> {
        let file = match self.env.files().open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == Kind::NotFound => return Ok(Known::default()),
            Err(e) => return Err(e),
        };
        let content = file.content().map_err(|e| Error::from(e).context(self.path.display()))?;
        let mut known = Known { exists: true, ..Known::default() };
        let mut lines = content.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            match entry(line) {
                Some(Entry { time, done, ids }) => {
                    known.letters.extend(ids.into_iter().map(|id| (id, (done, time))));
                    known.length += line.len() as u64;
                }
                None if lines.peek().is_none() => break,
                None => {
                    let place = format!("{}:{}", self.path.display(), number + 1);
                    let message = format!(
                        "{place}: damaged: its checksum is another; without this line, the letters that it settles are open again"
                    );
                    return Err(Error::new(Kind::Io, message));
                }
            }
        }
        Ok(known)
    }

    /// Adds a line, which is on the disk when this returns. Whoever calls it holds the lock.
    ///
    /// # Errors
    /// What the disk says. The line may be there or not.
    pub fn add(&self, done: Done, ids: Vec<String>) -> Result<()> {
        let known = self.read()?;
        let files = self.env.files();
        let mut file = if known.exists { files.reopen(&self.path, known.length)? } else { files.create(&self.path)? };
        let entry = serde_json::to_string(&Entry { time: self.env.wall(), done, ids })?;
        let line = format!("{} {entry}\n", checksum(entry.as_bytes()));
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync());
        written.map_err(|e| Error::from(e).context(self.path.display()))?;
        // Its folders may have been made for it.
        self.path.ancestors().skip(1).take(3).try_for_each(|folder| files.sync_folder(folder))
    }
}

/// The entry of a whole line.
fn entry(line: &[u8]) -> Option<Entry> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (check, entry) = text.split_once(' ')?;
    (checksum(entry.as_bytes()) == check).then(|| serde_json::from_str(entry).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::simulation::Simulation;
    use crate::testing::simulation::files::Fault;

    fn of(simulation: &Simulation) -> Settled {
        Settled::new(simulation.env(), Path::new("c"), "a job")
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_last_that_was_done_with_a_letter_counts() {
        let simulation = Simulation::new(1);
        let settled = of(&simulation);
        assert_eq!(settled.read().unwrap(), Known::default());
        settled.add(Done::Begun, ids(&["a", "b", "c"])).unwrap();
        settled.add(Done::Replayed, ids(&["a"])).unwrap();
        settled.add(Done::Discarded, ids(&["d"])).unwrap();
        let known = settled.read().unwrap();
        let all = ["a", "b", "d", "e"].map(|id| (known.is_settled(id), known.is_in_doubt(id)));
        assert_eq!(all, [(true, false), (false, true), (true, false), (false, false)]);
    }

    #[test]
    fn whichever_call_of_the_disk_fails_what_was_settled_before_stays_so() {
        let before = |simulation: &Simulation| {
            of(simulation).add(Done::Replayed, ids(&["a"])).unwrap();
            simulation.files().calls()
        };
        let calls = {
            let simulation = Simulation::new(1);
            let before = before(&simulation);
            of(&simulation).add(Done::Replayed, ids(&["b"])).unwrap();
            simulation.files().calls() - before
        };
        for call in 1..=calls {
            for fault in [Fault::Io, Fault::Full, Fault::Short] {
                let simulation = Simulation::new(1);
                let before = before(&simulation);
                simulation.files().fail(before + call, fault);
                let added = of(&simulation).add(Done::Replayed, ids(&["b"]));
                let known = of(&simulation).read().unwrap();
                assert!(known.is_settled("a"), "{call} {fault:?}");
                assert!(added.is_err() || known.is_settled("b"), "{call} {fault:?}");
                // What was torn is cut off by the next line.
                of(&simulation).add(Done::Discarded, ids(&["c"])).unwrap();
                let known = of(&simulation).read().unwrap();
                assert!(known.is_settled("a") && known.is_settled("c"), "{call} {fault:?}");
            }
        }
    }

    #[test]
    fn one_at_a_time_settles_letters_of_a_job() {
        let simulation = Simulation::new(1);
        let settled = of(&simulation);
        assert_eq!(settled.path(), Path::new("c/a_job.letters"));
        let held = settled.lock().unwrap();
        let other = Settled::new(simulation.env(), Path::new("c"), "other");
        assert!(held.is_some() && settled.lock().unwrap().is_none() && other.lock().unwrap().is_some());
        drop(held);
        assert!(settled.lock().unwrap().is_some());
    }

    #[test]
    fn a_file_that_cannot_be_read_now_is_not_taken_for_none() {
        let simulation = Simulation::new(1);
        let settled = of(&simulation);
        settled.add(Done::Replayed, ids(&["a"])).unwrap();
        simulation.files().fail(simulation.files().calls() + 1, Fault::Io);
        assert_eq!(settled.read().unwrap_err().kind(), Kind::Io);
    }

    #[test]
    fn what_was_settled_is_there_when_the_host_comes_up_again() {
        let simulation = Simulation::new(1);
        let settled = of(&simulation);
        settled.add(Done::Replayed, ids(&["a"])).unwrap();
        simulation.files().crash(|| false);
        assert!(settled.read().unwrap().is_settled("a"));
        settled.add(Done::Discarded, ids(&["b"])).unwrap();
        simulation.files().crash(|| false);
        assert!(settled.read().unwrap().is_settled("b"));
    }

    #[test]
    fn a_torn_line_does_not_count_and_a_damaged_one_is_told() {
        let simulation = Simulation::new(1);
        let settled = of(&simulation);
        settled.add(Done::Replayed, ids(&["a"])).unwrap();
        settled.add(Done::Replayed, ids(&["b"])).unwrap();
        let text = String::from_utf8(simulation.files().get("c/a_job.letters").unwrap()).unwrap();
        simulation.files().put("c/a_job.letters", &text[..text.len() - 3]);
        let known = settled.read().unwrap();
        assert!(known.is_settled("a") && !known.is_settled("b"));
        simulation.files().put("c/a_job.letters", text.replacen("\"a\"", "\"A\"", 1));
        let error = settled.read().unwrap_err();
        assert!(error.message().contains("a_job.letters:1: damaged"), "{error}");
    }
}
