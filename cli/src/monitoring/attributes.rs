//! Attributes in the words of OTLP, with nothing in them that nobody may see.

use bourn_engine::data::secret::Secrets;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use serde_json::Value as Document;

/// The most of a text that is sent, in bytes.
const TEXT_MAX: usize = 16 << 10;

/// A text that is known to be nobody's secret.
pub fn text(key: &str, value: impl Into<String>) -> KeyValue {
    of(key, Value::StringValue(value.into()))
}

fn of(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Attributes that are gathered, without the secrets of a spec.
pub struct Attributes<'a> {
    secrets: &'a Secrets,
    all: Vec<KeyValue>,
}

impl<'a> Attributes<'a> {
    /// None yet.
    pub fn without(secrets: &'a Secrets) -> Self {
        Self { secrets, all: Vec::new() }
    }

    /// A name, or what is said about data: no value of the environment is in it.
    #[must_use]
    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.all.push(text(key, cut(&self.secrets.conceal(value))));
        self
    }

    /// The same, if there is one.
    #[must_use]
    pub fn text_of(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    /// Texts.
    #[must_use]
    pub fn texts(mut self, key: &str, values: &[&str]) -> Self {
        let value = |text: &&str| AnyValue { value: Some(Value::StringValue(cut(&self.secrets.conceal(text)))) };
        self.all.push(of(key, Value::ArrayValue(ArrayValue { values: values.iter().map(value).collect() })));
        self
    }

    /// Data, in which values of the environment may stand, as they do in results.
    #[must_use]
    pub fn payload(mut self, key: &str, value: &str) -> Self {
        self.all.push(text(key, cut(&self.secrets.conceal_in_data(value))));
        self
    }

    /// What is out of all attributes.
    pub fn secrets(&self) -> &'a Secrets {
        self.secrets
    }

    /// A document that is made of texts without secrets, none of which is longer than it may be.
    #[must_use]
    pub fn message(mut self, key: &str, document: &Document) -> Self {
        self.all.push(text(key, document.to_string()));
        self
    }

    /// A whole number, if it is not 0.
    #[must_use]
    pub fn count(self, key: &str, value: u64) -> Self {
        if value == 0 { self } else { self.number(key, value) }
    }

    /// A whole number.
    #[must_use]
    pub fn number(mut self, key: &str, value: u64) -> Self {
        self.all.push(of(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX))));
        self
    }

    /// A number, if it is not 0.
    #[must_use]
    pub fn amount(mut self, key: &str, value: f64) -> Self {
        if value != 0.0 {
            self.all.push(of(key, Value::DoubleValue(value)));
        }
        self
    }

    /// Something that holds; nothing of what does not.
    #[must_use]
    pub fn flag(mut self, key: &str, holds: bool) -> Self {
        if holds {
            self.all.push(of(key, Value::BoolValue(true)));
        }
        self
    }

    /// All of them.
    pub fn all(self) -> Vec<KeyValue> {
        self.all
    }
}

/// What of a text is sent. Secrets are out of it already: half of one would not be found.
pub fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    if end == text.len() { text.to_owned() } else { format!("{}…", &text[..end]) }
}
