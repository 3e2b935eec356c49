//! Files that are watched: what they said when a command read them, and whether they say something else since.
#![expect(clippy::disallowed_methods, reason = "files of the user's project are looked at here, beside any job")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, sleep};
use std::time::Duration;

use bourn_engine::Error;
use futures::StreamExt as _;
use futures::channel::mpsc;
use futures::future::pending;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _, recommended_watcher};

use crate::failure::Failure;
use crate::given::SPEC_MAX;

/// Changes come in flocks: an editor writes, renames, sets times. They are looked at so long after the first.
const SETTLES: Duration = Duration::from_millis(50);

/// What a command reads.
#[derive(Default)]
pub struct Watched {
    /// Files, which need not be there yet.
    pub files: Vec<PathBuf>,
    /// Folders in which others may appear.
    pub folders: Vec<PathBuf>,
}

/// Watches what `find` finds, which is asked again after each change.
pub struct Watch<F> {
    find: F,
    watcher: RecommendedWatcher,
    /// Folders, not files: an editor puts a new file in the place of the old one.
    folders: BTreeSet<PathBuf>,
    seen: BTreeMap<PathBuf, u64>,
    changes: mpsc::Receiver<()>,
}

impl<F: Fn() -> Result<Watched, Failure>> Watch<F> {
    /// Begins to watch. Whatever is read later than this and changes after that is told by [`Watch::changed`].
    ///
    /// # Errors
    /// When a folder is not there, or the system can't watch so many.
    pub fn begin(find: F) -> Result<Self, Failure> {
        let (tell, told) = sync_channel(1);
        let (settled, changes) = mpsc::channel(0);
        let watcher = recommended_watcher(move |event: notify::Result<notify::Event>| {
            // After an error nobody knows what has changed. One wish to look is enough, so a full channel is as good.
            if event.as_ref().map_or(true, is_change) {
                let _there = tell.try_send(());
            }
        });
        let watcher = watcher.map_err(|e| Failure::Failed(Error::engine(format!("--watch: {e}"))))?;
        let settle = move || {
            let mut settled = settled;
            while told.recv().is_ok() && !settled.is_closed() {
                sleep(SETTLES);
                while told.try_recv().is_ok() {}
                let _there = settled.try_send(());
            }
        };
        Builder::new().name("bourn-watch".into()).spawn(settle).map_err(|e| Failure::Failed(e.into()))?;
        let mut watch = Self { find, watcher, folders: BTreeSet::new(), seen: BTreeMap::new(), changes };
        watch.seen = watch.look()?;
        Ok(watch)
    }

    /// Waits until a file says something else than it did, or there is a new one; returns its name. One that is gone is
    /// waited for: an editor may be about to put the next in its place.
    pub async fn changed(&mut self) -> String {
        while self.changes.next().await.is_some() {
            // What can't be looked at now is looked at after the next change.
            let Ok(now) = self.look() else { continue };
            if let Some((path, _)) = now.iter().find(|(path, says)| self.seen.get(*path) != Some(*says)) {
                return path.display().to_string();
            }
        }
        pending().await
    }

    /// What all files say, as far as they are there. New folders are watched before it is looked into them.
    fn look(&mut self) -> Result<BTreeMap<PathBuf, u64>, Failure> {
        loop {
            let found = (self.find)()?;
            let mut is_new = false;
            for folder in found.files.iter().flat_map(|file| folders_of(file)).chain(found.folders) {
                if self.folders.contains(&folder) {
                    continue;
                }
                self.watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|e| {
                    let e = notify::Error { paths: Vec::new(), ..e };
                    Failure::invalid(format!("{}: can't be watched: {e}", folder.display()))
                })?;
                is_new = self.folders.insert(folder);
            }
            if !is_new {
                let says = |path: PathBuf| Some((contents(&path)?, path));
                return Ok(found.files.into_iter().filter_map(says).map(|(says, path)| (path, says)).collect());
            }
        }
    }
}

/// Whether something was changed: reading, which is what we do ourselves, is an event as well.
fn is_change(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// The folder in which a file is replaced, and, for a link, the one in which what it leads to is.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(folder) if folder == Path::new("") => PathBuf::from("."),
        Some(folder) => folder.to_owned(),
        None => path.to_owned(),
    };
    let (named, real) = (parent(file), file.canonicalize().ok().map(|file| parent(&file)));
    let is_elsewhere = |real: &PathBuf| named.canonicalize().ok().as_ref() != Some(real);
    let real = real.filter(is_elsewhere);
    [named].into_iter().chain(real).collect()
}

/// What a file says, as a number; nothing when it is not there.
fn contents(path: &Path) -> Option<u64> {
    let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|about| about.is_file()))?;
    let mut text = Hashed(DefaultHasher::new());
    io::copy(&mut file.take(SPEC_MAX), &mut text).ok()?;
    Some(text.0.finish())
}

struct Hashed(DefaultHasher);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
