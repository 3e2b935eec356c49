//! Runs that come back, one after the other.

use std::time::Duration;

use futures::FutureExt;
use futures::future::join;

use super::*;
use crate::testing::simulation::Simulation;

#[test]
fn who_waits_for_none_that_rests_hears_what_was_told_before() {
    let (rest, env) = (Rest::default(), Simulation::new(1).env());
    let next = || rest.next(&env, 9, Until::Resting).now_or_never();
    rest.read(2);
    rest.waits(0, None);
    rest.waits(1, None);
    rest.stand([(0, RunState::Waiting)]);
    assert_eq!(next(), None, "one is under way");
    rest.wake(1);
    rest.stand([(1, RunState::Waiting)]);
    assert_eq!((next(), next()), (Some(vec![Back { run: 1, passage: 0 }]), None));
    rest.stand([(1, RunState::Completed)]);
    assert_eq!(next(), Some(vec![]), "the other one waits");
}

#[test]
fn a_run_under_way_is_passed_once_more_when_it_hears_something_and_alone_in_the_end() {
    let (rest, env) = (Rest::default(), Simulation::new(1).env());
    let next = || rest.next(&env, 9, Until::Resting).now_or_never();
    let back = |passage| Some(vec![Back { run: 0, passage }]);
    rest.begin(true);
    rest.read(1);
    assert!(rest.begin_step((0, 0), "long"));
    rest.wake(0);
    assert_eq!(next(), None, "nothing of it waits");
    rest.waits(0, None);
    assert_eq!((next(), rest.back(&[0, 1])), (back(1), vec![0]));
    assert!(!rest.begin_step((0, 1), "long") && rest.begin_step((0, 1), "short"));
    assert!(rest.keep((0, 0), "long") && !rest.keep((0, 1), "long"));
    rest.kept([(0, "long")]);
    assert_eq!(next(), back(2), "the second one has missed it");
    for _ in 0..3 {
        assert!(!rest.leave(0));
        assert_eq!(next(), None);
        rest.gone(0);
    }
    assert_eq!(next(), back(3));
    assert!(rest.begin_step((0, 3), "short") && rest.leave(0));
    rest.wake(0);
    assert_eq!(next(), None, "its document is on its way");
    rest.stand([(0, RunState::Waiting)]);
    assert_eq!((next(), rest.came_back(0)), (back(0), Some(RunState::Waiting)));
    rest.stand([(0, RunState::Completed)]);
    assert!(rest.is_idle());
}

#[test]
fn a_run_comes_back_when_it_is_due_or_is_told_something() {
    let (rest, simulation) = (Rest::default(), Simulation::new(1));
    let env = simulation.env();
    let due = |seconds: u64| env.wall().0 + i64::try_from(seconds * 1_000_000).unwrap();
    rest.read(4);
    rest.waits(0, Some(due(90)));
    rest.waits(0, Some(due(60)));
    rest.waits(1, None);
    rest.wake(2);
    assert_eq!(rest.next(&env, 9, Until::Ended).now_or_never(), None);
    rest.stand([(0, RunState::Waiting), (1, RunState::Waiting), (2, RunState::Paused), (3, RunState::Failed)]);
    let (told, clock) = (rest.clone(), env.clone());
    let back = simulation.run(async move {
        // It was told something while it was under way.
        let mut back = vec![told.next(&clock, 9, Until::Ended).await];
        back.push(told.next(&clock, 9, Until::Ended).await);
        let later = async {
            clock.sleep(Duration::from_secs(5)).await;
            told.wake(1);
        };
        back.push(join(told.next(&clock, 9, Until::Ended), later).await.0);
        assert_eq!((told.came_back(2), told.came_back(2)), (Some(RunState::Paused), None));
        told.stand([(0, RunState::Completed), (1, RunState::Completed), (2, RunState::Canceled)]);
        back.push(told.next(&clock, 9, Until::Ended).await);
        back
    });
    let runs = |back: Vec<Back>| back.into_iter().map(|back| back.run).collect::<Vec<_>>();
    let back: Vec<Vec<u64>> = back.done().into_iter().map(runs).collect();
    assert_eq!(back, [vec![2], vec![0], vec![1], vec![]]);
}
