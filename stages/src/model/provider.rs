//! What stands behind `model`: something that answers prompts.

use std::future::Future;

use bourn_engine::Result;
use bourn_engine::api::call::RemoteLimits;
use bourn_engine::api::{CallContext, Usage};

/// A service or library that answers prompts. One instance serves all requests of a lane, many at a time; timeout, retry
/// and rate are the engine's.
pub trait Provider: Send + Sync + 'static {
    /// Answers one prompt. The future may be dropped at any await.
    ///
    /// # Errors
    /// With the hint whether trying again can help, as for [`Call::call`](bourn_engine::api::Call::call).
    fn answer(&self, prompt: &Prompt, context: &CallContext) -> impl Future<Output = Result<Said>> + Send;

    /// Who it is, for traces.
    fn about(&self) -> About<'_> {
        About::default()
    }

    /// All that its answer depends on, as a text: who is asked, and how, and the prompt. What is asked in the same words gets
    /// its answer from the journal.
    fn request(&self, prompt: &Prompt) -> String;
}

/// Who answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct About<'a> {
    /// Whose model it is: `anthropic`, `openai`.
    pub provider: &'a str,
    /// The model that is asked, where the prompt does not have its id.
    pub model: Option<&'a str>,
    /// Where it is asked, without secrets.
    pub address: Option<&'a str>,
    /// How much chance there is in its answers.
    pub temperature: Option<f32>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Which model, or none for the provider's own choice.
    pub model: Option<String>,
    /// What the model is told before.
    pub system: Option<String>,
    /// The question.
    pub text: String,
    /// The most tokens that it may write.
    pub max_tokens: Option<u32>,
    /// Whether the answer must be a JSON document.
    pub json: bool,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The text.
    pub text: String,
    /// What it cost.
    pub usage: Usage,
    /// What the service said of its limits.
    pub limits: Option<Box<RemoteLimits>>,
    /// The model that has answered, as the service names it.
    pub model: Option<String>,
    /// Why the answer ended, in the words of the service: `end_turn`, `stop`.
    pub finish: Option<String>,
}
