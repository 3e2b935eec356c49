//! The named points of the epoch protocol: before and after each step that a crash must not tear.

/// A sink is about to prepare an epoch.
pub const PREPARE: &str = "prepare";
/// A sink has prepared; its receipt is not reported yet.
pub const PREPARED: &str = "prepared";
/// Every task has reported; the state is about to be written.
pub const STORE_PART: &str = "store_part";
/// The state is durable, and no manifest names it.
pub const PART_STORED: &str = "part_stored";
/// The manifest is about to be written.
pub const STORE_MANIFEST: &str = "store_manifest";
/// The checkpoint is complete; nothing of it is committed.
pub const MANIFEST_STORED: &str = "manifest_stored";
/// A content of the store is durable under its temporary name.
pub const CONTENT_WRITTEN: &str = "content_written";
/// It has its name, which is not durable yet.
pub const CONTENT_NAMED: &str = "content_named";
/// A sink is about to commit.
pub const COMMIT: &str = "commit";
/// One of the files of a commit is in its place.
pub const FILE_PLACED: &str = "file_placed";
/// A sink has committed; the coordinator does not know.
pub const COMMITTED: &str = "committed";
/// Checkpoints that nobody needs any more are about to go.
pub const SWEEP: &str = "sweep";
/// The manifests of those are gone, their parts are not.
pub const MANIFESTS_SWEPT: &str = "manifests_swept";
/// All of them are gone.
pub const SWEPT: &str = "swept";
/// A source is about to acknowledge.
pub const ACKNOWLEDGE: &str = "acknowledge";
/// It has acknowledged.
pub const ACKNOWLEDGED: &str = "acknowledged";
/// The last epoch is over; a sink is about to finish.
pub const FINISH: &str = "finish";
/// A file that was staged is in its place; what it was made of is there still.
pub const ASSEMBLED: &str = "assembled";
/// A sink has finished.
pub const FINISHED: &str = "finished";
/// The job has ended well, which is not noted yet.
pub const SETTLE: &str = "settle";
/// It is noted.
pub const SETTLED: &str = "settled";
/// A checkpoint is chosen to go on from; nothing is built.
pub const RECOVER: &str = "recover";
/// A sink is about to commit what the checkpoint has of it.
pub const COMMIT_AGAIN: &str = "commit_again";
/// It has.
pub const COMMITTED_AGAIN: &str = "committed_again";
/// Everything is built and restored; no row has moved yet.
pub const RECOVERED: &str = "recovered";

/// The journal of runs is about to commit what has come.
pub const JOURNAL_COMMIT: &str = "journal_commit";
/// It is committed; nobody knows.
pub const JOURNAL_COMMITTED: &str = "journal_committed";

/// The points of a workflow's runs.
pub const OF_RUNS: [&str; 2] = [JOURNAL_COMMIT, JOURNAL_COMMITTED];

/// The points in the order in which a job of epochs meets them.
pub const ALL: [&str; 25] = [
    RECOVER,
    COMMIT_AGAIN,
    COMMITTED_AGAIN,
    RECOVERED,
    PREPARE,
    PREPARED,
    STORE_PART,
    PART_STORED,
    STORE_MANIFEST,
    MANIFEST_STORED,
    CONTENT_WRITTEN,
    CONTENT_NAMED,
    COMMIT,
    FILE_PLACED,
    COMMITTED,
    SWEEP,
    MANIFESTS_SWEPT,
    SWEPT,
    ACKNOWLEDGE,
    ACKNOWLEDGED,
    FINISH,
    ASSEMBLED,
    FINISHED,
    SETTLE,
    SETTLED,
];

/// The points that a job meets only when it goes on from a checkpoint.
pub const OF_RECOVERY: [&str; 4] = [RECOVER, COMMIT_AGAIN, COMMITTED_AGAIN, RECOVERED];

/// `POINT:N`: the process kills itself when it comes to this point for the n-th time.
pub const KILL_AT: &str = "BOURN_KILL_AT";
/// A file that gets a line for each point that the process comes to.
pub const TOLD_IN: &str = "BOURN_POINTS";
