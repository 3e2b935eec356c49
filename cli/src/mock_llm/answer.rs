//! What is answered: what the script says, or an echo that is the same each time.

use bourn_stages::model::{Prompt, mock};

use super::ask::{Asked, tokens};
use super::script::{Answer, ToolCall};

/// An answer.
#[derive(Clone, Debug)]
pub struct Said {
    /// The text; it may be empty when tools are called.
    pub text: String,
    /// Calls of tools.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ends.
    pub stop: Stop,
    /// What is written in all.
    pub output_tokens: u64,
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All is said.
    End,
    /// `max_tokens` is reached.
    Length,
    /// This text came, at which it was to end.
    Text(String),
    /// Tools are called.
    Tools,
}

/// Answers a question as the script says, or with the echo.
pub fn say(asked: &Asked, answer: Option<Answer>) -> Said {
    let scripted = answer.is_some();
    let Answer { text, json, tool_calls } = answer.unwrap_or_default();
    let text = match (text, json) {
        (Some(text), _) => text,
        (None, Some(document)) => document.to_string(),
        (None, None) if scripted && !tool_calls.is_empty() => String::new(),
        (None, None) => echo(asked),
    };
    let mut said = cut(text, asked);
    said.output_tokens += tool_calls.iter().map(|c| tokens(&c.name) + tokens(&c.input.to_string())).sum::<u64>();
    if !tool_calls.is_empty() {
        said.stop = Stop::Tools;
        said.tool_calls = tool_calls;
    }
    said
}

/// The same as the mock model in the process says to the same question.
fn echo(asked: &Asked) -> String {
    if let Some(schema) = &asked.schema {
        return mock::instance(schema).to_string();
    }
    mock::echo(&Prompt {
        model: Some(asked.model.clone()),
        system: asked.system.clone(),
        text: asked.text.clone(),
        max_tokens: None,
        json: asked.json,
    })
}

fn cut(text: String, asked: &Asked) -> Said {
    let found = asked.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|s| Some((text.find(s.as_str())?, s)));
    let (text, stop) = match found.min_by_key(|(at, _)| *at) {
        Some((at, stop)) => (text[..at].to_owned(), Stop::Text(stop.clone())),
        None => (text, Stop::End),
    };
    let output_tokens = tokens(&text);
    match asked.max_tokens {
        Some(max) if output_tokens > max => {
            let kept = usize::try_from(max).unwrap_or(usize::MAX).saturating_mul(4);
            let text = text.chars().take(kept).collect();
            Said { text, tool_calls: Vec::new(), stop: Stop::Length, output_tokens: max }
        }
        _ => Said { text, tool_calls: Vec::new(), stop, output_tokens },
    }
}
