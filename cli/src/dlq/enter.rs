//! The rows of letters in the columns of the stage that they are to enter, as the spec has them now.

use std::collections::{BTreeMap, HashSet};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_connectors::codec::json::{Columns, Decoder};
use bourn_engine::api::Unread;
use bourn_engine::data::letter::Letter;
use bourn_engine::data::secret::Secrets;
use bourn_engine::graph::{Graph, Role};
use bourn_engine::plan::{Plan, PlannedNode};
use bourn_engine::{Error, Result};

use super::feed::Part;

/// A letter that stays, because its row can't enter.
#[derive(Debug)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// Of which source, stage or sink it is.
    pub stage: String,
    /// Why.
    pub why: String,
}

/// Rows that enter a source, stage or sink.
#[derive(Debug)]
pub struct Entering {
    /// The columns that it reads; those that it writes if it is a source.
    pub schema: SchemaRef,
    /// The rows, in the order of the letters.
    pub parts: Vec<Part>,
}

impl Entering {
    /// How many letters they are of.
    pub fn letters(&self) -> usize {
        self.parts.iter().map(|part| part.ids.len()).sum()
    }
}

/// Brings letters into the columns that a plan of the whole spec has where they are to enter.
///
/// # Errors
/// When a column has a type that JSON can't be read into.
pub fn enter(plan: &Plan, graph: &Graph, letters: Vec<Letter>) -> Result<(BTreeMap<String, Entering>, Vec<Kept>)> {
    let mut by_stage: BTreeMap<String, Vec<Letter>> = BTreeMap::new();
    for letter in letters {
        by_stage.entry(letter.stage.clone()).or_default().push(letter);
    }
    let (mut entering, mut kept) = (BTreeMap::new(), Vec::new());
    for (stage, letters) in by_stage {
        let node = plan.nodes.iter().find(|node| *node.id == *graph.entry(&stage));
        let Some((node, schema)) = node.and_then(|node| Some((node, columns(node)?.clone()))) else {
            let why = format!("the spec has no source, stage or sink `{stage}` any more");
            kept.extend(letters.into_iter().map(|letter| stays(letter, why.clone())));
            continue;
        };
        let rows = read(node, &schema, &letters, &plan.options.secrets)?;
        let mut parts: Vec<Part> = Vec::new();
        for (letter, row) in letters.into_iter().zip(rows) {
            match row {
                Ok(rows) => {
                    parts.push(Part { rows, ids: vec![letter.id], split: letter.split, position: letter.position });
                }
                Err(error) => kept.push(stays(letter, told(&error))),
            }
        }
        if !parts.is_empty() {
            entering.insert(stage, Entering { parts: joined(&schema, parts)?, schema });
        }
    }
    Ok((entering, kept))
}

fn stays(letter: Letter, why: String) -> Kept {
    Kept { id: letter.id, stage: letter.stage, why }
}

fn told(error: &Error) -> String {
    match &error.place().field {
        Some(field) => format!("field `{field}`: {}", error.message()),
        None => error.message().to_owned(),
    }
}

fn columns(node: &PlannedNode) -> Option<&SchemaRef> {
    match node.role {
        Role::Source(_) => node.outputs.first(),
        Role::Stage(_) | Role::Sink(_) => node.inputs.first(),
    }
}

/// The most rows of a part.
const ROWS_MAX: usize = 8_192;

/// Parts of the same place that follow each other as one.
fn joined(schema: &SchemaRef, parts: Vec<Part>) -> Result<Vec<Part>> {
    let mut groups: Vec<(Part, Vec<RecordBatch>)> = Vec::new();
    for part in parts {
        match groups.last_mut() {
            Some((last, rows))
                if (&last.split, &last.position) == (&part.split, &part.position) && rows.len() < ROWS_MAX =>
            {
                last.ids.extend(part.ids);
                rows.push(part.rows);
            }
            _ => {
                let rows = vec![part.rows.clone()];
                groups.push((part, rows));
            }
        }
    }
    let join = |(part, rows): (Part, Vec<RecordBatch>)| {
        Ok(Part { rows: arrow::compute::concat_batches(schema, &rows)?, ..part })
    };
    groups.into_iter().map(join).collect()
}

/// The row of each letter, or why it can't be one.
fn read(
    node: &PlannedNode,
    schema: &SchemaRef,
    letters: &[Letter],
    secrets: &Secrets,
) -> Result<Vec<Result<RecordBatch>>> {
    let mut rows: Vec<Option<Result<RecordBatch>>> = letters.iter().map(|_| None).collect();
    let (mut texts, mut objects) = (Vec::new(), Vec::new());
    for (n, letter) in letters.iter().enumerate() {
        if !secrets.is_empty() && letter.row.contains("${secret.") {
            let error = Error::validation("its row held a secret, which no letter keeps: it is not what entered");
            rows[n] = Some(Err(error));
        } else if letter.row.trim_start().starts_with('{') {
            objects.push(n);
        } else if let Ok(text) = serde_json::from_str::<String>(&letter.row) {
            texts.push((n, text));
        } else {
            rows[n] = Some(Err(Error::validation("it holds neither a row nor a text")));
        }
    }
    for (n, row) in objects.iter().zip(of_objects(schema, objects.iter().map(|n| &letters[*n].row))?) {
        rows[*n] = Some(row);
    }
    let unread: Vec<_> = texts.iter().map(|(n, text)| Unread { text, split: letters[*n].split.as_deref() }).collect();
    let read = match &node.role {
        Role::Source(connector) => connector.reread(&unread, schema),
        Role::Stage(_) | Role::Sink(_) => None,
    };
    let mut read = read.into_iter().flatten();
    for (n, _) in &texts {
        let unread = || {
            let message = format!(
                "it holds a text, and `{}` reads no text by itself: mend the row where it came from",
                node.kind()
            );
            Err(Error::unsupported(message))
        };
        rows[*n] = Some(read.next().unwrap_or_else(unread));
    }
    Ok(rows.into_iter().map(|row| row.unwrap_or_else(|| Err(Error::engine("a letter was not read")))).collect())
}

/// The row of each object, with exactly the columns of `schema`.
fn of_objects<'a>(schema: &SchemaRef, objects: impl Iterator<Item = &'a String>) -> Result<Vec<Result<RecordBatch>>> {
    let mut decoder = Decoder::new(Columns::new(schema.clone(), &[]))?;
    let names: HashSet<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let one = |object: &'a String| {
        fits(object, &names)?;
        // A line's end within it stands between two values, or the text would not be JSON.
        let came = decoder.decode(object.replace(['\n', '\r'], " ").as_bytes())?;
        match came.faults.into_iter().next() {
            Some(fault) => Err(fault.error),
            None => Ok(came.batch),
        }
    };
    Ok(objects.map(one).collect())
}

/// Whether a row has the columns that are read now. One that lacks a column would get a null for it without a word.
fn fits(object: &str, names: &HashSet<&str>) -> Result<()> {
    let has: serde_json::Map<String, serde_json::Value> = serde_json::from_str(object)?;
    let mut missing: Vec<_> = names.iter().filter(|name| !has.contains_key(**name)).copied().collect();
    missing.sort_unstable();
    let mut more: Vec<_> = has.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
    more.sort_unstable();
    match (missing.first(), more.first()) {
        (None, None) => Ok(()),
        (Some(name), _) => Err(Error::validation(format!("its row has no column `{name}`, which is read there now"))),
        (None, Some(name)) => {
            Err(Error::validation(format!("its row has a column `{name}`, which is not read there any more")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Int64Array, ListArray,
        StringArray, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};
    use bourn_engine::data::columns::json_field;
    use bourn_engine::data::json::row_text;

    use super::*;

    /// A column of each kind, two rows, the second with nulls.
    fn batch() -> RecordBatch {
        let decimals = Decimal128Array::from(vec![Some(12_345_678_901_234_567_890_123_456_789), None]);
        let moments = TimestampMicrosecondArray::from(vec![Some(1_000_000_123_456), None]);
        let strict = StructArray::from(vec![(
            Arc::new(Field::new("a", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef,
        )]);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let columns: Vec<(Field, ArrayRef)> = vec![
            (Field::new("big", DataType::UInt64, false), Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
            (Field::new("float", DataType::Float32, true), Arc::new(Float32Array::from(vec![Some(0.1), None]))),
            (
                Field::new("decimal", DataType::Decimal128(38, 2), true),
                Arc::new(decimals.with_precision_and_scale(38, 2).unwrap()),
            ),
            (Field::new("text", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("1\n\"é"), None]))),
            (json_field("json"), Arc::new(StringArray::from(vec![Some("{\"a\":[1.50]}"), None]))),
            (
                Field::new("bytes", DataType::Binary, true),
                Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None])),
            ),
            (Field::new("is", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), None]))),
            (Field::new("day", DataType::Date32, true), Arc::new(Date32Array::from(vec![Some(19_000), None]))),
            (Field::new("at", moments.clone().slice(0, 1).data_type_of(), true), Arc::new(moments.clone())),
            (
                Field::new(
                    "utc",
                    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
                    true,
                ),
                Arc::new(moments.with_timezone("UTC")),
            ),
            (
                Field::new("nanos", DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None), true),
                Arc::new(TimestampNanosecondArray::from(vec![Some(1_000_000_123_456_789), None])),
            ),
            (Field::new("inner", strict.data_type_of(), true), Arc::new(strict)),
            (Field::new("list", lists.data_type_of(), true), Arc::new(lists)),
        ];
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
    }

    trait TypeOf {
        fn data_type_of(&self) -> DataType;
    }

    impl<A: arrow::array::Array> TypeOf for A {
        fn data_type_of(&self) -> DataType {
            self.data_type().clone()
        }
    }

    #[test]
    fn a_row_comes_back_from_its_letter_whatever_its_types() {
        let batch = batch();
        let texts: Vec<_> = (0..2).map(|row| row_text(&batch, row).unwrap()).collect();
        let rows = of_objects(&batch.schema(), texts.iter()).unwrap();
        for (n, row) in rows.into_iter().enumerate() {
            assert_eq!(row.unwrap_or_else(|e| panic!("{e}: {}", texts[n])), batch.slice(n, 1), "{}", texts[n]);
        }
    }

    #[test]
    fn a_row_with_other_columns_or_values_is_told() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let texts = ["{\"n\": 1\n}", "{\"m\":1}", "{\"n\":1,\"m\":1}", "{\"n\":\"x\"}"].map(str::to_owned);
        let rows = of_objects(&schema, texts.iter()).unwrap();
        let told: Vec<_> = rows.iter().map(|row| row.as_ref().map(RecordBatch::num_rows).map_err(told)).collect();
        assert_eq!(told[0], Ok(1));
        for (told, part) in told[1..].iter().zip(["no column `n`", "column `m`", "does not fit bigint"]) {
            assert!(told.as_ref().unwrap_err().contains(part), "{told:?}");
        }
    }
}
