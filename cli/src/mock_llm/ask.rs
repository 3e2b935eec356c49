//! A question in either dialect, as far as the script and the answer depend on it.

use serde_json::Value;

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Which model.
    pub model: String,
    /// What the model is told before.
    pub system: Option<String>,
    /// The last text of the user, or the last results of tools.
    pub text: String,
    /// What is read in all.
    pub input_tokens: u64,
    /// The most tokens that may be written.
    pub max_tokens: Option<u64>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
    /// Whether the answer comes in pieces.
    pub stream: bool,
    /// Whether the last piece says the usage: OpenAI's `stream_options`.
    pub stream_usage: bool,
    /// Whether the answer must be a JSON document.
    pub json: bool,
    /// The JSON Schema that the answer must fit.
    pub schema: Option<Value>,
    /// How hard the model is to think.
    pub effort: Option<String>,
}

/// About four characters a token, as in English.
pub fn tokens(text: &str) -> u64 {
    text.chars().count().div_ceil(4) as u64
}

/// The text of a message: a string, or the texts of a list of blocks.
pub fn content(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().map(|block| match (block.get("text"), block.get("content")) {
                (Some(Value::String(text)), _) => text.clone(),
                // The result of a tool.
                (None, Some(inner)) => content(inner),
                _ => String::new(),
            });
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// A list of texts, or one of them alone.
pub fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// The tokens of what tools are declared.
pub fn tool_tokens(body: &Value) -> u64 {
    body.get("tools").map_or(0, |tools| tokens(&tools.to_string()))
}
