//! What a step gives, checked before it counts.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::spec::output::Output;

/// What the results of a step are made into, and must fit.
#[derive(Clone)]
pub(super) struct Checked(Output);

impl Checked {
    pub(super) fn of(output: &Output) -> Self {
        Self(output.clone())
    }

    /// What counts of what a step gave: of that as it is, or of the JSON document that is in a text.
    ///
    /// # Errors
    /// Transient, since who is asked again may well say something better.
    pub(super) fn check(&self, given: Value) -> Result<Value> {
        let within = given.as_str().and_then(document);
        let whole = self.0.make(given).and_then(|made| self.fits(made));
        match (whole, within) {
            (Err(_), Some(document)) => self.0.make(document).and_then(|made| self.fits(made)),
            (whole, _) => whole,
        }
        .map_err(Error::transient)
    }

    /// The same of what was made before.
    ///
    /// # Errors
    /// When it does not fit.
    pub(super) fn fits(&self, made: Value) -> Result<Value> {
        let faults = self.0.faults(&made);
        if faults.is_empty() {
            return Ok(made);
        }
        Err(Error::validation(format!("the results do not fit `output.schema`: {}", faults.join("; "))))
    }
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

    fn checked(output: &Value) -> Checked {
        Checked::of(&serde_json::from_value(output.clone()).unwrap())
    }

    #[test]
    fn what_is_made_of_results_is_what_is_checked() {
        let schema = json!({ "type": "integer" });
        let made = checked(&json!({ "as": "${ .n | tonumber }", "schema": schema }));
        assert_eq!(made.check(json!({ "n": "7" })).unwrap(), 7);
        assert_eq!(made.check("Here: {\"n\": \"7\"}".into()).unwrap(), 7);
        let told = |given: Value| made.check(given).unwrap_err();
        assert!(told(json!({ "n": "1.5" })).to_string().contains("1.5 is not of type \"integer\""));
        let e = told("seven".into());
        assert!(e.to_string().starts_with("`output.as` can't be made: `${.n | tonumber}`: "), "{e}");
        assert_eq!((e.class(), e.retry()), ("validation", crate::error::Retry::Soon));
        let shape = checked(&json!({ "as": { "of": ["${ .a }", "$", 1], "all": "${.}" } }));
        assert_eq!(shape.check(json!({ "a": 2 })).unwrap(), json!({ "of": [2, "$", 1], "all": { "a": 2 } }));
    }

    #[test]
    fn what_fits_is_kept_and_a_document_in_a_text_is_taken_out() {
        let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
        let checked = checked(&json!({ "schema": schema }));
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
        let checked = checked(&json!({ "schema": { "type": "string", "minLength": 3 } }));
        assert_eq!(checked.check("[1]".into()).unwrap(), json!("[1]"));
        assert!(checked.check("[]".into()).is_err());
    }
}
