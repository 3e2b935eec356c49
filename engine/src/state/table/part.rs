//! A part of a table: the keys whose hashes begin with the same bits, in two layers at most.

use std::sync::Arc;

use super::data::{Data, NEW, REMOVED, UNSAVED, UNSPILLED};
use crate::error::Result;
use crate::state::Cells;

/// What changes is in `data`. Below it, while a snapshot is being written, is what it is written of.
#[derive(Debug)]
pub(super) struct Part<V> {
    /// How many bits its hashes have in common, and these bits, the others zero.
    pub(super) depth: u32,
    pub(super) prefix: u64,
    pub(super) data: Data<V>,
    pub(super) frozen: Option<Arc<Data<V>>>,
    width: Option<usize>,
}

impl<V: Cells> Part<V> {
    pub(super) fn new(width: Option<usize>) -> Self {
        Self { depth: 0, prefix: 0, data: Data::new(width), frozen: None, width }
    }

    /// Places that are taken in all layers.
    pub(super) fn taken(&self) -> usize {
        self.data.len() + self.frozen.as_ref().map_or(0, |f| f.len())
    }

    /// The value of a key, if it is there.
    pub(super) fn peek(&self, hash: u64, key: &[u8]) -> Option<V> {
        for layer in std::iter::once(&self.data).chain(self.frozen.as_deref()) {
            if let Some(at) = layer.find(hash, key) {
                return (!layer.is(at, REMOVED)).then(|| layer.values[at].clone());
            }
        }
        None
    }

    /// The place of a key in the layer that changes, and whether it is new.
    pub(super) fn place(&mut self, hash: u64, key: &[u8]) -> Result<(usize, bool)> {
        if let Some(at) = self.data.find(hash, key) {
            let is_new = self.data.is(at, REMOVED);
            if is_new {
                self.data.revive(at);
                self.data.values[at] = V::default();
                self.data.mark(at, UNSAVED | UNSPILLED);
            }
            return Ok((at, is_new));
        }
        let below = self.frozen.as_ref().and_then(|f| f.find(hash, key).map(|at| (f, at)));
        let (value, flags, is_new) = match below {
            Some((f, at)) if f.is(at, REMOVED) => (V::default(), UNSAVED | UNSPILLED, true),
            Some((f, at)) => (f.values[at].clone(), f.flags(at) & UNSPILLED, false),
            None => (V::default(), NEW, true),
        };
        Ok((self.data.add(hash, key, value, flags)?, is_new))
    }

    /// What it holds becomes the layer of a snapshot.
    pub(super) fn freeze(&mut self) -> Result<Arc<Data<V>>> {
        self.reclaim(true)?;
        let frozen = Arc::new(std::mem::replace(&mut self.data, Data::new(self.width)));
        self.frozen = Some(frozen.clone());
        Ok(frozen)
    }

    /// Makes one layer of two, if the snapshot that shares the other has been written, or a copy may be made. Places change.
    pub(super) fn reclaim(&mut self, copy: bool) -> Result<bool> {
        let Some(frozen) = self.frozen.take() else { return Ok(true) };
        let mut below = match Arc::try_unwrap(frozen) {
            Ok(data) => data,
            Err(shared) if copy => shared.as_ref().clone(),
            Err(shared) => {
                self.frozen = Some(shared);
                return Ok(false);
            }
        };
        below.saved();
        below.fold(&self.data)?;
        self.data = below;
        self.clean(4)?;
        Ok(true)
    }

    /// Gives the room of removed keys back when they are more than one in `share`. Places change.
    pub(super) fn clean(&mut self, share: usize) -> Result<()> {
        let removed = self.data.len() - self.data.live();
        if removed * share > self.data.len() && self.frozen.is_none() {
            self.data = self.data.part(self.data.live(), |data, at, _| !data.is_waste(at, false))?;
        }
        Ok(())
    }

    /// Two parts of one: the keys whose next bit is zero stay, the others leave.
    pub(super) fn split(&mut self) -> Result<Self> {
        let bit = 63 - self.depth;
        let half = self.data.live() / 2;
        let kept =
            |high: u64| move |data: &Data<V>, at, hash: u64| hash >> bit & 1 == high && !data.is_waste(at, false);
        let (low, high) = (self.data.part(half, kept(0))?, self.data.part(half, kept(1))?);
        self.depth += 1;
        self.data = low;
        Ok(Self { data: high, prefix: self.prefix | 1 << bit, depth: self.depth, frozen: None, width: self.width })
    }
}
