//! Tests of the file above.

use super::*;

const SOURCE: TaskId = 0;
const STAGE: TaskId = 1;
const SINK: TaskId = 2;

fn coordinator() -> Coordinator {
    Coordinator::new(vec![Part::Source, Part::Stage, Part::Sink])
}

fn receipt() -> Receipt {
    Receipt::of(&"part-1").unwrap()
}

#[test]
fn sinks_commit_only_when_every_task_has_reported_and_sources_acknowledge_after_that() {
    let mut c = coordinator();
    assert_eq!(c.begin(), [(SOURCE, Command::Barrier(1))]);
    assert_eq!(c.begin(), []);
    assert_eq!(c.on(Report::Aligned(SOURCE, 1, None)), []);
    assert_eq!(c.on(Report::Aligned(SINK, 1, Some(receipt()))), []);
    assert_eq!(c.on(Report::Aligned(STAGE, 1, None)), [(SINK, Command::Commit(1, receipt()))]);
    assert_eq!(c.on(Report::Committed(SINK, 0)), []);
    assert_eq!(c.on(Report::Committed(SINK, 1)), [(SOURCE, Command::Acknowledge(1))]);
    assert!(!c.is_idle());
    assert_eq!(c.on(Report::Acknowledged(SOURCE, 1)), []);
    assert!(c.is_idle());
}

#[test]
fn with_a_store_an_epoch_is_committed_when_it_is_written_and_not_before() {
    let mut c = coordinator().storing().behind(7);
    assert_eq!(c.awaited(), None);
    assert_eq!(c.begin(), [(SOURCE, Command::Barrier(8))]);
    assert_eq!(c.to_store(), None);
    c.on(Report::Aligned(SOURCE, 8, None));
    assert_eq!(c.awaited(), Some(Awaited::Barriers(vec![STAGE, SINK])));
    c.on(Report::Aligned(STAGE, 8, None));
    assert_eq!(c.on(Report::Aligned(SINK, 8, Some(receipt()))), []);
    assert_eq!(c.to_store(), Some((8, [(SINK, receipt())].into())));
    assert_eq!((c.to_store(), c.begin(), c.committed()), (None, vec![], 7));
    assert_eq!(c.awaited(), Some(Awaited::Store));
    assert_eq!(c.stored(), [(SINK, Command::Commit(8, receipt()))]);
    assert_eq!(c.stored(), []);
    assert_eq!(c.awaited(), Some(Awaited::Commits(vec![SINK])));
    assert_eq!(c.on(Report::Committed(SINK, 8)), [(SOURCE, Command::Acknowledge(8))]);
    c.on(Report::Acknowledged(SOURCE, 8));
    assert_eq!((c.acknowledged(), c.is_idle()), (8, true));
}

#[test]
fn what_belongs_to_no_epoch_under_way_is_ignored() {
    let mut c = coordinator();
    assert_eq!((c.on(Report::Aligned(SINK, 1, None)), c.stored(), c.to_store(), c.epoch()), (vec![], vec![], None, 0));
    c.begin();
    c.on(Report::Aligned(SOURCE, 1, None));
    c.on(Report::Aligned(STAGE, 1, None));
    for other in [0, 2] {
        assert_eq!(c.on(Report::Aligned(SINK, other, Some(receipt()))), []);
        assert_eq!((c.awaited(), c.epoch()), (Some(Awaited::Barriers(vec![SINK])), 1));
    }
    assert_eq!(c.on(Report::Committed(SINK, 1)), []);
    assert_eq!(c.on(Report::Aligned(SINK, 1, Some(receipt()))), [(SINK, Command::Commit(1, receipt()))]);
    assert_eq!(c.on(Report::Aligned(SINK, 1, Some(receipt()))), []);
    c.on(Report::Committed(SINK, 1));
    assert_eq!(c.on(Report::Acknowledged(SOURCE, 2)), []);
    assert_eq!((c.acknowledged(), c.committed(), c.is_idle(), c.awaited()), (0, 1, false, None));
    c.on(Report::Acknowledged(SOURCE, 1));
    assert_eq!((c.on(Report::Acknowledged(SOURCE, 1)), c.acknowledged(), c.is_last()), (vec![], 1, false));
    assert_eq!([SOURCE, STAGE].map(|task| c.has_finished(task)), [false; 2]);
    c.on(Report::Finished(STAGE));
    assert_eq!([SOURCE, STAGE].map(|task| c.has_finished(task)), [false, true]);
    // Its source goes on: the epoch that begins is not the last one, and waits for no stage that has finished.
    assert_eq!(c.begin(), [(SOURCE, Command::Barrier(2))]);
    assert_eq!((c.awaited(), c.is_last()), (Some(Awaited::Barriers(vec![SOURCE, SINK])), false));
}

#[test]
fn a_task_that_finishes_while_an_epoch_is_under_way_still_takes_part() {
    let mut c = coordinator();
    c.begin();
    c.on(Report::Finished(SOURCE));
    c.on(Report::Aligned(SOURCE, 1, None));
    assert_eq!(c.on(Report::Finished(STAGE)), []);
    assert_eq!(c.on(Report::Finished(SINK)), [(SINK, Command::Prepare(1))]);
    assert_eq!(c.on(Report::Aligned(SINK, 1, None)), [(SOURCE, Command::Acknowledge(1))]);
    // That was not yet the last one: it began before the tasks had finished.
    let last = c.on(Report::Acknowledged(SOURCE, 1));
    assert_eq!(last, [(SOURCE, Command::Barrier(2)), (SINK, Command::Prepare(2))]);
    assert!(c.is_last() && !c.is_over());
    c.on(Report::Aligned(SOURCE, 2, None));
    c.on(Report::Aligned(SINK, 2, None));
    let exit = c.on(Report::Acknowledged(SOURCE, 2));
    assert_eq!(exit, [(SOURCE, Command::Exit), (SINK, Command::Exit)]);
    assert!(c.is_over() && !c.is_idle());
    assert_eq!(c.begin(), []);
}

/// A source, a sink, and a sink behind a spool.
fn divided() -> Coordinator {
    let parts = vec![Part::Source, Part::Stage, Part::Sink, Part::Sink];
    Coordinator::divided(parts, Groups { of: vec![0, 0, 0, 1], spools: vec![(1, 1)] })
}

const SPOOL: TaskId = 1;
const LAGGING: TaskId = 3;

#[test]
fn an_isolated_branch_holds_up_the_acks_and_no_commit_of_the_others() {
    let mut c = divided();
    let mut epoch = |n: Epoch| {
        let mut commands = c.begin();
        for task in [SOURCE, SPOOL] {
            commands.extend(c.on(Report::Aligned(task, n, None)));
        }
        commands.extend(c.on(Report::Aligned(SINK, n, Some(receipt()))));
        commands.extend(c.on(Report::Committed(SINK, n)));
        assert_eq!(c.committed(), n);
        commands
    };
    let release = (SPOOL, Command::Release(1));
    assert_eq!(epoch(1), [(SOURCE, Command::Barrier(1)), release, (SINK, Command::Commit(1, receipt()))]);
    // The branch is at its first epoch still, and the next ones go by.
    assert_eq!(epoch(2), [(SOURCE, Command::Barrier(2)), (SINK, Command::Commit(2, receipt()))]);
    let freed = c.on(Report::Aligned(LAGGING, 1, None));
    assert_eq!(freed, [(SOURCE, Command::Acknowledge(1)), (SPOOL, Command::Release(2))]);
    c.on(Report::Acknowledged(SOURCE, 1));
    assert_eq!(c.on(Report::Aligned(LAGGING, 2, None)), [(SOURCE, Command::Acknowledge(2))]);
}

#[test]
fn the_last_epoch_waits_until_isolated_branches_have_finished() {
    let mut c = divided();
    c.begin();
    for task in [SOURCE, SPOOL, SINK] {
        assert_eq!(c.on(Report::Aligned(task, 1, None)), []);
    }
    for task in [SOURCE, SPOOL, SINK] {
        assert_eq!(c.on(Report::Finished(task)), []);
    }
    assert_eq!(c.on(Report::Finished(LAGGING)), [(LAGGING, Command::Prepare(1))]);
    assert_eq!(c.on(Report::Aligned(LAGGING, 1, None)), [(SOURCE, Command::Acknowledge(1))]);
    let last = c.on(Report::Acknowledged(SOURCE, 1));
    assert!(last.contains(&(SOURCE, Command::Barrier(2))) && last.contains(&(LAGGING, Command::Prepare(2))));
    c.on(Report::Aligned(SOURCE, 2, None));
    c.on(Report::Aligned(SINK, 2, None));
    c.on(Report::Aligned(LAGGING, 2, None));
    let exit = c.on(Report::Acknowledged(SOURCE, 2));
    assert_eq!(exit, [SOURCE, SINK, LAGGING].map(|task| (task, Command::Exit)));
    assert!(c.is_over());
}
