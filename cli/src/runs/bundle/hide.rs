//! Marks in the place of what nobody is to see: in texts, and in the texts of JSON.

use bourn_engine::data::secret::{Origin, Secret, Secrets};
use bourn_engine::spec::{Disclosure, Loaded, is_credential};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// What is hidden.
pub(super) struct Hidden(Secrets);

impl Hidden {
    /// The values of a spec, what stood in it, and variables of this process that are called like credentials.
    pub(super) fn of(loaded: &Loaded, disclosure: &Disclosure) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            is_credential(&name).then(|| (format!("${{env.{name}}}"), Origin::Environment, Secret::new(value)))
        });
        Self(loaded.document.secrets().and(&disclosure.secrets()).and(&Secrets::new(variables)))
    }

    /// A text.
    pub(super) fn shown(&self, text: &str) -> String {
        self.0.mark(text).into_owned()
    }

    /// The same as bytes.
    pub(super) fn text(&self, text: &str) -> Vec<u8> {
        self.shown(text).into_bytes()
    }

    /// JSON, with a line's end.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<Vec<u8>, Failure> {
        let failed = |e: serde_json::Error| Failure::Failed(e.into());
        let value = serde_json::to_value(value).map_err(failed)?;
        let mut bytes = serde_json::to_vec_pretty(&self.value(value)).map_err(failed)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// JSON that stays as it is written where nothing is hidden in it.
    pub(super) fn raw(&self, text: &str) -> Result<Box<RawValue>, Failure> {
        RawValue::from_string(marked(&self.0, text.to_owned())).map_err(|e| Failure::Failed(e.into()))
    }

    fn value(&self, value: Value) -> Value {
        value_of(&self.0, value)
    }
}

/// A text of JSON with marks.
pub(crate) fn marked(secrets: &Secrets, text: String) -> String {
    if secrets.mark(&text) == text {
        return text;
    }
    // What is no JSON is no text of JSON either.
    serde_json::from_str(&text).map_or_else(|_| secrets.mark(&text).into_owned(), |v| value_of(secrets, v).to_string())
}

fn value_of(secrets: &Secrets, value: Value) -> Value {
    let text = |text: String| match serde_json::from_str::<Value>(&text) {
        // JSON in a text, such as an input.
        Ok(inner @ (Value::Object(_) | Value::Array(_))) if secrets.mark(&text) != text => {
            value_of(secrets, inner).to_string()
        }
        _ => secrets.mark(&text).into_owned(),
    };
    match value {
        Value::String(value) => Value::String(text(value)),
        Value::Array(elements) => elements.into_iter().map(|value| value_of(secrets, value)).collect(),
        Value::Object(members) => {
            let marked = |(name, value): (String, Value)| (secrets.mark(&name).into_owned(), value_of(secrets, value));
            Value::Object(members.into_iter().map(marked).collect())
        }
        Value::Number(number) => {
            // A part of a number is no value of anything.
            let shown = secrets.mark(&number.to_string()).into_owned();
            if shown.starts_with('<') && shown.ends_with('>') { Value::String(shown) } else { Value::Number(number) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_json_whatever_is_hidden_in_it() {
        let secrets = Secrets::new([
            ("${env.PORT}".to_owned(), Origin::Environment, Secret::new("15432")),
            ("${secret.T}".to_owned(), Origin::Secret, Secret::new("c4nary\"")),
        ]);
        let text =
            r#"{"port":15432,"longer":1154321,"c4nary\"":["say c4nary\" twice"],"input":"{\"a\":\"c4nary\\\"\"}"}"#;
        let shown = marked(&secrets, text.to_owned());
        assert_eq!(
            shown,
            r#"{"port":"<env.PORT>","longer":1154321,"<secret.T>":["say <secret.T> twice"],"input":"{\"a\":\"<secret.T>\"}"}"#
        );
        let plain = r#"{"a": 1.50, "b": 12345678901234567890123}"#;
        assert_eq!(marked(&secrets, plain.to_owned()), plain);
    }
}
