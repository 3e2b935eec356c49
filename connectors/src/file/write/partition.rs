//! Rows by the values of some columns, each group with the folder that says them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Problem, Problems};
use indexmap::IndexMap;

use crate::file::partition::folder;
use crate::file::{File, no_column};

/// The columns that make folders, and the others.
pub struct Partition {
    by: Vec<usize>,
    names: Vec<String>,
    rest: Vec<usize>,
    schema: SchemaRef,
}

impl Partition {
    /// What `partition_by` says of rows with this schema; `None` when it says nothing.
    ///
    /// # Errors
    /// When a column is not there or can't make folders, or none is left.
    pub fn of(file: &File, schema: &SchemaRef) -> Result<Option<Self>, Problems> {
        let Some(names) = &file.partition_by else { return Ok(None) };
        let known: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let (mut by, mut problems) = (Vec::new(), Vec::new());
        for (i, name) in names.iter().enumerate() {
            match schema.column_with_name(name) {
                Some((index, _)) if by.contains(&index) => {
                    problems.push(Problem::new(format!("`{name}` stands there twice")).under(i));
                }
                Some((index, field)) if makes_folders(field.data_type()) => by.push(index),
                Some((_, field)) => {
                    let problem = Problem::new(format!("{} makes no folders", sql_name(field.data_type()))).under(i);
                    problems.push(problem.help("texts, whole numbers, booleans, dates and timestamps do"));
                }
                None => problems.push(no_column(name, &known).under(i)),
            }
        }
        let rest: Vec<_> = (0..schema.fields().len()).filter(|i| !by.contains(i)).collect();
        if problems.is_empty() && (names.is_empty() || rest.is_empty()) {
            let message = if names.is_empty() { "no column is named" } else { "no column is left for the files" };
            problems.push(Problem::new(message));
        }
        Problems::check(problems.into_iter().map(|p| p.under("partition_by")).collect())?;
        let kept = Schema::new(rest.iter().map(|i| schema.field(*i).clone()).collect::<Vec<_>>());
        Ok(Some(Self { by, names: names.clone(), rest, schema: Arc::new(kept) }))
    }

    /// The columns that are written.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of rows that are written.
    ///
    /// # Errors
    /// When they are other rows.
    pub fn rest(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        Ok(rows.project(&self.rest)?)
    }

    /// The rows of each folder, in the order in which folders are met.
    ///
    /// # Errors
    /// When a value has no text.
    pub fn split(&self, rows: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        let texts: Result<Vec<ArrayRef>, _> = self.by.iter().map(|i| cast(rows.column(*i), &DataType::Utf8)).collect();
        let texts = texts?;
        let mut groups: IndexMap<Vec<Option<&str>>, Vec<u32>> = IndexMap::new();
        let mut key = Vec::new();
        for row in 0..rows.num_rows() {
            key.clear();
            key.extend(texts.iter().map(|t| t.is_valid(row).then(|| t.as_string::<i32>().value(row))));
            let number = u32::try_from(row).unwrap_or(u32::MAX);
            match groups.get_mut(&key) {
                Some(group) => group.push(number),
                None => {
                    groups.insert(key.clone(), vec![number]);
                }
            }
        }
        let folder_of = |values: &[Option<&str>]| {
            let folders: Vec<_> = self.names.iter().zip(values).map(|(name, value)| folder(name, *value)).collect();
            folders.join("/")
        };
        if let [values] = groups.keys().collect::<Vec<_>>().as_slice() {
            return Ok(vec![(folder_of(values), rows.clone())]);
        }
        let group = |(values, indices): (Vec<Option<&str>>, Vec<u32>)| {
            Ok((folder_of(&values), take_record_batch(rows, &UInt32Array::from(indices))?))
        };
        groups.into_iter().map(group).collect()
    }
}

fn makes_folders(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => makes_folders(values),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Boolean
        | DataType::Date32
        | DataType::Timestamp(..) => true,
        other => other.is_integer(),
    }
}
