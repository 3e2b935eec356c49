//! JSON documents: members of them, and values as documents.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow_json::writer::{LineDelimited, WriterBuilder};
use datafusion_common::{Result as DfResult, exec_datafusion_err, exec_err};
use serde_json::Value;

use super::{Function, Kind, at, texts};

const ANY: usize = usize::MAX;
const PATH: &[Kind] = &[Kind::Text, Kind::Key];

pub const FUNCTIONS: &[Function] = &[
    Function {
        name: "json_get",
        usage: "json_get(document, 'member', 0, …)",
        count: (1, ANY),
        takes: PATH,
        returns: || DataType::Utf8,
        run: |arguments| strings(arguments, Value::to_string),
    },
    Function {
        name: "json_get_text",
        usage: "json_get_text(document, 'member', 0, …)",
        count: (1, ANY),
        takes: PATH,
        returns: || DataType::Utf8,
        run: |arguments| strings(arguments, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)),
    },
    Function {
        name: "json_get_int",
        usage: "json_get_int(document, 'member', 0, …)",
        count: (1, ANY),
        takes: PATH,
        returns: || DataType::Int64,
        run: |arguments| {
            let mut values = Int64Builder::new();
            each(arguments, |v| values.append_option(v.and_then(Value::as_i64)))?;
            Ok(Arc::new(values.finish()))
        },
    },
    Function {
        name: "json_get_float",
        usage: "json_get_float(document, 'member', 0, …)",
        count: (1, ANY),
        takes: PATH,
        returns: || DataType::Float64,
        run: |arguments| {
            let mut values = Float64Builder::new();
            each(arguments, |v| values.append_option(v.and_then(Value::as_f64)))?;
            Ok(Arc::new(values.finish()))
        },
    },
    Function {
        name: "json_get_bool",
        usage: "json_get_bool(document, 'member', 0, …)",
        count: (1, ANY),
        takes: PATH,
        returns: || DataType::Boolean,
        run: |arguments| {
            let mut values = BooleanBuilder::new();
            each(arguments, |v| values.append_option(v.and_then(Value::as_bool)))?;
            Ok(Arc::new(values.finish()))
        },
    },
    Function {
        name: "json_length",
        usage: "json_length(document, 'member', 0, …)",
        count: (1, ANY),
        takes: PATH,
        returns: || DataType::Int64,
        run: |arguments| {
            let mut values = Int64Builder::new();
            let length = |v: &Value| match v {
                Value::Array(list) => i64::try_from(list.len()).ok(),
                Value::Object(members) => i64::try_from(members.len()).ok(),
                _ => None,
            };
            each(arguments, |v| values.append_option(v.and_then(length)))?;
            Ok(Arc::new(values.finish()))
        },
    },
    Function {
        name: "json_valid",
        usage: "json_valid(text)",
        count: (1, 1),
        takes: &[Kind::Text],
        returns: || DataType::Boolean,
        run: |arguments| {
            let valid = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            Ok(Arc::new(texts(&arguments[0])?.iter().map(|text| text.map(valid)).collect::<BooleanArray>()))
        },
    },
    Function {
        name: "to_json",
        usage: "to_json(value)",
        count: (1, 1),
        takes: &[Kind::Any],
        returns: || DataType::Utf8,
        run: |arguments| to_json(&arguments[0]),
    },
];

/// Calls `found` for each row with what is at the path of its document; a JSON null is none.
fn each(arguments: &[ArrayRef], mut found: impl FnMut(Option<&Value>)) -> DfResult<()> {
    let documents = texts(&arguments[0])?;
    let keys = arguments[1..].iter().map(Keys::of).collect::<DfResult<Vec<_>>>()?;
    for row in 0..documents.len() {
        let Some(document) = at(&documents, row) else {
            found(None);
            continue;
        };
        let document: Value =
            serde_json::from_str(document).map_err(|e| exec_datafusion_err!("not a JSON document: {e}"))?;
        found(keys.iter().try_fold(&document, |value, key| key.member(value, row)).filter(|v| !v.is_null()));
    }
    Ok(())
}

fn strings(arguments: &[ArrayRef], text: fn(&Value) -> String) -> DfResult<ArrayRef> {
    let mut values = StringBuilder::new();
    each(arguments, |v| values.append_option(v.map(text)))?;
    Ok(Arc::new(values.finish()))
}

/// One step of a path, for each row.
enum Keys {
    Names(arrow::array::StringArray),
    Places(arrow::array::Int64Array),
}

impl Keys {
    fn of(array: &ArrayRef) -> DfResult<Self> {
        if array.data_type().is_integer() {
            Ok(Self::Places(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
        } else {
            texts(array).map(Self::Names)
        }
    }

    fn member<'a>(&self, value: &'a Value, row: usize) -> Option<&'a Value> {
        match self {
            Self::Names(names) => value.get(at(names, row)?),
            Self::Places(places) if places.is_valid(row) => value.get(usize::try_from(places.value(row)).ok()?),
            Self::Places(_) => None,
        }
    }
}

/// Each value as a document; null stays null.
fn to_json(values: &ArrayRef) -> DfResult<ArrayRef> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", values.data_type().clone(), true)]));
    let rows = RecordBatch::try_new(schema, vec![values.clone()])?;
    let mut lines = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
    writer.write(&rows)?;
    writer.finish()?;
    drop(writer);
    let Ok(lines) = String::from_utf8(lines) else { return exec_err!("a document is text") };
    let mut documents = StringBuilder::with_capacity(values.len(), lines.len());
    // A line is `{"v":…}`; line breaks within a text are escaped.
    for (row, line) in lines.lines().enumerate() {
        let document = line.strip_prefix("{\"v\":").and_then(|l| l.strip_suffix('}'));
        documents.append_option(document.filter(|_| values.is_valid(row)));
    }
    Ok(Arc::new(documents.finish()))
}
