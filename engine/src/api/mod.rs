//! What you implement: stages, joins, calls, sources, sinks, and the configurations that make them.

pub mod bill;
pub mod budget;
pub mod cache;
pub mod call;
pub mod checkpointing;
pub mod connector;
pub(crate) mod erased;
pub mod jobs;
pub mod join;
pub mod jq;
pub mod level;
pub mod limits;
pub mod memo;
pub mod merged;
pub mod meter;
pub mod observer;
pub mod on_full;
pub mod outage;
pub mod output;
pub mod purse;
pub mod registry;
pub mod sink;
pub mod source;
pub mod stage;
pub mod stage_config;
pub mod store;
pub mod template;

pub use budget::{Budget, OnExceeded};
pub use cache::Cache;
pub use call::{Accounts, Backoff, Bill, BoxCall, Call, CallContext, Keys, Next, Reply, Tried, Usage};
pub use checkpointing::{Checkpointing, Checkpoints, Place};
pub use connector::{
    Capabilities, ConnectContext, Connector, Delivery, Epochs, Known, Replay, Side, SinkContext, SourceContext, Unread,
    UsedFiles,
};
pub use jobs::{JobRequest, Jobs};
pub use join::{BoxJoin, Join};
pub use level::Level;
pub use limits::{Deadlines, Limits, Order, SharedLimits};
pub use memo::{Account, Keeping, Kept, Memo, Memos};
pub use merged::merged;
pub use meter::Meter;
pub use observer::{Observer, Trace};
pub use on_full::OnFull;
pub use outage::Outage;
pub use output::{Output, Rejected};
pub use purse::{Purse, Purses};
pub use registry::Registry;
pub use sink::{BoxSink, Outcome, Receipt, Sink, Written};
pub use source::{Ack, BoxSource, Chunk, Source};
pub use stage::{BoxStage, Progress, Stage};
pub use stage_config::{BuildContext, Cardinality, Distribution, Inputs, Operator, StageConfig, WaitFor};
pub use store::{Lock, Store, StoreAt, StoreConfig};
