//! Spaces and strings.

use std::ops::Range;

/// A string, and where what follows it begins.
#[derive(Debug, PartialEq)]
pub enum Text {
    /// Without escapes: it stands in the line as it is.
    Plain(Range<usize>, usize),
    /// With an escape; the range up to its first.
    Escaped(Range<usize>),
}

/// Where the next byte is that is no space.
#[inline]
pub fn space(line: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = line.get(at) {
        at += 1;
    }
    at
}

/// Whether a value may end here.
#[inline]
pub fn ends_value(line: &[u8], at: usize) -> bool {
    matches!(line.get(at), Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\r'))
}

/// The string whose opening quote stands at `at`.
#[inline]
pub fn string(line: &[u8], at: usize) -> Option<Text> {
    if *line.get(at)? != b'"' {
        return None;
    }
    let begin = at + 1;
    let end = begin + memchr::memchr2(b'"', b'\\', line.get(begin..)?)?;
    Some(if line[end] == b'"' { Text::Plain(begin..end, end + 1) } else { Text::Escaped(begin..end) })
}

/// Appends the rest of a string, from the backslash at `at` on; returns where what follows it begins.
#[cold]
pub fn unescape(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        // At a backslash.
        let escaped = match *line.get(at + 1)? {
            b'u' => {
                let digits = std::str::from_utf8(line.get(at + 2..at + 6)?).ok()?;
                let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
                // Half of a surrogate pair is no character by itself; the other way has its rule for them.
                let c = char::from_u32(u32::from_str_radix(digits, 16).ok().filter(|_| plain)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += 6;
                None
            }
            b'b' => Some(8),
            b'f' => Some(12),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            other @ (b'"' | b'\\' | b'/') => Some(other),
            _ => return None,
        };
        if let Some(byte) = escaped {
            out.push(byte);
            at += 2;
        }
        let rest = line.get(at..)?;
        let end = memchr::memchr2(b'"', b'\\', rest)?;
        out.extend_from_slice(&rest[..end]);
        at += end;
        if rest[end] == b'"' {
            return Some(at + 1);
        }
    }
}
