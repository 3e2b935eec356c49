//! For each promise a store that breaks it, and is caught.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::api::Lock;
use crate::error::Error;
use crate::testing::conformance::each_is_caught;

/// A store in memory that breaks one promise, or none.
#[derive(Clone, Default)]
struct Breaking {
    promise: &'static str,
    contents: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    locked: Arc<AtomicBool>,
}

struct Held(Arc<AtomicBool>);

impl Lock for Held {
    fn release(self: Box<Self>) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Store for Breaking {
    fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut contents = self.contents.lock().unwrap();
        let kept = if self.promise == PUTS { &content[..content.len().min(1 << 20)] } else { content };
        if self.promise != REPLACES || contents.get(name).is_none_or(|c| c != b"x") {
            contents.insert(name.to_owned(), kept.to_vec());
        }
        Ok(())
    }

    fn complete(&self, name: &str, content: &[u8]) -> Result<()> {
        if self.promise == COMPLETES && self.contents.lock().unwrap().contains_key(name) {
            return Err(Error::unsupported("it is there already"));
        }
        self.put(name, content)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let gone = || Error::new(Kind::NotFound, "there is none");
        self.contents.lock().unwrap().get(name).cloned().ok_or_else(gone)
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<_> = self.contents.lock().unwrap().keys().cloned().collect();
        if self.promise == NAMES {
            names.reverse();
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<()> {
        match self.contents.lock().unwrap().remove(name) {
            None if self.promise == ABSENT => Err(Error::new(Kind::NotFound, "there is none")),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> Result<Option<Box<dyn Lock>>> {
        let taken = self.locked.swap(true, Ordering::SeqCst) && self.promise != LOCKS;
        Ok((!taken).then(|| Box::new(Held(self.locked.clone())) as Box<dyn Lock>))
    }

    fn place(&self) -> String {
        "memory".into()
    }
}

fn checked(promise: &'static str) -> Check {
    let place = Breaking { promise, ..Breaking::default() };
    store(move || Arc::new(place.clone())).verify()
}

#[test]
fn every_promise_of_a_store_is_tested() {
    assert_eq!(checked("none"), Ok(()));
    let caught: Vec<_> = PROMISES.iter().map(|promise| (*promise, checked(promise))).collect();
    each_is_caught(PROMISES, &caught);
}
