//! The promises of a store for checkpoints.

#[cfg(test)]
mod broken;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Broken, Check, NO_PANIC, message, must_hold, require};
use crate::api::Store;
use crate::error::{Kind, Result};

/// What is put is there.
pub const PUTS: &str = "what was put under a name is got from it, whole and of any size, also by another process";
/// One content a name.
pub const REPLACES: &str = "what is put under a name again is in place of what was there";
/// Names.
pub const NAMES: &str = "names are those that were put and not removed, sorted, each once";
/// What is not there.
pub const ABSENT: &str = "a name that is not there is told as such, and to remove it is no error";
/// Completing.
pub const COMPLETES: &str = "whoever has the lock completes a checkpoint: twice is once, and what was there makes way";
/// Keeping out.
pub const LOCKS: &str = "a second job is kept out until the first lets it in";

/// What [`Suite::check`] tests beside [`super::NO_PANIC`].
pub const PROMISES: &[&str] = &[PUTS, REPLACES, NAMES, ABSENT, COMPLETES, LOCKS];

/// The suite for a store. `open` opens the same empty place each time, as another process would. It is run on a thread that
/// may block.
///
/// ```
/// use bourn_engine::checkpoint::Folder;
/// use bourn_engine::testing::{conformance, simulation::Simulation};
/// use std::sync::Arc;
/// let simulation = Simulation::new(1);
/// conformance::store(move || Arc::new(Folder::at(simulation.env(), "checkpoints/job"))).check();
/// ```
pub fn store(open: impl Fn() -> Arc<dyn Store> + 'static) -> Suite {
    Suite { open: Box::new(open) }
}

/// See [`store()`].
pub struct Suite {
    open: Box<dyn Fn() -> Arc<dyn Store>>,
}

impl Suite {
    /// Tests every promise.
    ///
    /// # Panics
    /// With the first promise that is broken.
    pub fn check(&self) {
        must_hold("store", self.verify());
    }

    /// As [`Suite::check`].
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn verify(&self) -> Check {
        let all = AssertUnwindSafe(|| self.all());
        catch_unwind(all).unwrap_or_else(|panic| Err(Broken::new(NO_PANIC, message(&*panic))))
    }

    fn all(&self) -> Check {
        let store = (self.open)();
        self.locks(&*store)?;
        let lock = done(store.lock(), LOCKS)?;
        done(store.tidy(), PUTS)?;
        let kept = self.puts(&*store).and_then(|()| names(&*store)).and_then(|()| self.completes(&*store));
        if let Some(lock) = lock {
            lock.release();
        }
        kept
    }

    fn puts(&self, store: &dyn Store) -> Check {
        // One of them is larger than what anybody sends at once.
        let large: Vec<u8> = (0..(17_u32 << 20) + 3).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        for content in [b"".as_slice(), b"x", &large] {
            done(store.put("a-content.arrow", content), PUTS)?;
            for store in [store, &*(self.open)()] {
                let found = done(store.get("a-content.arrow"), PUTS)?;
                let told = || format!("{} bytes were put, and {} others are got", content.len(), found.len());
                require(found == content, if found == b"x" { REPLACES } else { PUTS }, told)?;
            }
        }
        done(store.put("a-content.arrow", b"less"), PUTS)?;
        let found = done(store.get("a-content.arrow"), REPLACES)?;
        require(found == b"less", REPLACES, || format!("{} bytes", found.len()))
    }

    fn completes(&self, store: &dyn Store) -> Check {
        let name = "0000000007.json";
        for content in [b"one".as_slice(), b"one", b"another"] {
            done(store.complete(name, content), COMPLETES)?;
            let found = done((self.open)().get(name), COMPLETES)?;
            require(found == content, COMPLETES, || format!("{found:?} in place of {content:?}"))?;
        }
        // What an earlier run has left there.
        done(store.put(name, b"left"), PUTS)?;
        done(store.get(name), PUTS)?;
        done(store.complete(name, b"new"), COMPLETES)?;
        let found = done(store.get(name), COMPLETES)?;
        require(found == b"new", COMPLETES, || format!("{found:?}"))
    }

    fn locks(&self, store: &dyn Store) -> Check {
        let first = done(store.lock(), LOCKS)?;
        let Some(first) = first else { return Err(Broken::new(LOCKS, "nobody is in, and the first is kept out")) };
        let second = done((self.open)().lock(), LOCKS)?;
        require(second.is_none(), LOCKS, || "two are in".into())?;
        first.release();
        let Some(second) = done((self.open)().lock(), LOCKS)? else {
            return Err(Broken::new(LOCKS, "nobody is in any more, and the next is kept out"));
        };
        second.release();
        Ok(())
    }
}

fn names(store: &dyn Store) -> Check {
    for name in ["0000000010.json", "0000000009.json", "a-content.arrow", "0000000009.settled"] {
        done(store.put(name, b"x"), PUTS)?;
    }
    done(store.put("gone", b"x"), PUTS)?;
    done(store.remove("gone"), ABSENT)?;
    done(store.remove("gone"), ABSENT)?;
    done(store.remove("never"), ABSENT)?;
    match store.get("gone") {
        Err(e) if e.kind() == Kind::NotFound => {}
        other => return Err(Broken::new(ABSENT, format!("{:?}", other.map(|c| c.len())))),
    }
    // The lock may have a name.
    let found: Vec<String> = done(store.names(), NAMES)?.into_iter().filter(|n| n != "lock").collect();
    let wanted = ["0000000009.json", "0000000009.settled", "0000000010.json", "a-content.arrow"];
    require(found == wanted, NAMES, || format!("{found:?}"))
}

fn done<T>(result: Result<T>, promise: &'static str) -> Check<T> {
    result.map_err(|e| Broken::new(promise, e))
}
