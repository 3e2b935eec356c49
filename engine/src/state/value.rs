//! One value, such as a counter.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Piece;
use crate::data::columns::json_field;
use crate::error::{Error, Result};

/// One value of a stage. Reading is free; [`Value::set`] and [`Value::update`] mark it changed.
#[derive(Clone, Debug, Default)]
pub struct Value<T> {
    value: T,
    changed: bool,
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
    fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        let json = serde_json::to_string(&self.value)?;
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![json_field("value")]));
        Ok(vec![RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec![json]))])?])
    }

    fn restore(&mut self, content: Vec<RecordBatch>) -> Result<()> {
        let json = content
            .first()
            .filter(|b| b.num_rows() == 1)
            .and_then(|b| b.column_by_name("value")?.as_string_opt::<i32>().map(|c| c.value(0).to_owned()));
        let json = json.ok_or_else(|| Error::validation("a saved value is one row with the column `value`"))?;
        *self = Self { value: serde_json::from_str(&json)?, changed: false };
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        size_of::<T>()
    }
}
