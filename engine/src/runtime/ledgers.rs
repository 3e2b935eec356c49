//! What the stages of a job keep of answers and spend on them: opened before its tasks, settled when it has ended well.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::channel::Post;
use super::job::Start;
use crate::api::{Account, Memo, Purse};
use crate::call::spend::Pause;
use crate::checkpoint::recovery::Begin;
use crate::error::{Error, Result};
use crate::metrics::JobStats;
use crate::plan::{OperatorKind, Plan, PlannedNode};

/// The journals and budgets of a job.
pub(super) struct Ledgers {
    /// Of the stages that keep answers, by id.
    memos: HashMap<Arc<str>, Arc<dyn Memo>>,
    /// Of the stages that have a budget of their own.
    purses: HashMap<Arc<str>, Arc<Purse>>,
    /// Of all together.
    job: Option<Arc<Purse>>,
    pause: Pause,
}

impl Ledgers {
    /// Opens what the plan names. A job that begins anew has spent nothing.
    ///
    /// # Errors
    /// When a journal can't be opened or read.
    pub async fn open(plan: &Plan, with: &Start, stop: Post<()>, stats: Arc<JobStats>) -> Result<Self> {
        let pause: Pause = Arc::new(move |why| {
            let _ = stats.paused.set(why);
            // A full mailbox means that the wish is there already.
            let _ = stop.try_send(());
        });
        let job = plan.options.budget.map(|budget| Arc::new(Purse::new(budget, "the job")));
        job.iter().zip(plan.options.kept).for_each(|(purse, spent)| purse.spent(spent));
        let mut ledgers = Self { memos: HashMap::new(), purses: HashMap::new(), job, pause };
        for node in &plan.nodes {
            let OperatorKind::Call(limits) = &node.operator else { continue };
            if let Some(budget) = limits.budget.as_deref().copied() {
                let purse = Purse::new(budget, format!("`{}`", node.id));
                ledgers.purses.insert(node.id.clone(), Arc::new(purse));
            }
            ledgers.open_journal(plan, node, with).await.map_err(|e| e.at_stage(&node.id))?;
        }
        Ok(ledgers)
    }

    async fn open_journal(&mut self, plan: &Plan, node: &PlannedNode, with: &Start) -> Result<()> {
        let Some(at) = node.journal.clone() else { return Ok(()) };
        let missing = || Error::unsupported("`journal` is said, and this engine has none: `Engine::with_journal`");
        let journal = with.journal.clone().ok_or_else(missing)?;
        let account = Account { job: plan.name.clone(), stage: node.id.to_string() };
        let memo = with.env.blocking(move || journal.open(&at, account)).await??;
        if matches!(with.resume.begin, Begin::Fresh) {
            memo.settle().await?;
        }
        let spent = memo.spent().await?;
        self.of(node).1.iter().for_each(|purse| purse.spent(spent));
        self.memos.insert(node.id.clone(), memo);
        Ok(())
    }

    /// What a node keeps its answers in, and pays them out of.
    pub fn of(&self, node: &PlannedNode) -> (Option<Arc<dyn Memo>>, Vec<Arc<Purse>>) {
        let jobs = self.job.iter().filter(|_| node.accounts.tokens);
        let purses = self.purses.get(&node.id).into_iter().chain(jobs).cloned().collect();
        (self.memos.get(&node.id).cloned(), purses)
    }

    /// Stops the job.
    pub fn pause(&self) -> Pause {
        self.pause.clone()
    }

    /// The journals, to be settled.
    pub fn memos(&self) -> Vec<Arc<dyn Memo>> {
        self.memos.values().cloned().collect()
    }
}

/// Runs a job. When it has ended well and of its own accord, what it has spent does not count for the next one.
///
/// # Errors
/// That of the job, or when a journal can't be written.
pub(super) async fn settled(
    job: impl Future<Output = Result<()>>,
    memos: Vec<Arc<dyn Memo>>,
    stats: Arc<JobStats>,
) -> Result<()> {
    job.await?;
    if !stats.stopped.load(Relaxed) {
        for memo in memos {
            memo.settle().await?;
        }
    }
    Ok(())
}
