//! The rows of some columns as bytes, so that they can be compared and hashed.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use bourn_engine::Result;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Key, Problem, Problems};

use crate::column;

/// Columns by which rows are compared. Null equals null; numbers are equal as their bits are, so `0.0` is not `-0.0`.
pub struct Keys {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl Keys {
    /// The columns of these names, which stand below `key` in the configuration; all of them when there are none.
    ///
    /// # Errors
    /// When a name is no column, or a column has values that can't be compared.
    pub fn new(schema: &SchemaRef, names: &[String], key: &str) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        let mut add = |at: usize, path: Vec<Key>, problems: &mut Vec<Problem>| {
            let field = schema.field(at);
            let compared = SortField::new(field.data_type().clone());
            if RowConverter::supports_fields(std::slice::from_ref(&compared)) {
                columns.push(at);
                fields.push(compared);
                return;
            }
            let message =
                format!("rows can't be compared by `{}`, which is {}", field.name(), sql_name(field.data_type()));
            problems.push(Problem { path, ..Problem::new(message).help(format!("name other columns in `{key}`")) });
        };
        for (i, name) in names.iter().enumerate() {
            match column::find(schema, name) {
                Ok((at, _)) => add(at, vec![key.into(), i.into()], &mut problems),
                Err(problem) => problems.push(problem.under(i).under(key)),
            }
        }
        if names.is_empty() {
            (0..schema.fields().len()).for_each(|at| add(at, vec![], &mut problems));
        }
        Problems::check(problems)?;
        let converter = RowConverter::new(fields).map_err(|e| Problem::new(e.to_string()))?;
        Ok(Self { columns, converter })
    }

    /// The places of the columns.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// One key for each row.
    ///
    /// # Errors
    /// When a column can't be encoded.
    pub fn of(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|at| rows.column(*at).clone()).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }
}
