//! Pages by a cursor: a page ends where the value of the cursor changes, so that going on behind it skips no row.

use bourn_engine::{Error, Result};

/// The rows after which a page ends at the next change of the cursor.
const ROWS: usize = 8_192;
/// The bytes after which it does.
const BYTES: usize = 8 << 20;
/// The most rows with one value of the cursor, and the most bytes: a page must be held as a whole.
const ROWS_MAX: usize = 65_536;
const BYTES_MAX: usize = 32 << 20;

/// A page being read.
#[derive(Debug)]
pub(crate) struct Page<C> {
    rows: usize,
    bytes: usize,
    last: Option<C>,
}

/// What becomes of the next row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It belongs to the page.
    Take,
    /// It is the first of the next page.
    Leave,
}

impl<C: PartialEq> Page<C> {
    pub(crate) fn new() -> Self {
        Self { rows: 0, bytes: 0, last: None }
    }

    /// Whether a row with this value of the cursor, of so many bytes, still belongs to the page.
    ///
    /// # Errors
    /// When too many rows have the same value.
    pub(crate) fn step(&mut self, cursor: C, bytes: usize) -> Result<Step> {
        let changes = self.last.as_ref() != Some(&cursor);
        if changes && (self.rows >= ROWS || self.bytes >= BYTES) {
            return Ok(Step::Leave);
        }
        if !changes && (self.rows >= ROWS_MAX || self.bytes + bytes > BYTES_MAX) {
            let message = format!(
                "more than {} rows or {} MiB have one value in the cursor column: choose one whose values tell rows apart",
                ROWS_MAX - ROWS,
                (BYTES_MAX - BYTES) >> 20
            );
            return Err(Error::validation(message));
        }
        self.rows += 1;
        self.bytes += bytes;
        self.last = Some(cursor);
        Ok(Step::Take)
    }

    /// The value of the cursor in the last row; `None` when there was no row.
    pub(crate) fn last(self) -> Option<C> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_the_cursor_changes_and_not_among_equals() {
        let mut page = Page::new();
        for n in 0..ROWS - 1 {
            assert_eq!(page.step(n, 1).unwrap(), Step::Take);
        }
        for _ in 0..3 {
            assert_eq!(page.step(ROWS, 1).unwrap(), Step::Take);
        }
        assert_eq!(page.step(ROWS + 1, 1).unwrap(), Step::Leave);
        assert_eq!(page.last(), Some(ROWS));
        let mut wide = Page::new();
        assert_eq!(wide.step(1, BYTES).unwrap(), Step::Take);
        assert_eq!(wide.step(2, 1).unwrap(), Step::Leave);
    }

    #[test]
    fn too_many_equals_are_an_error_and_not_a_matter_of_memory() {
        let mut page = Page::new();
        let failed = (0..=ROWS_MAX).find_map(|_| page.step(7, 1).err());
        assert!(failed.unwrap().message().contains("choose one whose values tell rows apart"));
    }
}
