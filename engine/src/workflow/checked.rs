//! What a step gives, checked before it counts.

use std::sync::Arc;

use serde_json::Value;

use super::admit::faults;
use crate::error::{Error, Result};

/// A JSON Schema that the results of a step fit.
#[derive(Clone)]
pub(super) struct Checked(Arc<jsonschema::Validator>);

impl Checked {
    /// One that was read from a spec.
    ///
    /// # Errors
    /// When it is none after all.
    pub(super) fn of(schema: &Value) -> Result<Self> {
        let schema = jsonschema::validator_for(schema);
        Ok(Self(Arc::new(schema.map_err(|e| Error::validation(format!("the schema of the output: {e}")))?)))
    }

    /// The results, if they fit: as they are, or the JSON document that is in a text.
    ///
    /// # Errors
    /// Transient, since who is asked again may well say something better.
    pub(super) fn check(&self, results: Value) -> Result<Value> {
        let faults = faults(&self.0, &results);
        if faults.is_empty() {
            return Ok(results);
        }
        let within = results.as_str().and_then(document);
        let Some(document) = within else { return Err(wrong(&faults)) };
        match self::faults(&self.0, &document) {
            faults if faults.is_empty() => Ok(document),
            faults => Err(wrong(&faults)),
        }
    }
}

fn wrong(faults: &[String]) -> Error {
    Error::validation(format!("the results do not fit `output.schema`: {}", faults.join("; "))).transient()
}

/// The JSON document in a text: models like to put it into a fence, or some words around it.
fn document(text: &str) -> Option<Value> {
    let begin = text.find(['{', '['])?;
    let close = if text[begin..].starts_with('{') { '}' } else { ']' };
    let end = text.rfind(close).filter(|end| *end > begin)?;
    serde_json::from_str(text.trim()).or_else(|_| serde_json::from_str(&text[begin..=end])).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_fits_is_kept_and_a_document_in_a_text_is_taken_out() {
        let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
        let checked = Checked::of(&schema).unwrap();
        let good = json!({ "n": 1 });
        for text in ["{\"n\": 1}", " {\"n\": 1}\n", "```json\n{\"n\": 1}\n```", "Here it is: {\"n\": 1}. Good luck!"] {
            assert_eq!(checked.check(text.into()).unwrap(), good, "{text}");
        }
        assert_eq!(checked.check(good.clone()).unwrap(), good);
        let told = |value: Value| checked.check(value).unwrap_err().to_string();
        assert_eq!(
            told(json!({ "n": "one" })),
            "the results do not fit `output.schema`: /n: \"one\" is not of type \"integer\""
        );
        assert!(told("{\"m\": 1}".into()).ends_with("\"n\" is a required property"), "{}", told("{\"m\": 1}".into()));
        for rubbish in ["no document", "}{", "{", "{\"n\": 1", ""] {
            assert!(told(rubbish.into()).contains("is not of type \"object\""), "{rubbish}");
        }
    }

    #[test]
    fn a_text_that_is_wanted_stays_one() {
        let checked = Checked::of(&json!({ "type": "string", "minLength": 3 })).unwrap();
        assert_eq!(checked.check("[1]".into()).unwrap(), json!("[1]"));
        assert!(checked.check("[]".into()).is_err());
    }
}
