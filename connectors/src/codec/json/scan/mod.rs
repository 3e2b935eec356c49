//! The decoder of our own: one pass over a line, straight into columns, for schemas without nested types.
//!
//! It understands what rows mostly look like, and nothing else: what is unusual in a line (a number as text, a surrogate
//! escape, a comma too many) makes it give the line back, and [`row`](super::row) decides. So it never has an opinion of
//! its own on what a line means.

mod column;
mod skip;
mod text;
mod value;

use arrow::array::ArrayRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bourn_engine::Result;

use super::decode::Columns;
use column::Column;
use skip::skip;
use text::{Text, space, string};

/// The most keys that are remembered; further ones are looked up each time.
const KEYS_MAX: usize = 4_096;

/// Decodes lines into columns. `None` anywhere in here means: not understood.
#[derive(Debug)]
pub(super) struct Scanner {
    columns: Vec<Column>,
    /// The keys in the order in which the last rows had them: the next key is mostly the next of these.
    keys: Vec<Key>,
    rows: usize,
    unknown: u64,
    schema: Columns,
}

#[derive(Debug)]
struct Key {
    /// The name with its quotes and the colon.
    pattern: Vec<u8>,
    /// The place of the column, if there is one.
    column: Option<usize>,
}

impl Scanner {
    /// `None` when a column has a type that is not scanned.
    pub fn new(schema: &Columns) -> Option<Self> {
        let fields = schema.schema().fields();
        let columns: Vec<_> =
            fields.iter().map(|f| Column::new(f, schema.verbatim(f.name()))).collect::<Option<_>>()?;
        let keys =
            fields.iter().enumerate().map(|(i, f)| Key { pattern: pattern(f.name().as_bytes()), column: Some(i) });
        // Two columns of one name: the general way has its rule for them.
        let unique = fields.iter().all(|f| fields.iter().filter(|g| g.name() == f.name()).count() == 1);
        // A name with an escape in it is never found by its bytes.
        let plain = fields.iter().all(|f| !f.name().bytes().any(|b| b == b'"' || b == b'\\' || b < b' '));
        let keys = keys.collect();
        (unique && plain).then(|| Self { columns, keys, rows: 0, unknown: 0, schema: schema.clone() })
    }

    /// Makes room for this many rows.
    pub fn reserve(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|c| c.reserve(rows));
    }

    /// Appends the row of a line of valid UTF-8; `false` when it is not understood, and nothing was appended.
    pub fn scan(&mut self, line: &[u8]) -> bool {
        let unknown = self.unknown;
        if self.object(line).is_some() {
            self.rows += 1;
            return true;
        }
        self.unknown = unknown;
        let rows = self.rows;
        self.columns.iter_mut().for_each(|c| c.truncate(rows));
        false
    }

    /// Appends a row that was decoded in the general way.
    pub fn append(&mut self, row: &RecordBatch) {
        for (column, array) in self.columns.iter_mut().zip(row.columns()) {
            column.append(array.as_ref());
        }
        self.rows += 1;
    }

    /// The rows so far, and how many fields had no column; the next row is the first of the next batch.
    pub fn finish(&mut self) -> Result<(RecordBatch, u64)> {
        let arrays: Result<Vec<ArrayRef>> = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        let batch = RecordBatch::try_new_with_options(self.schema.schema().clone(), arrays?, &options)?;
        Ok((batch, std::mem::take(&mut self.unknown)))
    }

    fn object(&mut self, line: &[u8]) -> Option<()> {
        let mut at = space(line, 0);
        if *line.get(at)? != b'{' {
            return None;
        }
        at = space(line, at + 1);
        let (mut expected, mut filled) = (0, 0);
        if *line.get(at)? == b'}' {
            at += 1;
        } else {
            loop {
                let key;
                (key, at) = self.key(line, at, expected)?;
                expected = key.map_or(expected, |k| k + 1);
                at = if let Some(i) = key.and_then(|k| self.keys[k].column) {
                    let column = &mut self.columns[i];
                    // The last of two values of one name counts; let the other way see to that.
                    if column.len() > self.rows {
                        return None;
                    }
                    filled += 1;
                    column.value(line, at)?
                } else {
                    self.unknown += 1;
                    skip(line, at)?
                };
                at = space(line, at);
                match *line.get(at)? {
                    b',' => at = space(line, at + 1),
                    b'}' => break,
                    _ => return None,
                }
            }
            at += 1;
        }
        if space(line, at) != line.len() {
            return None;
        }
        if filled < self.columns.len() {
            let rows = self.rows;
            for column in self.columns.iter_mut().filter(|c| c.len() == rows) {
                column.null()?;
            }
        }
        Some(())
    }

    /// The key at `at`: its place among the keys, and where its value begins.
    fn key(&mut self, line: &[u8], at: usize, expected: usize) -> Option<(Option<usize>, usize)> {
        let rest = line.get(at..)?;
        if let Some(key) = self.keys.get(expected)
            && rest.starts_with(&key.pattern)
        {
            return Some((Some(expected), space(line, at + key.pattern.len())));
        }
        let Text::Plain(name, end) = string(line, at)? else { return None };
        let colon = space(line, end);
        if *line.get(colon)? != b':' {
            return None;
        }
        Some((self.find(&line[name], expected), space(line, colon + 1)))
    }

    fn find(&mut self, name: &[u8], expected: usize) -> Option<usize> {
        let is = |key: &Key| key.pattern.len() == name.len() + 3 && key.pattern[1..=name.len()] == *name;
        if let Some(i) = self.keys.iter().skip(expected).position(is) {
            // Those between are missing in this row, and may be there in the next.
            return Some(expected + i);
        }
        if let Some(i) = self.keys.iter().take(expected).position(is) {
            // It comes later than it used to; it goes to where it was met.
            let key = self.keys.remove(i);
            self.keys.insert(expected - 1, key);
            return Some(expected - 1);
        }
        if self.keys.len() < KEYS_MAX {
            self.keys.insert(expected.min(self.keys.len()), Key { pattern: pattern(name), column: None });
            return Some(expected.min(self.keys.len() - 1));
        }
        None
    }
}

fn pattern(name: &[u8]) -> Vec<u8> {
    [b"\"", name, b"\":"].concat()
}

#[cfg(test)]
mod tests;
