//! A dead letter that is read again, from wherever its sink has put it.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::time::Timestamp;

/// A row that was rejected, with what [`columns::DEAD_LETTER`](super::columns::DEAD_LETTER) says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// 16 digits of a hash of the whole letter and of how many equal ones stand before it: the same whenever the letters are
    /// read again, as long as none of them is taken away.
    pub id: String,
    /// Who rejected it.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// The class of the reason.
    pub kind: String,
    /// When.
    pub time: Timestamp,
    /// The part of the input that it came from, as far as it is known.
    pub split: Option<String>,
    /// Where in it.
    pub position: Option<String>,
    /// The row as it entered the stage: JSON, an object, or a text that could not be read as a row.
    pub row: String,
}

/// Reads letters, one batch after another.
#[derive(Debug, Default)]
pub struct Letters {
    /// How many letters with this content were seen.
    equal: HashMap<[u8; 16], u64>,
}

impl Letters {
    /// The letters of a batch, whatever text and time types it has: those of a database or of CSV are not those that were
    /// written. Columns beside those of a letter do not matter. Rows that are no letters are counted.
    ///
    /// # Errors
    /// When a column of a letter is missing.
    pub fn read(&mut self, batch: &RecordBatch) -> Result<(Vec<Letter>, usize)> {
        let [stage, reason, kind] = [text(batch, "stage")?, text(batch, "reason")?, text(batch, "kind")?];
        let [split, position, row] = [text(batch, "split")?, text(batch, "position")?, text(batch, "row")?];
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let time = cast(column(batch, "time")?, &moment).map_err(|e| Error::from(e).at_field("time"))?;
        let time = time.as_primitive::<TimestampMicrosecondType>();
        let (mut letters, mut others) = (Vec::with_capacity(batch.num_rows()), 0);
        for n in 0..batch.num_rows() {
            if stage.is_null(n) || reason.is_null(n) || time.is_null(n) {
                others += 1;
                continue;
            }
            let said = |column: &StringArray| column.is_valid(n).then(|| column.value(n).to_owned());
            let mut letter = Letter {
                id: String::new(),
                stage: stage.value(n).to_owned(),
                reason: reason.value(n).to_owned(),
                kind: said(&kind).unwrap_or_default(),
                time: Timestamp(time.value(n)),
                split: said(&split),
                position: said(&position),
                row: said(&row).unwrap_or_else(|| "null".to_owned()),
            };
            letter.id = self.id(&letter);
            letters.push(letter);
        }
        Ok((letters, others))
    }

    fn id(&mut self, letter: &Letter) -> String {
        let mut content = blake3::Hasher::new();
        let Letter { stage, reason, kind, time, split, position, row, .. } = letter;
        let parts = [Some(stage), Some(reason), Some(kind), split.as_ref(), position.as_ref(), Some(row)];
        for part in parts {
            // A length before each, so that no two letters run into one text.
            content.update(&part.map_or(u64::MAX, |p| p.len() as u64).to_le_bytes());
            content.update(part.map_or(&[], |p| p.as_bytes()));
        }
        content.update(&time.0.to_le_bytes());
        let whole = content.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&whole.as_bytes()[..16]);
        let before = self.equal.entry(key).or_default();
        let id = blake3::hash(&[whole.as_bytes().as_slice(), &before.to_le_bytes()].concat());
        *before += 1;
        id.to_hex()[..16].to_owned()
    }
}

/// 8 digits that tell a choice of letters from others: the same for the same letters, in whatever order.
pub fn mark(ids: &[String]) -> String {
    let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ids.sort_unstable();
    blake3::hash(ids.join(" ").as_bytes()).to_hex()[..8].to_owned()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let missing = || Error::validation(format!("these are no dead letters: they have no column `{name}`"));
    batch.column_by_name(name).ok_or_else(missing)
}

fn text(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let text = cast(column(batch, name)?, &DataType::Utf8).map_err(|e| Error::from(e).at_field(name))?;
    Ok(text.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::TimestampMicrosecondArray;

    use super::*;
    use crate::data::columns::DEAD_LETTER;

    fn batch(rows: &[&str]) -> RecordBatch {
        let column = |value: &str| Arc::new(StringArray::from(vec![value; rows.len()])) as ArrayRef;
        let time = TimestampMicrosecondArray::from(vec![1_000_001; rows.len()]).with_timezone("UTC");
        let (split, position) = (column("a.jsonl"), Arc::new(StringArray::from(vec![None::<&str>; rows.len()])));
        let row = Arc::new(StringArray::from(rows.to_vec()));
        let columns: Vec<ArrayRef> =
            vec![column("check"), column("too small"), column("validation"), Arc::new(time), split, position, row];
        RecordBatch::try_new(DEAD_LETTER.clone(), columns).unwrap()
    }

    #[test]
    fn equal_letters_have_ids_of_their_own_which_stay_however_they_are_read() {
        let ids = |batches: &[RecordBatch]| {
            let mut letters = Letters::default();
            let read = batches.iter().flat_map(|b| letters.read(b).unwrap().0);
            read.map(|letter| letter.id).collect::<Vec<_>>()
        };
        let all = ids(&[batch(&["{}", "{\"n\":1}", "{}"])]);
        assert_eq!(all, ids(&[batch(&["{}"]), batch(&["{\"n\":1}", "{}", "{\"n\":2}"])])[..3]);
        assert!(all.iter().all(|id| id.len() == 16) && all[0] != all[2]);
    }

    #[test]
    fn letters_are_read_from_columns_of_text_and_beside_others() {
        let written = batch(&["{}"]);
        let as_text = |(field, column): (&Arc<arrow::datatypes::Field>, &ArrayRef)| {
            (field.name().clone(), cast(column, &DataType::LargeUtf8).unwrap(), true)
        };
        let columns = written.schema_ref().fields().iter().zip(written.columns()).map(as_text);
        let more = [("more".to_owned(), Arc::new(StringArray::from(vec!["x"])) as ArrayRef, true)];
        let texts = RecordBatch::try_from_iter_with_nullable(columns.chain(more)).unwrap();
        assert_eq!(Letters::default().read(&texts).unwrap(), Letters::default().read(&written).unwrap());
        let fewer = written.project(&[0, 1, 2]).unwrap();
        let error = Letters::default().read(&fewer).unwrap_err();
        assert!(error.message().contains("no column `split`"), "{error}");
    }
}
