//! How a job begins: anew or behind a checkpoint, and what becomes of what is kept there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::keeper::Keeper;
use super::manifest::{self, Manifest};
use super::recovery::{Begin, Found, Recovered, Resume, find, is_broken};
use super::store::Store;
use crate::data::message::Epoch;
use crate::error::{Error, Kind, Result};
use crate::time::Timestamp;

/// A source, stage or sink of the job that begins.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its kind.
    pub kind: String,
    /// How many lanes it has.
    pub lanes: usize,
    /// A hash of its configuration.
    pub config: String,
}

/// Where a job goes on, and what became of what was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The epoch.
    pub epoch: Epoch,
    /// When its checkpoint was complete.
    pub written: Timestamp,
    /// What is not as it was, by the id of the source, stage or sink.
    pub changes: BTreeMap<String, Change>,
    /// Checkpoints that would have been newer and can't be read, with the reason.
    pub unreadable: Vec<(Epoch, String)>,
}

/// What became of a source, stage or sink since the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new, and begins with nothing.
    New,
    /// It is gone, and had nothing that counts.
    Gone,
    /// What it had is dropped, as was asked for.
    Dropped,
    /// Its configuration is another; what it had is kept.
    Changed,
    /// It has another number of lanes; what it had is spread over them.
    Lanes(usize, usize),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("is new and begins with nothing"),
            Self::Gone => f.write_str("is gone from the spec"),
            Self::Dropped => f.write_str("begins anew: what it had is dropped"),
            Self::Changed => f.write_str("has another configuration; what it had is kept"),
            Self::Lanes(before, now) => write!(f, "goes from {before} lanes to {now}; what it had is spread over them"),
        }
    }
}

/// What a job begins with.
pub struct Beginning {
    /// Writes its checkpoints.
    pub keeper: Keeper,
    /// What it goes on from.
    pub recovered: Option<(Arc<Recovered>, Resumed)>,
    /// Which run it is.
    pub run: String,
}

/// Decides where a job begins. `new_run` is the name of its run, should it begin anew.
///
/// # Errors
/// When another job is in, no readable checkpoint fits what was asked for, or something that was kept has no place in the job.
pub fn begin(
    store: Arc<dyn Store>,
    job: &str,
    resume: &Resume,
    (planned, keep): (&BTreeMap<String, Planned>, usize),
    new_run: String,
) -> Result<Beginning> {
    let place = store.place();
    let Some(lock) = store.lock()? else {
        let message = format!(
            "{place}: another run of the job `{job}` is at work here; give one of them another `name`, or another `path` under `checkpoint`"
        );
        return Err(Error::new(Kind::Io, message));
    };
    match begin_locked(&store, job, resume, (planned, keep), new_run) {
        Ok(begun) => Ok(Beginning { keeper: begun.keeper.locked(lock), ..begun }),
        Err(e) => {
            lock.release();
            Err(e)
        }
    }
}

/// The same for whoever has the lock.
fn begin_locked(
    store: &Arc<dyn Store>,
    job: &str,
    resume: &Resume,
    (planned, keep): (&BTreeMap<String, Planned>, usize),
    new_run: String,
) -> Result<Beginning> {
    store.tidy()?;
    let found = find(&**store)?;
    let mut broken_parts = Vec::new();
    let chosen = choose(store, &found, &resume.begin, &mut broken_parts)?;
    let Found { complete, others, unreadable, settled } = found;
    let broken = unreadable.iter().map(|(epoch, _)| manifest::name(*epoch)).collect::<Vec<_>>();
    let left = |gone: &[Manifest]| -> Vec<String> {
        let parts = gone.iter().flat_map(|m| m.parts.iter().map(|p| p.name.clone()));
        let others = others.iter().filter(|n| *n != "lock").cloned();
        others.chain(broken.iter().cloned()).chain(parts).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let Some(mut recovered) = chosen else {
        forget(&**store, &complete, settled.into_iter())?;
        let kept = (Vec::new(), left(&complete));
        let keeper = Keeper::new(store.clone(), (job.to_owned(), new_run.clone(), new_run.clone()), keep, kept);
        return Ok(Beginning { keeper, recovered: None, run: new_run });
    };
    let epoch = recovered.manifest.epoch;
    let changes = compare(&mut recovered, planned, &resume.drop_state)?;
    let run = recovered.manifest.run.clone();
    let (stay, gone): (Vec<_>, Vec<_>) = complete.into_iter().partition(|m| m.epoch <= epoch && m.run == run);
    forget(&**store, &gone, settled.into_iter().filter(|of| *of > epoch))?;
    let needs = |m: &Manifest| (m.epoch, m.parts.iter().map(|p| p.name.clone()).collect());
    let kept = (stay.iter().map(needs).collect(), left(&gone));
    let keeper = Keeper::new(store.clone(), (job.to_owned(), run.clone(), new_run), keep, kept);
    let unreadable = unreadable.into_iter().filter(|(of, _)| *of > epoch).map(|(of, e)| (of, e.message().to_owned()));
    let unreadable = unreadable.chain(broken_parts).collect();
    let resumed = Resumed { epoch, written: recovered.manifest.written, changes, unreadable };
    Ok(Beginning { keeper, recovered: Some((Arc::new(recovered), resumed)), run })
}

/// Removes checkpoints that this beginning has decided against, before there is a new one: whoever starts after a crash in
/// between must decide the same. The newest goes last, so that no older one is ever taken for the newest, and what says that
/// it was settled goes before it, so that no new checkpoint of its number is taken for settled.
fn forget(store: &dyn Store, gone: &[Manifest], settled: impl Iterator<Item = Epoch>) -> Result<()> {
    let newest = gone.last().map(|m| m.epoch);
    let (last, others): (Vec<Epoch>, Vec<Epoch>) = settled.partition(|epoch| Some(*epoch) == newest);
    others.iter().try_for_each(|epoch| store.remove(&manifest::settled_name(*epoch)))?;
    for m in gone {
        if Some(m.epoch) == newest {
            last.iter().try_for_each(|epoch| store.remove(&manifest::settled_name(*epoch)))?;
        }
        store.remove(&manifest::name(m.epoch))?;
    }
    Ok(())
}

/// The checkpoint to go on from; none for a new beginning. Notes those whose parts are broken.
fn choose(
    store: &Arc<dyn Store>,
    found: &Found,
    begin: &Begin,
    broken: &mut Vec<(Epoch, String)>,
) -> Result<Option<Recovered>> {
    let open = |m: &Manifest| Recovered::open(store.clone(), m.clone(), found.settled.contains(&m.epoch));
    match begin {
        Begin::Fresh => Ok(None),
        Begin::At(epoch) => {
            if let Some((_, e)) = found.unreadable.iter().find(|(of, _)| of == epoch) {
                return Err(Error::new(e.kind(), format!("checkpoint {epoch} in {}: {}", store.place(), e.message())));
            }
            let Some(manifest) = found.complete.iter().find(|m| m.epoch == *epoch) else {
                let there: Vec<_> = found.complete.iter().map(|m| m.epoch.to_string()).collect();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                let message = format!("there is no checkpoint {epoch} in {} (there: {there})", store.place());
                return Err(Error::new(Kind::NotFound, message));
            };
            open(manifest).map(Some).map_err(|e| e.context(format!("checkpoint {epoch} in {}", store.place())))
        }
        Begin::Resume => {
            let mut last = None;
            for manifest in found.complete.iter().rev() {
                if manifest.last && found.settled.contains(&manifest.epoch) {
                    // That run had come to its end.
                    return Ok(None);
                }
                match open(manifest) {
                    Ok(recovered) => return Ok(Some(recovered)),
                    // What can't be read now may be whole: the one before it is behind what sinks have committed.
                    Err(e) if !is_broken(&e) => return Err(e.context(format!("checkpoint {}", manifest.epoch))),
                    Err(e) => {
                        broken.push((manifest.epoch, e.message().to_owned()));
                        last = Some((manifest.epoch, e));
                    }
                }
            }
            let last = last.or_else(|| {
                let (epoch, e) = found.unreadable.last()?;
                Some((*epoch, Error::new(e.kind(), e.message().to_owned())))
            });
            match last {
                None => Ok(None),
                Some((epoch, e)) => {
                    let message = format!(
                        "no checkpoint in {} can be read; of the newest, {epoch}: {}. `--fresh` begins anew",
                        store.place(),
                        e.message()
                    );
                    Err(Error::new(e.kind(), message))
                }
            }
        }
    }
}

/// What is not as it was. Takes out of the checkpoint what may be dropped.
fn compare(
    recovered: &mut Recovered,
    planned: &BTreeMap<String, Planned>,
    drop_state: &BTreeSet<String>,
) -> Result<BTreeMap<String, Change>> {
    let mut changes = BTreeMap::new();
    let mut refused = Vec::new();
    let settled = recovered.settled;
    recovered.manifest.nodes.retain(|id, node| {
        let counts = !node.pieces.is_empty() || !node.receipts.is_empty() && !settled;
        let now = planned.get(id).filter(|p| p.kind == node.kind);
        let change = match now {
            Some(now) if now.lanes != node.lanes => Some(Change::Lanes(node.lanes, now.lanes)),
            Some(now) => (now.config != node.config).then_some(Change::Changed),
            None if !counts => Some(Change::Gone),
            None if drop_state.contains(id) => Some(Change::Dropped),
            None => {
                let is = planned.get(id).map_or_else(|| "gone".to_owned(), |p| format!("a `{}` now", p.kind));
                refused.push(format!("`{id}`, a `{}`, is {is}", node.kind));
                None
            }
        };
        changes.extend(change.map(|c| (id.clone(), c)));
        now.is_some()
    });
    if !refused.is_empty() {
        let message = format!(
            "the spec has no place for what checkpoint {} keeps: {}. Name them with `--drop-state` to lose it, or begin anew with `--fresh`",
            recovered.manifest.epoch,
            refused.join("; ")
        );
        return Err(Error::validation(message));
    }
    for id in planned.keys().filter(|id| !recovered.manifest.nodes.contains_key(*id)) {
        changes.entry(id.clone()).or_insert(Change::New);
    }
    Ok(changes)
}

#[cfg(test)]
mod tests;
