//! One value, such as a counter.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::visitor::{Chunk, Owned, Piece, Scope, Snapshot};
use crate::data::columns::json_field;
use crate::error::{Error, Result};

/// One value of a stage. Reading is free; [`Value::set`] and [`Value::update`] mark it changed.
#[derive(Clone, Debug)]
pub struct Value<T> {
    value: T,
    changed: bool,
}

impl<T: Default> Default for Value<T> {
    /// It was never saved, so it has changed.
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Value<T> {
    /// Starts as `value`.
    pub fn new(value: T) -> Self {
        Self { value, changed: true }
    }

    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Another value in its place.
    pub fn set(&mut self, value: T) {
        self.update(|v| *v = value);
    }

    /// Changes it in place.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        self.changed = true;
        change(&mut self.value)
    }
}

impl<T: Serialize + DeserializeOwned + Send> Piece for Value<T> {
    fn snapshot(&mut self, whole: bool) -> Result<Snapshot> {
        if !std::mem::take(&mut self.changed) && !whole {
            return Ok(Snapshot(vec![Chunk::Unchanged(0)]));
        }
        let json = serde_json::to_string(&self.value)?;
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![json_field("value")]));
        Ok(Snapshot::of([RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec![json]))])?]))
    }

    fn scope(&self) -> Scope {
        Scope::Lane
    }

    fn restore(&mut self, content: &mut dyn Iterator<Item = Result<RecordBatch>>, _: &Owned) -> Result<()> {
        let json = content
            .next()
            .transpose()?
            .filter(|b| b.num_rows() == 1)
            .and_then(|b| b.column_by_name("value")?.as_string_opt::<i32>().map(|c| c.value(0).to_owned()));
        let json = json.ok_or_else(|| Error::validation("a saved value is one row with the column `value`"))?;
        *self = Self { value: serde_json::from_str(&json)?, changed: true };
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_saved_when_it_has_changed_and_restored() {
        assert!(matches!(Value::<u32>::default().snapshot(false).unwrap().0[..], [Chunk::Changed(..)]));
        let mut value = Value::new(7u32);
        assert_eq!(value.snapshot(false).unwrap().batches().count(), 1);
        assert!(matches!(value.snapshot(false).unwrap().0[..], [Chunk::Unchanged(0)]));
        value.set(8);
        let saved = value.snapshot(false).unwrap();
        let mut other = Value::new(0u32);
        other.restore(&mut saved.batches(), &Owned::ALL).unwrap();
        assert_eq!(*other.get(), 8);
        assert!(other.restore(&mut std::iter::empty(), &Owned::ALL).is_err());
    }
}
