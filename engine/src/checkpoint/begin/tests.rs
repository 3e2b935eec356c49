//! Tests of the file above.

use super::super::store::Folder;
use super::*;
use crate::checkpoint::manifest::tests::example;
use crate::testing::simulation::Simulation;
use crate::testing::simulation::files::Fault;
use std::path::Path;
use std::sync::Mutex;

/// A store with these checkpoints of one run, the last of which is settled if it says so.
fn store(epochs: &[Epoch], last: bool) -> (Simulation, Arc<dyn Store>) {
    let simulation = Simulation::new(1);
    let store = Folder::new(simulation.env(), Path::new("c"), "job");
    store.put("p", b"0123456789").unwrap();
    for epoch in epochs {
        let is_last = last && Some(epoch) == epochs.last();
        let manifest = Manifest { epoch: *epoch, last: is_last, nodes: BTreeMap::new(), ..example() };
        store.put(&manifest::name(*epoch), &manifest.encode().unwrap()).unwrap();
        if Some(epoch) == epochs.last() {
            store.put(&manifest::settled_name(*epoch), b"").unwrap();
        }
    }
    (simulation, Arc::new(store))
}

fn begun(store: &Arc<dyn Store>, at: Begin) -> Option<Epoch> {
    let resume = Resume { begin: at, ..Resume::default() };
    let begun = begin(store.clone(), "job", &resume, (&BTreeMap::new(), 3), "new".into()).unwrap();
    begun.recovered.map(|(_, resumed)| resumed.epoch)
}

#[test]
fn what_a_beginning_has_decided_against_is_gone_before_there_is_a_new_checkpoint() {
    for (at, chosen, left) in [
        (Begin::Resume, Some(3), vec!["0000000001.json", "0000000002.json", "0000000003.json", "0000000003.settled"]),
        (Begin::At(1), Some(1), vec!["0000000001.json"]),
        (Begin::Fresh, None, vec![]),
    ] {
        let (_simulation, store) = store(&[1, 2, 3], false);
        assert_eq!(begun(&store, at.clone()), chosen);
        let names = store.names().unwrap();
        let names: Vec<_> = names.iter().filter(|n| n.starts_with("00")).collect();
        assert_eq!(names, left, "{at:?}");
    }
    let (_simulation, ended) = store(&[1, 2, 3], true);
    assert_eq!(begun(&ended, Begin::Resume), None);
    assert!(ended.names().unwrap().iter().all(|n| !n.starts_with("00")));
}

#[test]
fn what_is_not_as_it_was_is_told_in_words() {
    let (_simulation, store) = store(&[], false);
    let node = manifest::Node { kind: "map".into(), lanes: 1, config: "a".into(), ..Default::default() };
    let before = ["same", "other", "wider", "gone"].map(|id| (id.to_owned(), node.clone()));
    let manifest = Manifest { epoch: 1, last: false, nodes: BTreeMap::from(before), ..example() };
    store.put("p", b"0123456789").unwrap();
    store.put(&manifest::name(1), &manifest.encode().unwrap()).unwrap();
    let now = |lanes, config: &str| Planned { kind: "map".into(), lanes, config: config.into() };
    let planned = [("same", now(1, "a")), ("other", now(1, "b")), ("wider", now(2, "a")), ("new", now(1, "a"))];
    let planned = planned.map(|(id, planned)| (id.to_owned(), planned)).into();
    let begun = begin(store, "job", &Resume::default(), (&planned, 3), "new".into()).unwrap();
    let told = begun.recovered.unwrap().1.changes.into_iter().map(|(id, change)| format!("{id} {change}"));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "gone is gone from the spec",
            "new is new and begins with nothing",
            "other has another configuration; what it had is kept",
            "wider goes from 1 lanes to 2; what it had is spread over them",
        ]
    );
}

#[test]
fn whichever_call_fails_no_older_checkpoint_of_a_run_that_has_ended_is_gone_on_from() {
    let calls = |simulation: &Simulation| simulation.files().calls();
    let (simulation, there) = store(&[1, 2, 3], true);
    let before = calls(&simulation);
    begun(&there, Begin::Resume);
    for call in 1..=calls(&simulation) - before {
        let (simulation, there) = store(&[1, 2, 3], true);
        simulation.files().fail(calls(&simulation) + call, Fault::Io);
        let _failed = begin(there.clone(), "job", &Resume::default(), (&BTreeMap::new(), 3), "new".into()).map(drop);
        // Its last epoch may be committed and finished once more; nothing before it may be done again.
        assert!(matches!(begun(&there, Begin::Resume), None | Some(3)), "call {call}");
    }
}

/// Node `one` as a plan may have it.
fn one(kind: &str) -> BTreeMap<String, Planned> {
    [("one".to_owned(), Planned { kind: kind.into(), lanes: 2, config: "00".into() })].into()
}

#[test]
fn a_checkpoint_that_is_broken_is_passed_over_and_one_that_cannot_be_read_now_is_not() {
    let there = || {
        let (simulation, store) = store(&[1, 2], false);
        let parts = vec![manifest::Part { name: "q".into(), ..example().parts.remove(0) }];
        let newest = Manifest { epoch: 3, last: false, nodes: BTreeMap::new(), parts, ..example() };
        store.put(&manifest::name(3), &newest.encode().unwrap()).unwrap();
        (simulation, store)
    };
    let begin = |store| begin(store, "job", &Resume::default(), (&BTreeMap::new(), 3), "new".into());
    let (_simulation, store) = there();
    let (_, resumed) = begin(store).unwrap().recovered.unwrap();
    assert_eq!((resumed.epoch, resumed.unreadable.iter().map(|u| u.0).collect::<Vec<_>>()), (2, vec![3]));
    for call in 1.. {
        let (simulation, store) = there();
        store.put("q", b"0123456789").unwrap();
        let before = simulation.files().calls();
        simulation.files().fail(before + call, Fault::Io);
        match begin(store) {
            Ok(ready) => assert_eq!(ready.recovered.unwrap().1.epoch, 3, "call {call}"),
            Err(e) => assert_eq!(e.kind(), Kind::Io, "call {call}: {e}"),
        }
        if simulation.files().calls() < before + call {
            return;
        }
    }
}

#[test]
fn what_has_no_place_in_the_spec_is_refused_unless_nothing_of_it_counts() {
    let begun = |receipts: bool, pieces: bool, settled: bool, (kind, drop): (&str, &str)| {
        let (_simulation, store) = store(&[], false);
        let mut manifest = example();
        let node = manifest.nodes.get_mut("one").unwrap();
        if !receipts {
            node.receipts.clear();
        }
        if !pieces {
            node.pieces.clear();
        }
        store.put(&manifest::name(manifest.epoch), &manifest.encode().unwrap()).unwrap();
        if settled {
            store.put(&manifest::settled_name(manifest.epoch), b"").unwrap();
        }
        let resume = Resume { drop_state: [drop.to_owned()].into(), ..Resume::default() };
        let begun = begin(store, "job", &resume, (&one(kind), 3), "new".into());
        begun.map(|b| b.recovered.unwrap().1.changes.into_values().collect::<Vec<_>>()).map_err(|e| e.to_string())
    };
    let of = |receipts, pieces, settled| begun(receipts, pieces, settled, ("map", ""));
    // It is another kind now: what it was is gone, and what it is is new.
    assert_eq!(of(false, false, false), Ok(vec![Change::Gone]));
    assert_eq!(of(true, false, true), Ok(vec![Change::Gone]));
    for (receipts, pieces, settled) in [(true, false, false), (false, true, false), (false, true, true)] {
        let said = of(receipts, pieces, settled).unwrap_err();
        assert!(said.contains("`one`, a `dedupe`, is a `map` now"), "{said}");
    }
    assert_eq!(begun(true, true, false, ("map", "one")), Ok(vec![Change::Dropped]));
    assert_eq!(begun(true, true, false, ("dedupe", "")), Ok(vec![]));
}

#[test]
fn a_checkpoint_of_another_run_does_not_stay_beside_those_of_this_one() {
    let (_simulation, store) = store(&[3], false);
    let other = Manifest { epoch: 1, run: "before".into(), nodes: BTreeMap::new(), ..example() };
    store.put(&manifest::name(1), &other.encode().unwrap()).unwrap();
    assert_eq!(begun(&store, Begin::At(3)), Some(3));
    assert_eq!(store.names().unwrap(), ["0000000003.json", "0000000003.settled", "p"]);
}

#[test]
fn of_two_beginnings_at_a_time_one_is_kept_out() {
    let (_simulation, store) = store(&[1], false);
    let again = || begin(store.clone(), "job", &Resume::default(), (&BTreeMap::new(), 3), "new".into());
    let first = again().unwrap();
    assert!(again().is_err());
    first.keeper.close();
    assert_eq!(again().unwrap().recovered.unwrap().1.epoch, 1);
}

#[test]
fn checkpoints_that_cannot_be_read_are_told_of_when_they_would_have_been_newer() {
    let (_simulation, store) = store(&[2], false);
    for epoch in [1, 3] {
        store.put(&manifest::name(epoch), b"damaged").unwrap();
    }
    let begin = |at| {
        let resume = Resume { begin: at, ..Resume::default() };
        begin(store.clone(), "job", &resume, (&BTreeMap::new(), 3), "new".into())
    };
    for epoch in [1, 3] {
        let said = begin(Begin::At(epoch)).map(drop).unwrap_err();
        assert_eq!(said.message(), format!("checkpoint {epoch} in c/job: it is damaged: its checksum is another"));
    }
    let said = begin(Begin::At(7)).map(drop).unwrap_err();
    assert_eq!((said.kind(), said.message()), (Kind::NotFound, "there is no checkpoint 7 in c/job (there: 2)"));
    let (_, resumed) = begin(Begin::Resume).unwrap().recovered.unwrap();
    let unreadable = resumed.unreadable.iter().map(|(epoch, _)| *epoch);
    assert_eq!((resumed.epoch, unreadable.collect::<Vec<_>>()), (2, vec![3]));
}

#[test]
fn what_no_checkpoint_needs_goes_with_the_next_one_but_the_lock_stays() {
    let (simulation, store) = store(&[1], false);
    for name in ["junk", "lock"] {
        store.put(name, b"x").unwrap();
    }
    let mut begun = begin(store.clone(), "job", &Resume::default(), (&BTreeMap::new(), 3), "new".into()).unwrap();
    begun.keeper.sweep(&simulation.env()).unwrap();
    assert_eq!(store.names().unwrap(), ["0000000001.json", "0000000001.settled", "lock", "p"]);
}

/// A store that only notes what is removed, in order. A name that it tells of is gone when it is asked for.
#[derive(Default)]
struct Removals(Mutex<Vec<String>>);

impl Store for Removals {
    fn put(&self, _: &str, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn get(&self, _: &str) -> Result<Vec<u8>> {
        Err(Error::new(Kind::NotFound, "gone"))
    }
    fn names(&self) -> Result<Vec<String>> {
        Ok(vec![manifest::name(1)])
    }
    fn remove(&self, name: &str) -> Result<()> {
        self.0.lock().unwrap().push(name.to_owned());
        Ok(())
    }
    fn lock(&self) -> Result<Option<Box<dyn super::super::store::Lock>>> {
        Ok(None)
    }
    fn place(&self) -> String {
        String::new()
    }
}

#[test]
fn the_newest_that_is_forgotten_goes_last_and_what_says_that_it_is_settled_just_before() {
    let store = Removals::default();
    assert!(find(&store).unwrap().complete.is_empty());
    let gone = [1, 2, 3].map(|epoch| Manifest { epoch, ..example() });
    forget(&store, &gone, [2, 3, 7].into_iter()).unwrap();
    let order = store.0.into_inner().unwrap();
    let (settled, name) = (manifest::settled_name, manifest::name);
    assert_eq!(order, [settled(2), settled(7), name(1), name(2), settled(3), name(3)]);
}
