//! Where a record of CSV and its fields end.

use std::borrow::Cow;

use super::dialect::Dialect;

/// A field of a text.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    begin: u32,
    end: u32,
    pub form: Form,
}

/// How a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Bare,
    /// Between quotes, which are not part of the span.
    Quoted,
    /// Between quotes, with doubled ones inside.
    Doubled,
}

impl Span {
    fn new(begin: usize, end: usize, form: Form) -> Self {
        let narrow = |at: usize| u32::try_from(at).expect("a text is far shorter than 4 GiB");
        Self { begin: narrow(begin), end: narrow(end), form }
    }

    /// The bytes of the field as they are written.
    pub fn bytes(self, text: &[u8]) -> &[u8] {
        &text[self.begin as usize..self.end as usize]
    }

    /// The value of the field.
    pub fn value(self, text: &[u8], quote: u8) -> Cow<'_, [u8]> {
        let bytes = self.bytes(text);
        if self.form != Form::Doubled {
            return Cow::Borrowed(bytes);
        }
        let (mut value, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
        while let Some(at) = memchr::memchr(quote, rest) {
            value.extend_from_slice(&rest[..=at]);
            rest = &rest[at + 2..];
        }
        value.extend_from_slice(rest);
        Cow::Owned(value)
    }
}

/// What begins at a place of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A record of so many fields; it ends before `end`, its line end included.
    Whole { end: usize, fields: usize, lines: u64 },
    /// A quote of this field, from 0, has no end in the text.
    Open { field: usize },
    /// Something stands behind the closing quote of this field.
    Trailing { field: usize },
}

/// Reads the record at `begin`, which lies before the end of the text, and appends those of its fields that are wanted.
/// A field beyond `wanted` is counted alone.
pub fn read(text: &[u8], begin: usize, dialect: &Dialect, wanted: &[bool], spans: &mut Vec<Span>) -> Record {
    let delimiter = dialect.delimiter;
    let (mut at, mut fields, mut lines) = (begin, 0, 1);
    loop {
        let form;
        let (from, to);
        if dialect.quote.is_some() && text.get(at).copied() == dialect.quote {
            from = at + 1;
            match closing(text, from, text[at]) {
                None => return Record::Open { field: fields },
                Some((end, doubled)) => {
                    (to, at) = (end, end + 1);
                    form = if doubled { Form::Doubled } else { Form::Quoted };
                }
            }
            lines += memchr::memchr_iter(b'\n', &text[from..to]).count() as u64;
            if text[at..].starts_with(b"\r\n") || &text[at..] == b"\r" {
                at += 1;
            }
            if text.get(at).is_some_and(|b| *b != delimiter && *b != b'\n') {
                return Record::Trailing { field: fields };
            }
        } else {
            form = Form::Bare;
            from = at;
            let rest = &text[at..];
            at += rest.iter().position(|b| *b == delimiter || *b == b'\n').unwrap_or(rest.len());
            let at_end = text.get(at).is_none_or(|b| *b == b'\n');
            to = at - usize::from(at_end && at > from && text[at - 1] == b'\r');
        }
        if wanted.get(fields).copied().unwrap_or(false) {
            spans.push(Span::new(from, to, form));
        }
        fields += 1;
        match text.get(at) {
            Some(b) if *b == delimiter => at += 1,
            Some(_) => return Record::Whole { end: at + 1, fields, lines },
            None => return Record::Whole { end: at, fields, lines },
        }
    }
}

/// Where a quoted field ends, and whether there are doubled quotes before.
fn closing(text: &[u8], from: usize, quote: u8) -> Option<(usize, bool)> {
    let (mut at, mut doubled) = (from, false);
    loop {
        at += memchr::memchr(quote, &text[at..])?;
        if text.get(at + 1) != Some(&quote) {
            return Some((at, doubled));
        }
        doubled = true;
        at += 2;
    }
}

/// The end of the line at `begin`, its `\n` included.
pub fn line_end(text: &[u8], begin: usize) -> usize {
    memchr::memchr(b'\n', &text[begin..]).map_or(text.len(), |i| begin + i + 1)
}
