//! Structs to columns: the names that they get, and the arrays behind them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::diagnostic::{Problem, Problems};

use super::{Structs, not_a};
use crate::column;

/// The columns that leave.
pub struct Plan {
    pub schema: SchemaRef,
    /// Whether a column of the input is taken apart.
    apart: Vec<bool>,
}

/// Names the columns that leave.
///
/// # Errors
/// When a name is no column or no struct, and when two columns would have one name.
pub fn plan(input: &SchemaRef, structs: &Structs, separator: &str) -> Result<Plan, Problems> {
    let mut problems = Vec::new();
    let mut apart = vec![matches!(structs, Structs::All(_)); input.fields().len()];
    if let Structs::Columns(names) = structs {
        for (i, name) in names.iter().enumerate() {
            let found = column::find(input, name).and_then(|(at, field)| match field.data_type() {
                DataType::Struct(_) => Ok(at),
                _ => Err(not_a(field, "struct")),
            });
            match found {
                Ok(at) => apart[at] = true,
                Err(problem) => problems.push(problem.under(i).under("structs")),
            }
        }
    }
    let mut fields = Vec::new();
    for (field, apart) in input.fields().iter().zip(&apart) {
        if *apart {
            members(field, field.name(), false, separator, &mut fields);
        } else {
            fields.push(field.as_ref().clone());
        }
    }
    let mut names = HashSet::new();
    for field in fields.iter().filter(|f| !names.insert(f.name().as_str())) {
        let problem = Problem::new(format!("two columns would be called `{}`", field.name()));
        problems.push(problem.help("choose another `separator`, or `map: { rename: … }` one of them before"));
    }
    let made = fields.iter().map(Field::name).filter(|name| input.index_of(name).is_err());
    problems.extend(made.filter(|name| column::is_reserved(name)).map(|name| column::reserved(name)));
    if fields.is_empty() {
        problems.push(Problem::new("this leaves no columns: the structs have no members"));
    }
    Problems::check(problems)?;
    Ok(Plan { schema: Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())), apart })
}

/// The members of a struct, down to the last level; any other column as it is.
fn members(field: &Field, name: &str, nullable: bool, separator: &str, out: &mut Vec<Field>) {
    let nullable = nullable || field.is_nullable();
    match field.data_type() {
        DataType::Struct(inner) => {
            inner.iter().for_each(|f| members(f, &format!("{name}{separator}{}", f.name()), nullable, separator, out));
        }
        _ => out.push(field.clone().with_name(name).with_nullable(nullable)),
    }
}

impl Plan {
    /// The rows with their structs taken apart; a null struct has null members.
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (column, apart) in rows.columns().iter().zip(&self.apart) {
            if *apart {
                take_apart(column, &mut columns);
            } else {
                columns.push(column.clone());
            }
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

fn take_apart(column: &ArrayRef, out: &mut Vec<ArrayRef>) {
    match column.as_struct_opt() {
        Some(inner) => inner.flatten().1.iter().for_each(|c| take_apart(c, out)),
        None => out.push(column.clone()),
    }
}
