//! Who is told of requests as they are made, for traces: what models were asked, and which attempts of steps have failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::call::{Backoff, CallContext, Usage};
use crate::error::{Error, Kind};
use crate::time::Timestamp;

/// Hears of requests as they are made. Whoever calls goes on with its work only when this returns, so it must not wait for anything: what it
/// can't take in at once, it drops.
pub trait Observer: Send + Sync + 'static {
    /// A model was asked, and has answered or not: once for every attempt.
    fn asked(&self, asked: &Asked<'_>);

    /// An attempt of a step has failed, and another one follows.
    fn tried(&self, step: &OfStep, tried: &Backoff<'_>, now: Timestamp);
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfStep {
    /// What the idempotency keys of the run begin with: its id, or where another run had that id before, something of its own.
    pub run: Arc<str>,
    /// The name under which the step is kept: `step`, `step[3]`, `outer/step`.
    pub name: Arc<str>,
}

/// A question to a model, and what became of it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The step that asks; none in a pipeline.
    pub step: Option<&'a OfStep>,
    /// The id of the stage.
    pub stage: &'a str,
    /// The key of the request.
    pub key: &'a str,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// What was asked.
    pub question: Question<'a>,
    /// When it was asked.
    pub began: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What came of it: an answer, or the class of what went wrong and what that was.
    pub ended: Result<Answered<'a>, (&'a str, String)>,
}

/// What a model is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// `chat` or `embeddings`, as the conventions of OpenTelemetry name it.
    pub operation: &'static str,
    /// Whose model it is: `anthropic`, `openai`.
    pub provider: &'a str,
    /// Its id, where one is said.
    pub model: Option<&'a str>,
    /// Where it is asked: `https://api.anthropic.com/v1`.
    pub address: Option<&'a str>,
    /// The most tokens that it may write.
    pub max_tokens: Option<u32>,
    /// How much chance there is in the answer.
    pub temperature: Option<f32>,
    /// What it is told before.
    pub system: Option<&'a str>,
    /// The question itself, where it is a text.
    pub text: Option<&'a str>,
}

/// What a model has answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered<'a> {
    /// The model, as the service names it.
    pub model: Option<&'a str>,
    /// Why the answer ended, in the words of the service: `end_turn`, `stop`, `max_tokens`.
    pub finish: Option<&'a str>,
    /// What it cost.
    pub usage: Usage,
    /// The answer, where it is a text.
    pub text: Option<&'a str>,
}

/// Where a call tells what it asks. A clone tells the same; by itself it tells nobody.
#[derive(Clone, Default)]
pub struct Trace {
    observer: Option<Arc<dyn Observer>>,
    step: Option<OfStep>,
}

impl Trace {
    /// One that tells this observer.
    pub fn to(observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), step: None }
    }

    /// Whether anybody hears.
    pub fn is_heard(&self) -> bool {
        self.observer.is_some()
    }

    /// That of a step; `name` is asked when anybody hears.
    pub(crate) fn of_step(&self, run: &str, name: impl FnOnce() -> String) -> Self {
        if !self.is_heard() {
            return Self::default();
        }
        let step = OfStep { run: run.into(), name: name().into() };
        Self { observer: self.observer.clone(), step: Some(step) }
    }

    /// Tells of an attempt that has failed.
    pub(crate) fn tried(&self, tried: &Backoff<'_>, now: Timestamp) {
        if let (Some(observer), Some(step)) = (&self.observer, &self.step) {
            observer.tried(step, tried, now);
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("is_heard", &self.is_heard()).field("step", &self.step).finish()
    }
}

/// A question that is under way. When it is dropped, nobody waits for the answer any more, and that is told.
pub struct Asking<'a> {
    context: &'a CallContext,
    question: Question<'a>,
    began: Timestamp,
    since: Duration,
    is_told: bool,
}

impl CallContext {
    /// A model is asked from now on.
    pub fn asks<'a>(&'a self, question: Question<'a>) -> Asking<'a> {
        let (began, since) = (self.env.wall(), self.env.monotonic());
        Asking { context: self, question, began, since, is_told: false }
    }
}

impl Asking<'_> {
    /// It has answered.
    pub fn answered(mut self, answer: Answered<'_>) {
        self.tell(Ok(answer));
    }

    /// It has not.
    pub fn failed(mut self, error: &Error) {
        if self.context.trace.is_heard() {
            self.tell(Err((error.class(), error.to_string())));
        }
    }

    fn tell(&mut self, ended: Result<Answered<'_>, (&str, String)>) {
        self.is_told = true;
        let CallContext { trace, env, stage, idempotency_key, attempt, .. } = self.context;
        let Some(observer) = &trace.observer else { return };
        observer.asked(&Asked {
            step: trace.step.as_ref(),
            stage,
            key: idempotency_key,
            attempt: *attempt,
            question: self.question,
            began: self.began,
            took: env.monotonic().saturating_sub(self.since),
            ended,
        });
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.is_told || !self.context.trace.is_heard() {
            return;
        }
        let (kind, what) = if self.context.env.monotonic() >= self.context.deadline {
            (Kind::Timeout, "no answer within the time that it may take")
        } else {
            (Kind::Canceled, "nobody wants the answer any more")
        };
        let error = Error::new(kind, what);
        self.tell(Err((error.class(), error.to_string())));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::testing::simulation::Simulation;

    /// What was heard: how long it took, and what came of it.
    #[derive(Default)]
    struct Heard(Mutex<Vec<(Duration, String)>>);

    impl Observer for Heard {
        fn asked(&self, asked: &Asked<'_>) {
            let ended = match &asked.ended {
                Ok(answer) => answer.text.unwrap_or_default().to_owned(),
                Err((class, what)) => format!("{class}: {what}"),
            };
            assert_eq!(asked.step, Some(&OfStep { run: "r".into(), name: "a[1]".into() }));
            self.0.lock().unwrap().push((asked.took, ended));
        }

        fn tried(&self, _: &OfStep, _: &Backoff<'_>, _: Timestamp) {}
    }

    #[test]
    fn a_question_is_told_once_with_what_came_of_it_also_when_nobody_waits_for_it() {
        let (heard, simulation) = (Arc::new(Heard::default()), Simulation::new(1));
        let env = simulation.env();
        let context = CallContext {
            deadline: Duration::from_secs(3),
            trace: Trace::to(heard.clone()).of_step("r", || "a[1]".into()),
            ..CallContext::of(env.clone(), "s")
        };
        let asked = async move {
            let asking = context.asks(Question::default());
            context.env.sleep(Duration::from_secs(1)).await;
            asking.answered(Answered { text: Some("yes"), ..Answered::default() });
            context.asks(Question::default()).failed(&Error::validation("no"));
            drop(context.asks(Question::default()));
            let late = context.asks(Question::default());
            context.env.sleep(Duration::from_secs(2)).await;
            drop(late);
        };
        simulation.run(asked).done();
        let heard: Vec<_> = heard.0.lock().unwrap().iter().map(|h| (h.0.as_secs(), h.1.clone())).collect();
        let expected = [
            (1, "yes"),
            (0, "validation: no"),
            (0, "canceled: nobody wants the answer any more"),
            (2, "timeout: no answer within the time that it may take"),
        ];
        assert_eq!(heard, expected.map(|(took, ended)| (took, ended.to_owned())));
    }
}
