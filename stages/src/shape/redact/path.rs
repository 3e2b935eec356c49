//! The way to a value that is redacted: a column, then members of structs, through lists.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::Problem;
use bourn_engine::{Error, Result};

use super::hide::{Hide, is_text};
use crate::column;

/// The way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub column: usize,
    /// Members by place; lists on the way are walked through.
    members: Vec<usize>,
}

impl Path {
    /// Finds `column` or `column.member.member`; a column whose name has dots is found first.
    pub fn find(schema: &Schema, name: &str) -> Result<Self, Problem> {
        if let Some((column, field)) = schema.column_with_name(name) {
            let reserved = column::is_reserved(field.name());
            return if reserved { Err(column::reserved(name)) } else { Ok(Self { column, members: Vec::new() }) };
        }
        let mut pieces = name.split('.');
        let root = pieces.next().unwrap_or_default();
        let (column, mut field) = column::find(schema, root)?;
        let mut members = Vec::new();
        for piece in pieces {
            let DataType::Struct(inner) = element(field).data_type() else {
                let is = sql_name(field.data_type());
                return Err(Problem::new(format!("there is no `{piece}` in `{}`, which is {is}", field.name())));
            };
            let inner_schema = Schema::new(inner.clone());
            let at = column::find(&inner_schema, piece)
                .map_err(|p| Problem { message: format!("there is no `{piece}` in `{}`", field.name()), ..p })?;
            members.push(at.0);
            field = &inner[at.0];
        }
        Ok(Self { column, members })
    }

    /// Whether one of the two is the other, or part of it.
    pub fn overlaps(&self, other: &Self) -> bool {
        let shorter = self.members.len().min(other.members.len());
        self.column == other.column && self.members[..shorter] == other.members[..shorter]
    }

    /// Checks that what is there can be hidden in this way.
    pub fn check(&self, schema: &Schema, hide: &Hide) -> Result<(), Problem> {
        let mut field = schema.field(self.column);
        for at in &self.members {
            if let DataType::Struct(inner) = element(field).data_type() {
                field = &inner[*at];
            }
        }
        if matches!(hide, Hide::Clear) || is_text(element(field).data_type()) {
            return Ok(());
        }
        let (name, is) = (field.name(), sql_name(field.data_type()));
        let problem = Problem::new(format!("only text can be hidden in this way, and `{name}` is {is}"));
        Err(match field.data_type() {
            DataType::Struct(inner) if !inner.is_empty() => {
                problem.help(format!("name its members, as in `{name}.{}`, or `clear` it", inner[0].name()))
            }
            _ => {
                problem.help(format!("`map: {{ cast: {{ {name}: text }} }}` before it makes text of it, or `clear` it"))
            }
        })
    }

    /// The field of the column when the value is hidden.
    pub fn field(&self, column: &Field, hide: &Hide) -> Field {
        hidden_field(column, &self.members, hide)
    }

    /// The column with the value hidden.
    ///
    /// # Errors
    /// When an array can't be made, which planning has ruled out.
    pub fn apply(&self, column: &ArrayRef, hide: &Hide) -> Result<ArrayRef> {
        hidden(column, &self.members, hide)
    }
}

/// The field of the innermost element of a list; any other field itself.
fn element(field: &Field) -> &Field {
    match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => element(item),
        _ => field,
    }
}

fn hidden_field(field: &Field, members: &[usize], hide: &Hide) -> Field {
    let inner = |item: &FieldRef| Arc::new(hidden_field(item, members, hide));
    let data_type = match (field.data_type(), members) {
        (_, []) if matches!(hide, Hide::Clear) => return field.clone().with_nullable(true),
        (DataType::List(item), _) => DataType::List(inner(item)),
        (DataType::LargeList(item), _) => DataType::LargeList(inner(item)),
        (DataType::FixedSizeList(item, n), _) => DataType::FixedSizeList(inner(item), *n),
        (DataType::Struct(fields), [at, rest @ ..]) => {
            let mut fields = fields.to_vec();
            fields[*at] = Arc::new(hidden_field(&fields[*at], rest, hide));
            DataType::Struct(Fields::from(fields))
        }
        // A JSON document is none any more.
        _ => return Field::new(field.name(), field.data_type().clone(), field.is_nullable()),
    };
    field.clone().with_data_type(data_type)
}

fn hidden(array: &ArrayRef, members: &[usize], hide: &Hide) -> Result<ArrayRef> {
    let inner = |item: &FieldRef| Arc::new(hidden_field(item, members, hide));
    Ok(match (array.data_type(), members) {
        (_, []) if matches!(hide, Hide::Clear) => hide.apply(array)?,
        (DataType::List(item), _) => {
            let list = array.as_list::<i32>();
            let values = hidden(list.values(), members, hide)?;
            Arc::new(ListArray::try_new(inner(item), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::LargeList(item), _) => {
            let list = array.as_list::<i64>();
            let values = hidden(list.values(), members, hide)?;
            Arc::new(LargeListArray::try_new(inner(item), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::FixedSizeList(item, n), _) => {
            let list = array.as_fixed_size_list();
            let values = hidden(list.values(), members, hide)?;
            Arc::new(FixedSizeListArray::try_new(inner(item), *n, values, list.nulls().cloned())?)
        }
        (DataType::Struct(fields), [at, rest @ ..]) => {
            let parts = array.as_struct();
            let mut columns = parts.columns().to_vec();
            columns[*at] = hidden(&columns[*at], rest, hide)?;
            let mut fields = fields.to_vec();
            fields[*at] = Arc::new(hidden_field(&fields[*at], rest, hide));
            Arc::new(StructArray::try_new(fields.into(), columns, parts.nulls().cloned())?)
        }
        (_, []) => hide.apply(array)?,
        (other, _) => return Err(Error::engine(format!("a struct was planned, and this is {other}"))),
    })
}
