//! Columns as what they mean, not by dictionary: a file has one dictionary a column, and batches bring one each.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bourn_engine::{Error, Result};

/// The columns without dictionaries.
///
/// # Errors
/// Which column has one within another type.
pub fn without_dictionaries(schema: &SchemaRef) -> Result<SchemaRef> {
    let flat = |field: &Field| match field.data_type() {
        DataType::Dictionary(_, values) => field.clone().with_data_type(values.as_ref().clone()),
        _ => field.clone(),
    };
    let fields: Vec<_> = schema.fields().iter().map(|f| flat(f)).collect();
    if let Some(field) = fields.iter().find(|f| has_dictionary(f.data_type())) {
        let message = format!("no dictionary is written within column `{}`", field.name());
        return Err(Error::unsupported(message).at_field(field.name()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn has_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) => true,
        DataType::Struct(members) => members.iter().any(|f| has_dictionary(f.data_type())),
        DataType::Union(members, _) => members.iter().any(|(_, f)| has_dictionary(f.data_type())),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _)
        | DataType::RunEndEncoded(_, f) => has_dictionary(f.data_type()),
        _ => false,
    }
}

/// The rows in that schema.
///
/// # Errors
/// When they don't fit it.
pub fn flattened(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let flat = |(column, field): (&ArrayRef, &Arc<Field>)| {
        if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
    };
    let columns: Result<Vec<_>, _> = rows.columns().iter().zip(schema.fields()).map(flat).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns?, &options)?)
}
