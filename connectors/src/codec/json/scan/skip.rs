//! Values that nobody asked for.

use super::text::{Text, ends_value, space, string, unescape};
use crate::codec::json::row::DEPTH_MAX;

/// Where the value at `at` ends. It must be well formed: a line with a fault in it is no row, wherever the fault is.
pub fn skip(line: &[u8], mut at: usize) -> Option<usize> {
    // A bit for each open bracket, from the outermost on: 1 for an object.
    let (mut open, mut depth) = (0_u128, 0_usize);
    loop {
        match *line.get(at)? {
            bracket @ (b'{' | b'[') => {
                // The object around everything counts too.
                if depth + 2 > DEPTH_MAX {
                    return None;
                }
                let object = bracket == b'{';
                (open, depth) = (open << 1 | u128::from(object), depth + 1);
                at = space(line, at + 1);
                let empty = *line.get(at)? == if object { b'}' } else { b']' };
                if !empty {
                    if object {
                        at = key(line, at)?;
                    }
                    continue;
                }
                (open, depth, at) = (open >> 1, depth - 1, at + 1);
            }
            _ => at = scalar(line, at)?,
        }
        // Behind a value: close what ends here, up to the next one.
        loop {
            if depth == 0 {
                return Some(at);
            }
            let object = open & 1 == 1;
            at = space(line, at);
            match *line.get(at)? {
                b',' => {
                    at = space(line, at + 1);
                    if object {
                        at = key(line, at)?;
                    }
                    break;
                }
                b'}' if object => {}
                b']' if !object => {}
                _ => return None,
            }
            (open, depth, at) = (open >> 1, depth - 1, at + 1);
        }
    }
}

/// Where the value of the key at `at` begins.
fn key(line: &[u8], at: usize) -> Option<usize> {
    let colon = space(line, text(line, at)?);
    (*line.get(colon)? == b':').then(|| space(line, colon + 1))
}

fn text(line: &[u8], at: usize) -> Option<usize> {
    match string(line, at)? {
        Text::Plain(_, end) => Some(end),
        Text::Escaped(before) => unescape(line, before.end, &mut Vec::new()),
    }
}

fn scalar(line: &[u8], at: usize) -> Option<usize> {
    let end = match *line.get(at)? {
        b'"' => return text(line, at),
        b't' => literal(line, at, b"true")?,
        b'f' => literal(line, at, b"false")?,
        b'n' => literal(line, at, b"null")?,
        _ => number(line, at)?,
    };
    ends_value(line, end).then_some(end)
}

/// Where the literal that must stand at `at` ends.
#[inline]
pub fn literal(line: &[u8], at: usize, literal: &[u8]) -> Option<usize> {
    line.get(at..)?.starts_with(literal).then_some(at + literal.len())
}

/// Where the number at `at` ends, by the grammar of JSON.
pub fn number(line: &[u8], mut at: usize) -> Option<usize> {
    let digits = |mut at: usize| {
        let begin = at;
        while line.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        (at > begin).then_some(at)
    };
    if line.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if line.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if line.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = line.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = line.get(at) {
            at += 1;
        }
        at = digits(at)?;
    }
    Some(at)
}
