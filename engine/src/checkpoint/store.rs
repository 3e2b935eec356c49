//! Checkpoints in a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::Place;
pub use crate::api::store::{Lock, Store, plain};
use crate::env::{Env, points};
use crate::error::{Error, Kind, Result};

/// The store of a job.
///
/// # Errors
/// When what is said of it is at fault.
pub fn open(at: &Place, job: &str, env: &Env) -> Result<Arc<dyn Store>> {
    match at {
        Place::Folder(path) => Ok(Arc::new(Folder::new(env.clone(), path, job))),
        Place::Store(config) => config.open(Some(&plain(job)), env),
    }
}

/// A store in a folder.
#[derive(Clone)]
pub struct Folder {
    env: Env,
    path: PathBuf,
}

/// The ending of what is not whole yet.
const UNFINISHED: &str = "part";

impl Folder {
    /// The store of a job below `base`.
    pub fn new(env: Env, base: &Path, job: &str) -> Self {
        Self { env, path: base.join(plain(job)) }
    }

    /// The store that is this folder.
    pub fn at(env: Env, path: impl Into<PathBuf>) -> Self {
        Self { env, path: path.into() }
    }

    /// Gives a name this content, whatever others give it at the same time: the last one of them is what it has. `by` tells them apart.
    ///
    /// # Errors
    /// When the disk fails: then the name has what it had.
    pub(crate) fn put_by(&self, by: &str, name: &str, content: &[u8]) -> Result<()> {
        let by = &blake3::hash(by.as_bytes()).to_hex()[..16];
        self.replace(name, &format!("{name}.{by}.{UNFINISHED}"), content)
    }

    fn replace(&self, name: &str, unfinished: &str, content: &[u8]) -> Result<()> {
        let (path, unfinished) = (self.path.join(name), self.path.join(unfinished));
        let files = self.env.files();
        let mut file = files.create(&unfinished)?;
        let written = file.write_all(content).and_then(|()| file.sync());
        if let Err(e) = written {
            // A full disk gets its room back; what can't be removed now is overwritten by the next attempt.
            let _ = files.remove(&unfinished);
            return Err(Error::from(e).context(unfinished.display()));
        }
        drop(file);
        self.env.reached(points::CONTENT_WRITTEN);
        files.rename(&unfinished, &path)?;
        self.env.reached(points::CONTENT_NAMED);
        files.sync_folder(&self.path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A locked file, which is free when it is dropped or the process ends.
struct Locked(#[expect(dead_code, reason = "dropping it is what it is for")] Box<dyn Send + Sync>);

impl Lock for Locked {
    fn release(self: Box<Self>) {}
}

impl Store for Folder {
    fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        self.replace(name, &format!("{name}.{UNFINISHED}"), content)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        self.env.files().open(&path)?.content().map_err(|e| Error::from(e).context(path.display()))
    }

    fn names(&self) -> Result<Vec<String>> {
        let pattern = format!("{}/*", glob::Pattern::escape(&self.path.to_string_lossy()));
        let found = self.env.files().glob(&pattern)?;
        let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let is_whole = |name: &String| !name.ends_with(&format!(".{UNFINISHED}"));
        Ok(found.iter().filter_map(name).filter(is_whole).collect())
    }

    fn remove(&self, name: &str) -> Result<()> {
        match self.env.files().remove(&self.path.join(name)) {
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            other => other,
        }
    }

    fn tidy(&self) -> Result<()> {
        let pattern = format!("{}/*.{UNFINISHED}", glob::Pattern::escape(&self.path.to_string_lossy()));
        let left = self.env.files().glob(&pattern)?;
        left.iter().try_for_each(|path| self.env.files().remove(path))
    }

    fn lock(&self) -> Result<Option<Box<dyn Lock>>> {
        let locked = self.env.files().lock(&self.path.join("lock"))?;
        Ok(locked.map(|held| Box::new(Locked(held)) as Box<dyn Lock>))
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance;
    use crate::testing::simulation::Simulation;
    use crate::testing::simulation::files::Fault;

    #[test]
    fn a_name_has_its_old_or_its_new_content_whichever_call_fails() {
        let calls = {
            let simulation = Simulation::new(1);
            let store = Folder::new(simulation.env(), Path::new("c"), "a job");
            store.put("n", b"new").unwrap();
            simulation.files().calls()
        };
        for call in 1..=calls {
            for fault in [Fault::Io, Fault::Full, Fault::Short] {
                let simulation = Simulation::new(1);
                let store = Folder::new(simulation.env(), Path::new("c"), "a job");
                let before = {
                    simulation.files().put("c/a_job/n", "old");
                    simulation.files().calls()
                };
                simulation.files().fail(before + call, fault);
                let put = store.put("n", b"new");
                assert_eq!(store.names().unwrap(), ["n"]);
                let there = store.get("n").unwrap();
                assert!(there == b"old" || there == b"new", "{call} {fault:?}");
                assert!(put.is_err() || there == b"new", "{call} {fault:?}");
            }
        }
    }

    #[test]
    fn each_job_has_a_folder_of_its_own_below_the_one_that_was_asked_for() {
        let simulation = Simulation::new(1);
        let env = simulation.env();
        let store = open(&Place::Folder("c".into()), "a job", &env).unwrap();
        store.put("n", b"new").unwrap();
        let (same, other) = (Folder::at(env.clone(), "c/a_job"), Folder::new(env, Path::new("c"), "b"));
        assert_eq!(
            (same.get("n").unwrap(), same.path(), store.place()),
            (b"new".to_vec(), Path::new("c/a_job"), "c/a_job".into())
        );
        assert_eq!(other.names().unwrap(), [] as [&str; 0]);
    }

    #[test]
    fn what_is_not_whole_has_no_name_and_goes_when_a_run_begins() {
        let simulation = Simulation::new(1);
        let store = Folder::new(simulation.env(), Path::new("c"), "job");
        for path in ["c/job/n", "c/job/m.part", "c/other/m.part"] {
            simulation.files().put(path, "x");
        }
        assert_eq!(store.names().unwrap(), ["n"]);
        store.tidy().unwrap();
        assert_eq!(simulation.files().paths(), ["c/job/n", "c/other/m.part"].map(PathBuf::from));
    }

    #[test]
    fn a_name_that_cannot_be_removed_is_told_and_one_that_is_not_there_is_not() {
        let simulation = Simulation::new(1);
        let store = Folder::new(simulation.env(), Path::new("c"), "job");
        store.put("n", b"x").unwrap();
        simulation.files().fail(simulation.files().calls() + 1, Fault::Io);
        assert_eq!(store.remove("n").unwrap_err().kind(), Kind::Io);
        assert!(store.remove("n").is_ok() && store.remove("n").is_ok());
        assert_eq!(store.names().unwrap(), [] as [&str; 0]);
    }

    #[test]
    fn it_keeps_the_promises_of_a_store() {
        let simulation = Simulation::new(1);
        conformance::store(move || Arc::new(Folder::new(simulation.env(), Path::new("c"), "job"))).check();
    }

    #[test]
    fn a_lock_that_is_dropped_with_its_process_keeps_nobody_out() {
        let simulation = Simulation::new(1);
        let store = Folder::new(simulation.env(), Path::new("c"), "job");
        let held = store.lock().unwrap();
        assert!(held.is_some() && store.lock().unwrap().is_none());
        drop(held);
        assert!(store.lock().unwrap().is_some());
    }
}
