//! Tasks: whoever is to answer is told of each step that begins to wait for somebody, once.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bourn_engine::data::secret::Secrets;
use bourn_engine::journal::Waiting;

use super::counts::Counts;
use super::delivery::Queues;
use super::notice::{self, Notice};
use crate::runs::task::Wait;

/// Who tells of the tasks of a job.
pub struct Tasks {
    /// The workflow.
    pub workflow: String,
    /// Who is told.
    pub receivers: Vec<usize>,
    /// Where that is put.
    pub queues: Queues,
    /// What the runs are called.
    pub counts: Arc<Counts>,
    /// What nobody may see.
    pub secrets: Secrets,
    /// The journal that answers go to.
    pub journal: PathBuf,
}

impl Tasks {
    /// What is told of these waits, when they are in the journal. Those for a time alone are nobody's task.
    pub fn of(&self, waits: &[Waiting]) -> Vec<Notice> {
        let notices = waits.iter().filter_map(|waiting| {
            let wait: Wait = serde_json::from_str(&waiting.data).ok().filter(|wait: &Wait| wait.signal.is_some())?;
            let task = format!("{}/{}", self.counts.runs().id(waiting.number)?, waiting.step);
            Some(notice::task(&task, &self.workflow, &wait, &self.journal).concealed(&self.secrets))
        });
        notices.collect()
    }

    /// Tells it.
    pub fn tell(&self, notices: Vec<Notice>) {
        for notice in notices {
            self.queues.put(&self.receivers, notice);
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("workflow", &self.workflow).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bourn_engine::data::secret::{Origin, Secret};
    use bourn_engine::testing::simulation::Simulation;

    use super::super::delivery::queues;
    use super::*;

    #[test]
    fn no_secret_is_in_a_task_also_when_the_journal_has_it() {
        let env = Simulation::new(1).env();
        let counts = Arc::new(Counts::new(env.clone()));
        counts.begun(vec![(7, "r".into())], &[None]);
        let tasks = Tasks {
            workflow: "w".into(),
            receivers: Vec::new(),
            queues: queues(&[], &env).unwrap().0,
            counts,
            secrets: Secrets::new([("${secret.TOKEN}".into(), Origin::Secret, Secret::new("c4nary"))]),
            journal: "/j.db".into(),
        };
        let wait = |step: &str, data: &str| Waiting { number: 7, step: step.into(), data: data.into() };
        let told = tasks.of(&[
            wait("a", r#"{"due":null,"since":0,"signal":"a decided","decide":"no c4nary"}"#),
            wait("b", r#"{"due":5,"since":0,"signal":null}"#),
        ]);
        assert_eq!(told.len(), 1);
        assert_eq!(
            (&told[0].document["task"], &told[0].document["decide"]),
            (&"r/a".into(), &"no ${secret.TOKEN}".into())
        );
        assert!(
            told[0].text.starts_with("[WAITING] r/a of w: decision: no ${secret.TOKEN}\nbourn approve "),
            "{}",
            told[0].text
        );
    }
}
