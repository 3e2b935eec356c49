//! Texts and documents.

use arrow::array::StringArray;
use serde_json::value::RawValue;

/// Whether any text of the column has a byte that can't stand in a JSON string as it is. Nulls may hide one: no harm.
pub fn needs_escapes(texts: &StringArray) -> bool {
    let offsets = texts.value_offsets();
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return false };
    let range = usize::try_from(*first).unwrap_or(0)..usize::try_from(*last).unwrap_or(0);
    // Without an early end inside a part, so that many bytes are compared at once.
    texts.values()[range].chunks(4_096).any(|part| part.iter().fold(false, |found, b| found | is_special(*b)))
}

fn is_special(byte: u8) -> bool {
    matches!(byte, 0..b' ' | b'"' | b'\\')
}

/// Appends a text as a JSON string.
pub fn write(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(i) = rest.iter().position(|b| is_special(*b)) {
        out.extend_from_slice(&rest[..i]);
        escape(rest[i], out);
        rest = &rest[i + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cold]
fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        8 => b'b',
        12 => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => byte,
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a JSON document, on one line; a text that is none is written as the text it is.
pub fn write_document(text: &str, out: &mut Vec<u8>) {
    if serde_json::from_str::<&RawValue>(text).is_err() {
        write(text, out);
        return;
    }
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if !text.contains(['\n', '\r']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    // Line ends can stand between values only, where any space can be left out.
    let (mut in_text, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b' ' | b'\t' | b'\r' | b'\n' if !in_text => continue,
            _ => {}
        }
        out.push(byte);
    }
}
