//! Expressions in jq: what a place `${…}` holds that is no plain path.

mod reads;

use std::fmt;
use std::sync::Arc;

use jaq_core::load::{Arena, File, Loader};
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::{Compiler, Ctx, Filter, Vars, data, unwrap_valr};
use jaq_json::{Val, read};
use jaq_std::ValT as _;
use serde_json::Value;

use crate::error::{Error, Result};
pub use reads::{Reads, Way};

/// What an expression must not ask: the world around it.
const REFUSED: [&str; 6] = ["env", "now", "input", "debug_empty", "stderr_empty", "halt"];

/// What is done here in their place.
const OURS: &str = "fromjson";

const DEFINED_BY_THEM: [&str; 7] = ["halt", "halt_error", "debug", "stderr", "inputs", "input_line_number", "now"];

type Compiled = Filter<data::JustLut<Val>>;

/// A program of jq that makes one value of another. It sees nothing else.
#[derive(Clone)]
pub struct Program {
    text: String,
    filter: Arc<Compiled>,
    reads: Arc<Reads>,
}

impl Program {
    /// Reads a program.
    ///
    /// # Errors
    /// What is wrong with it, and from which byte on as far as that is known.
    pub fn parse(text: &str) -> Result<Self, (String, usize)> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let funs = funs.filter(|(name, ..)| !REFUSED.contains(name) && *name != OURS).chain([from_json()]);
        // What is defined by them goes too.
        let defs = defs.filter(|def| !DEFINED_BY_THEM.contains(&def.name));
        let arena = Arena::default();
        let at = |part: &str| (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize).min(text.len());
        let modules = Loader::new(defs).load(&arena, File { code: text, path: () }).map_err(|faults| {
            let fault = faults.into_iter().next().map(|(_, fault)| fault);
            match fault {
                Some(jaq_core::load::Error::Parse(faults)) => {
                    let first = faults.into_iter().next();
                    first.map_or(("is no jq".to_owned(), 0), |(wanted, found)| {
                        (format!("is no jq: {} expected", wanted.as_str()), at(found))
                    })
                }
                Some(jaq_core::load::Error::Lex(faults)) => {
                    let first = faults.into_iter().next();
                    first.map_or(("is no jq".to_owned(), 0), |(wanted, found)| {
                        (format!("is no jq: {} expected", wanted.as_str()), at(found))
                    })
                }
                _ => ("can't be read as jq: modules are not available".to_owned(), 0),
            }
        })?;
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|faults| {
            let first = faults.into_iter().flat_map(|(_, faults)| faults).next();
            first.map_or(("is no jq".to_owned(), 0), |(name, what)| {
                (format!("has no {} `{name}` to use", what.as_str()), at(name))
            })
        })?;
        Ok(Self { text: text.to_owned(), filter: Arc::new(filter), reads: Arc::new(Reads::of(text)) })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value that it makes of this JSON document.
    ///
    /// # Errors
    /// When it fails, or makes none, or several.
    pub fn value(&self, input: &str) -> Result<Value> {
        let failed = |what: String| Error::validation(format!("`${{{}}}`: {what}", self.text.trim()));
        let input = read::parse_single(input.as_bytes()).map_err(|e| failed(e.to_string()))?;
        let context = Ctx::<data::JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let mut values = self.filter.id.run((context, input)).map(unwrap_valr);
        let value =
            values.next().ok_or_else(|| failed("it has no value".into()))?.map_err(|e| failed(e.to_string()))?;
        match values.next() {
            None => {}
            Some(Ok(_)) => {
                return Err(failed(
                    "it has several values: `[ … ]` makes them a list, and `first( … )` takes one".into(),
                ));
            }
            Some(Err(e)) => return Err(failed(e.to_string())),
        }
        serde_json::from_str(&value.to_string()).map_err(|_| failed(format!("{value} is no value of JSON")))
    }

    /// What it reads of its input.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }
}

/// `fromjson`, which reads one document. Theirs has a frame on the stack for each level of it, of a text that may come from anywhere: this
/// one says that a text is too deep, as everything else here that reads JSON does.
fn from_json() -> Fun<data::JustLut<Val>> {
    run((OURS, v(0), |(_, value)| {
        let read = |text: &[u8]| {
            serde_json::from_slice::<Value>(text).map_err(|e| e.to_string())?;
            read::parse_single(text).map_err(|e| e.to_string())
        };
        bome(match value.try_as_utf8_bytes() {
            Ok(text) => read(text).map_err(|why| jaq_core::Error::str(format_args!("no JSON: {why}"))),
            Err(e) => Err(e),
        })
    }))
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.text).finish()
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_program_makes_a_value_of_a_document_and_sees_nothing_else() {
        let first = |text: &str, input: Value| {
            Program::parse(text)
                .map_err(|(e, _)| e)
                .and_then(|p| p.value(&input.to_string()).map_err(|e| e.to_string()))
        };
        let row = json!({"input": {"lang": "python", "n": 3}, "a": {"results": [1, 2, 3]}});
        assert_eq!(first(".input.lang == \"python\"", row.clone()), Ok(json!(true)));
        assert_eq!(first(".a.results | map(select(. > 1)) | length", row.clone()), Ok(json!(2)));
        assert_eq!(first("{n: .input.n, big: (.input.n * 1.5)}", row.clone()), Ok(json!({"n": 3, "big": 4.5})));
        assert_eq!(first(".nothing.at.all", row.clone()), Ok(Value::Null));
        assert_eq!(first("[.a.results[] | . + 1]", row.clone()), Ok(json!([2, 3, 4])));
        assert_eq!(first("first(.a.results[])", row.clone()), Ok(json!(1)));
        assert!(first(".a.results[]", row.clone()).unwrap_err().contains("it has several values: `[ … ]`"));
        assert!(first("1, error(\"x\")", row.clone()).is_err());
        assert_eq!(first("empty", row.clone()), Err("`${empty}`: it has no value".into()));
        let wrong = first(".input + 1", row.clone()).unwrap_err();
        assert!(wrong.starts_with("`${.input + 1}`: "), "{wrong}");
        for world in ["env", "$ENV", "input", "halt", "now"] {
            assert!(first(world, row.clone()).is_err(), "{world}");
        }
    }

    #[test]
    fn a_text_may_hold_any_document_and_one_that_is_too_deep_is_an_error() {
        let program = Program::parse(". | fromjson").map_err(|(e, _)| e).unwrap();
        let read = |text: &str| program.value(&json!(text).to_string()).map_err(|e| e.to_string());
        assert_eq!(read(r#" {"a": [1, 2.5, "x", null]} "#), Ok(json!({"a": [1, 2.5, "x", null]})));
        for wrong in [&*"[".repeat(1_000_000), "[1] [2]", "", "nope"] {
            let told = read(wrong).unwrap_err();
            assert!(told.contains("no JSON: "), "{told}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&deep).unwrap_err().contains("recursion limit exceeded"));
    }

    #[test]
    fn what_is_no_program_is_told_with_its_place() {
        let (what, at) = Program::parse(".a | nope(1)").unwrap_err();
        assert_eq!((what.as_str(), at), ("has no filter `nope` to use", 5));
        assert!(Program::parse(".a | ").is_err());
        assert!(Program::parse(".a == \"x").is_err());
    }
}
