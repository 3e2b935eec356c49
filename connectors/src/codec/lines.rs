//! Bytes that come in pieces, handed out as whole lines.

use bourn_engine::Error;

/// The longest line that is read, in bytes without its end. A longer one is passed over and told as a fault.
pub const LINE_MAX: usize = 16 << 20;
/// How much is read at once, in bytes: about 8,192 rows of JSON.
pub const BLOCK: usize = 2 << 20;
/// How much of an overlong line is kept to show.
const SHOWN: usize = 256;

/// What some editors write before a text in UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Collects bytes and hands out whole lines. It holds at most one block beside a line of [`LINE_MAX`].
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// The bytes not taken yet are `bytes[begin..end]`; those before `whole` are whole lines.
    begin: usize,
    end: usize,
    whole: usize,
    ended: bool,
    passing_over: Option<Overlong>,
    place: Place,
}

/// Where a line begins in its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// In bytes from the beginning.
    pub offset: u64,
    /// How many lines lie before it.
    pub line: u64,
}

/// What the buffer hands out.
#[derive(Debug, PartialEq)]
pub enum Piece<'a> {
    /// One or more whole lines with their ends; the last of the input may lack its own.
    Lines(&'a [u8]),
    /// A line longer than [`LINE_MAX`], which was passed over.
    Overlong(Overlong),
}

/// A line that was too long to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlong {
    /// Its first bytes.
    pub shown: Vec<u8>,
    /// Its length in bytes, with its end.
    pub length: u64,
    done: bool,
}

impl LineBuffer {
    /// A buffer whose first byte lies at `place`.
    pub fn at(place: Place) -> Self {
        Self { place, ..Self::default() }
    }

    /// Where the next line begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Whether everything was handed out and consumed.
    pub fn is_done(&self) -> bool {
        self.ended && self.begin == self.end && self.passing_over.is_none()
    }

    /// Whether the end of the input was met.
    pub fn is_read(&self) -> bool {
        self.ended
    }

    /// How many bytes are at hand, those of an unfinished line included.
    pub fn held(&self) -> usize {
        self.end - self.begin
    }

    /// The place to read into, at least `room` bytes; tell [`filled`](Self::filled) how many came.
    pub fn space(&mut self, room: usize) -> &mut [u8] {
        if self.begin > 0 {
            self.bytes.copy_within(self.begin..self.end, 0);
            self.whole -= self.begin;
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.bytes.len() < self.end + room {
            self.bytes.resize(self.end + room, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Notes that `count` bytes were read into the space; 0 is the end of the input.
    pub fn filled(&mut self, count: usize) {
        if count == 0 {
            self.ended = true;
            self.whole = self.end;
            if let Some(long) = &mut self.passing_over {
                long.done = true;
            }
            return;
        }
        let new = self.end..self.end + count;
        self.end = new.end;
        if let Some(long) = self.passing_over.as_mut().filter(|l| !l.done) {
            let found = memchr::memchr(b'\n', &self.bytes[new.clone()]);
            let skipped = found.map_or(count, |i| i + 1);
            long.length += skipped as u64;
            long.done = found.is_some();
            self.begin = new.start + skipped;
            self.whole = self.begin;
        }
        let rest = new.start.max(self.begin);
        if let Some(i) = memchr::memrchr(b'\n', &self.bytes[rest..self.end]) {
            self.whole = rest + i + 1;
        } else if self.whole <= self.begin && self.end - self.begin > LINE_MAX {
            let shown = self.bytes[self.begin..self.begin + SHOWN].to_vec();
            let length = (self.end - self.begin) as u64;
            self.passing_over = Some(Overlong { shown, length, done: false });
            (self.begin, self.whole) = (self.end, self.end);
        }
    }

    /// The whole lines at hand; `None` when more must be read first, or nothing is left. Follow it with
    /// [`consume`](Self::consume).
    pub fn piece(&mut self) -> Option<Piece<'_>> {
        if self.passing_over.as_ref().is_some_and(|long| long.done) {
            return self.passing_over.take().map(Piece::Overlong);
        }
        let marked = self.place.offset == 0 && self.bytes[self.begin..self.whole].starts_with(BYTE_ORDER_MARK);
        if marked {
            self.begin += BYTE_ORDER_MARK.len();
            self.place.offset += BYTE_ORDER_MARK.len() as u64;
        }
        (self.begin < self.whole).then(|| Piece::Lines(&self.bytes[self.begin..self.whole]))
    }

    /// Notes that `bytes` of the lines handed out, which are `lines` lines, were worked.
    pub fn consume(&mut self, bytes: usize, lines: u64) {
        self.begin += bytes;
        self.pass(bytes as u64, lines);
    }

    /// Notes that an overlong line was told.
    pub fn consume_overlong(&mut self, long: &Overlong) {
        self.pass(long.length, 1);
    }

    /// Hands an overlong line out again.
    pub fn put_back(&mut self, long: Overlong) {
        self.passing_over = Some(long);
    }

    fn pass(&mut self, bytes: u64, lines: u64) {
        self.place.offset += bytes;
        self.place.line += lines;
    }
}

/// The lines of a text with the range of each, without its end (`\n` or `\r\n`).
pub fn split(text: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        if begin >= text.len() {
            return None;
        }
        let end = memchr::memchr(b'\n', &text[begin..]).map_or(text.len(), |i| begin + i);
        let line = begin..end - usize::from(end > begin && text[end - 1] == b'\r');
        begin = end + 1;
        Some(line)
    })
}

/// A line that is no text.
pub fn not_utf8(line: &[u8], error: std::str::Utf8Error) -> Error {
    let at = error.valid_up_to();
    Error::validation(format!("not UTF-8: byte 0x{:02x} at column {}", line[at], at + 1))
}

/// Whether a line holds nothing but spaces, tabs and carriage returns.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All pieces of `input`, read `step` bytes at a time, lines joined; and where the buffer stands then.
    fn pieces(input: &[u8], step: usize) -> (Vec<u8>, Vec<u64>, Place) {
        let (mut buffer, mut offset) = (LineBuffer::default(), 0);
        let (mut text, mut long) = (Vec::new(), Vec::new());
        while !buffer.is_done() {
            match buffer.piece() {
                Some(Piece::Lines(lines)) => {
                    text.extend_from_slice(lines);
                    let (bytes, count) = (lines.len(), split(lines).count() as u64);
                    buffer.consume(bytes, count);
                }
                Some(Piece::Overlong(line)) => {
                    long.push(line.length);
                    buffer.consume_overlong(&line);
                }
                None => {
                    let space = buffer.space(step);
                    let count = step.min(input.len() - offset);
                    space[..count].copy_from_slice(&input[offset..offset + count]);
                    buffer.filled(count);
                    offset += count;
                }
            }
        }
        (text, long, buffer.place())
    }

    #[test]
    fn a_line_too_long_is_passed_over_and_its_neighbours_stay() {
        let long = "x".repeat(LINE_MAX + 3 * BLOCK);
        let input = format!("a\n{long}\nb\n");
        let (text, overlong, place) = pieces(input.as_bytes(), BLOCK);
        assert_eq!(text, b"a\nb\n");
        assert_eq!(overlong, [long.len() as u64 + 1]);
        assert_eq!(place, Place { offset: input.len() as u64, line: 3 });
    }

    #[test]
    fn a_line_too_long_at_the_end_without_its_end_is_told() {
        let input = vec![b'x'; LINE_MAX + 2 * BLOCK];
        assert_eq!(pieces(&input, BLOCK).1, [input.len() as u64]);
    }

    #[test]
    fn no_more_than_a_line_and_a_block_is_held() {
        let mut buffer = LineBuffer::default();
        for _ in 0..40 {
            buffer.space(BLOCK).fill(b'x');
            buffer.filled(BLOCK);
            assert!(buffer.bytes.len() <= LINE_MAX + 2 * BLOCK);
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_handed_out_once_and_in_order(input in "[a-c\n\r]{0,60}", step in 1_usize..9) {
            let (text, _, place) = pieces(input.as_bytes(), step);
            prop_assert_eq!(&text, &input.as_bytes());
            let lines = split(input.as_bytes()).count() as u64;
            prop_assert_eq!(place, Place { offset: input.len() as u64, line: lines });
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let (text, _, place) = pieces(b"\xEF\xBB\xBF{}\n", 2);
        assert_eq!((text.as_slice(), place.offset), (b"{}\n".as_slice(), 6));
    }
}
