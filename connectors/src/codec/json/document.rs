//! One JSON document with rows in it: the rows as lines, and single values by their pointer (RFC 6901).

use std::borrow::Cow;
use std::collections::HashMap;

use bourn_engine::{Error, Result};
use serde_json::value::RawValue;

use crate::codec::lines::{is_blank, split};

/// How much of a document is shown in an error, in bytes.
const SHOWN: usize = 80;

/// The way to a value in a document: `/data/items`; the empty one is the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Reads a pointer.
    ///
    /// # Errors
    /// When it is not empty and does not begin with `/`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("`{text}` is no JSON pointer: it begins with `/`, as `/data/items` does"));
        };
        Ok(Self(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()))
    }

    /// The value that it leads to; `None` when there is none.
    fn find<'a>(&self, mut at: &'a RawValue) -> Result<Option<&'a RawValue>> {
        for token in &self.0 {
            let found = match at.get().as_bytes().first() {
                Some(b'{') => {
                    let mut members: HashMap<Cow<'_, str>, &'a RawValue> = serde_json::from_str(at.get())?;
                    members.remove(token.as_str())
                }
                Some(b'[') => {
                    let elements: Vec<&'a RawValue> = serde_json::from_str(at.get())?;
                    token.parse().ok().and_then(|i: usize| elements.get(i).copied())
                }
                _ => None,
            };
            let Some(found) = found else { return Ok(None) };
            at = found;
        }
        Ok(Some(at))
    }
}

/// A document that was read.
#[derive(Debug)]
pub struct Document<'a>(&'a RawValue);

impl<'a> Document<'a> {
    /// The document that `text` is.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &'a [u8]) -> Result<Self> {
        serde_json::from_slice(text).map(Self).map_err(|e| {
            let begin = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]).into_owned();
            Error::validation(format!("no JSON document: {e}; it begins with `{begin}`"))
        })
    }

    /// The text or number at a pointer; `None` when there is none, or a null, a false, or an empty text.
    ///
    /// # Errors
    /// When there is something else.
    pub fn token(&self, pointer: &Pointer) -> Result<Option<String>> {
        let Some(found) = pointer.find(self.0)? else { return Ok(None) };
        match serde_json::from_str(found.get())? {
            serde_json::Value::Null | serde_json::Value::Bool(false) => Ok(None),
            serde_json::Value::String(text) => Ok(Some(text).filter(|t| !t.is_empty())),
            serde_json::Value::Number(number) => Ok(Some(number.to_string())),
            _ => Err(Error::validation("is neither a text nor a number")),
        }
    }

    /// The rows at a pointer, as lines: the elements of an array, or the one object. A null has none.
    ///
    /// # Errors
    /// When there is nothing there, or something else.
    pub fn lines(&self, pointer: &Pointer) -> Result<Vec<u8>> {
        let nothing = || Error::validation(format!("the document has nothing at `/{}`", pointer.0.join("/")));
        let found = pointer.find(self.0)?.ok_or_else(nothing)?;
        let mut out = Vec::with_capacity(found.get().len() + 1);
        match found.get().as_bytes().first() {
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(found.get())?;
                for element in elements {
                    line(element, &mut out);
                }
            }
            Some(b'{') => line(found, &mut out),
            Some(b'n') => {}
            _ => return Err(Error::validation("rows are an array or an object, and the document has something else")),
        }
        Ok(out)
    }
}

/// A value as one line: within a text a line end is written as `\n`, so those that there are stand between values.
fn line(value: &RawValue, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(value.get().as_bytes());
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.push(b'\n');
}

/// The rows of a text that is one document or JSON lines, as lines.
///
/// # Errors
/// When it is neither: not one document, and its first line is none either.
pub fn rows(text: Vec<u8>) -> Result<Vec<u8>> {
    let error = match Document::read(&text) {
        Ok(document) => return document.lines(&Pointer::default()),
        Err(error) => error,
    };
    let first = split(&text).map(|range| &text[range]).find(|line| !is_blank(line));
    match first {
        None => Ok(Vec::new()),
        Some(first) if serde_json::from_slice::<&RawValue>(first).is_ok() => Ok(text),
        Some(_) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &str, pointer: &str) -> Result<String, String> {
        let told = |e: Error| e.message().to_owned();
        let document = Document::read(text.as_bytes()).map_err(told)?;
        let lines = document.lines(&Pointer::parse(pointer)?).map_err(told)?;
        Ok(String::from_utf8(lines).unwrap())
    }

    #[test]
    fn rows_are_found_where_the_pointer_leads() {
        assert_eq!(lines("[{\"a\":\n1},{}]", "").unwrap(), "{\"a\": 1}\n{}\n");
        assert_eq!(lines(r#"{"data":[0,{"x/y":[{"a":1.50}]}]}"#, "/data/1/x~1y").unwrap(), "{\"a\":1.50}\n");
        assert_eq!(lines(r#"{"a":{"b":1}}"#, "/a").unwrap(), "{\"b\":1}\n");
        assert_eq!(lines(r#"{"a":null}"#, "/a").unwrap(), "");
        assert_eq!(lines(r#"{"a":1}"#, "/b/c").unwrap_err(), "the document has nothing at `/b/c`");
        assert!(lines(r#"{"a":1}"#, "/a").unwrap_err().contains("something else"));
        assert!(lines("<html>", "").unwrap_err().contains("it begins with `<html>`"));
        assert!(Pointer::parse("data").unwrap_err().contains("begins with `/`"));
    }

    #[test]
    fn a_token_is_a_text_or_a_number_and_may_be_missing() {
        let token = |text: &str| {
            Document::read(text.as_bytes()).unwrap().token(&Pointer::parse("/next").unwrap()).map_err(|_| ())
        };
        assert_eq!(token(r#"{"next":"a b"}"#), Ok(Some("a b".into())));
        assert_eq!(token(r#"{"next":12345678901234567890}"#), Ok(Some("12345678901234567890".into())));
        for none in [r#"{"next":null}"#, r#"{"next":""}"#, r#"{"next":false}"#, "{}", "[]"] {
            assert_eq!(token(none), Ok(None), "{none}");
        }
        assert_eq!(token(r#"{"next":{}}"#), Err(()));
    }

    #[test]
    fn a_text_is_one_document_or_lines_and_nothing_else() {
        let rows = |text: &str| rows(text.into()).map(|r| String::from_utf8(r).unwrap()).map_err(|e| e.to_string());
        assert_eq!(rows("{\n \"a\": 1\n}").unwrap(), "{  \"a\": 1 }\n");
        assert_eq!(rows("{\"a\":1}\n{\"a\":\n").unwrap(), "{\"a\":1}\n{\"a\":\n");
        assert_eq!(rows(" \n").unwrap(), "");
        assert!(rows("[{\"a\":1},").unwrap_err().contains("no JSON document"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_rows_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _rows_or_error = rows(bytes);
        }

        #[test]
        fn no_element_is_lost(elements in proptest::collection::vec("[a-z\n\"\\\\]{0,8}", 0..20)) {
            let text = serde_json::to_string_pretty(&elements).unwrap();
            let found = rows(text.into_bytes()).unwrap();
            let read: Vec<String> = split(&found).map(|r| serde_json::from_slice(&found[r]).unwrap()).collect();
            prop_assert_eq!(read, elements);
        }
    }
}
