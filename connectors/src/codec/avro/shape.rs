//! The shape of Avro's rows: enough of the schema to walk from one row to the next.
//!
//! The arrow crate trusts the counts in a file: rows that a block does not have, or lists of values without bytes, would
//! keep it busy for ever. What was walked over here holds what it claims.

use std::collections::HashMap;
use std::sync::Arc;

use bourn_engine::{Error, Result};
use serde_json::Value;

use super::{broken, long};

/// The most types that a schema unfolds to, where a name stands for what it names.
const TYPES_MAX: usize = 100_000;
/// How many values a block may have beside eight for each of its bytes.
const VALUES_FLOOR: usize = 1 << 20;

/// The shape of a value.
#[derive(Debug)]
pub enum Shape {
    /// No byte.
    Null,
    /// A number of its own length; an enum too.
    Long,
    /// So many bytes.
    Fixed(usize),
    /// A length, and so many bytes: text too.
    Bytes,
    /// Blocks of items.
    Array(Arc<Shape>),
    /// Blocks of a text and a value.
    Map(Arc<Shape>),
    /// One behind the other.
    Record(Vec<Arc<Shape>>),
    /// One of them, by its number.
    Union(Vec<Arc<Shape>>),
}

/// What is known of named types: `None` while one is being read.
type Names = HashMap<String, Option<(Arc<Shape>, usize)>>;

impl Shape {
    /// The shape of the rows that a schema in JSON describes.
    ///
    /// # Errors
    /// When it is none, or none of a record, or contains itself.
    pub fn of(schema: &[u8]) -> Result<Arc<Self>> {
        let json: Value = serde_json::from_slice(schema).map_err(|e| broken(format!("its schema: {e}")))?;
        let (shape, _) = read(&json, "", &mut Names::new())?;
        match &*shape {
            Self::Record(_) => Ok(shape),
            _ => Err(Error::unsupported("the rows of this Avro file are no records")),
        }
    }

    /// Walks over the value at the beginning of `bytes`; returns its length.
    ///
    /// # Errors
    /// When there is none.
    pub fn pass(&self, bytes: &[u8], walk: &mut Walk) -> Result<usize> {
        walk.values =
            walk.values.checked_sub(1).ok_or_else(|| broken("a block of more values than its bytes allow"))?;
        let cut = || broken("a row goes on behind its block");
        let within = |length: usize| if length <= bytes.len() { Ok(length) } else { Err(cut()) };
        match self {
            Self::Null => Ok(0),
            Self::Fixed(length) => within(*length),
            Self::Long => Ok(long(bytes)?.ok_or_else(cut)?.1),
            Self::Bytes => pass_bytes(bytes),
            Self::Record(fields) => {
                let mut at = 0;
                for field in fields {
                    at += field.pass(&bytes[at..], walk)?;
                }
                Ok(at)
            }
            Self::Union(branches) => {
                let (index, at) = long(bytes)?.ok_or_else(cut)?;
                let branch = usize::try_from(index).ok().and_then(|i| branches.get(i));
                let branch = branch.ok_or_else(|| broken(format!("a union has no branch {index}")))?;
                Ok(at + branch.pass(&bytes[at..], walk)?)
            }
            Self::Array(item) => pass_blocks(bytes, |bytes| item.pass(bytes, walk)),
            Self::Map(value) => pass_blocks(bytes, |bytes| {
                let at = pass_bytes(bytes)?;
                Ok(at + value.pass(&bytes[at..], walk)?)
            }),
        }
    }
}

/// What a walk over a block may still do.
pub struct Walk {
    values: usize,
}

impl Walk {
    /// Over a block of so many bytes.
    pub fn over(bytes: usize) -> Self {
        Self { values: VALUES_FLOOR + bytes.saturating_mul(8) }
    }
}

fn pass_bytes(bytes: &[u8]) -> Result<usize> {
    let cut = || broken("a text goes on behind its block");
    let (length, at) = long(bytes)?.ok_or_else(cut)?;
    let end = usize::try_from(length).ok().and_then(|l| at.checked_add(l)).filter(|end| *end <= bytes.len());
    end.ok_or_else(cut)
}

fn pass_blocks(bytes: &[u8], mut pass: impl FnMut(&[u8]) -> Result<usize>) -> Result<usize> {
    let cut = || broken("a list goes on behind its block");
    let mut at = 0;
    loop {
        let (count, length) = long(&bytes[at..])?.ok_or_else(cut)?;
        at += length;
        if count == 0 {
            return Ok(at);
        }
        if count < 0 {
            // The length in bytes, for those who want to pass over it.
            at += long(&bytes[at..])?.ok_or_else(cut)?.1;
        }
        for _ in 0..count.unsigned_abs() {
            at += pass(&bytes[at..])?;
        }
    }
}

/// The shape of a type, and how many types it unfolds to.
fn read(json: &Value, namespace: &str, names: &mut Names) -> Result<(Arc<Shape>, usize)> {
    match json {
        Value::String(name) => by_name(name, namespace, names),
        Value::Array(branches) => {
            let (shapes, count) = all(branches.iter(), namespace, names)?;
            Ok((Arc::new(Shape::Union(shapes)), count))
        }
        Value::Object(of) => {
            let kind = of.get("type").ok_or_else(|| broken("its schema has a type without `type`"))?;
            let Value::String(kind) = kind else { return read(kind, namespace, names) };
            let part =
                |key: &str| of.get(key).ok_or_else(|| broken(format!("its schema has a {kind} without `{key}`")));
            match kind.as_str() {
                "array" => read(part("items")?, namespace, names).map(|(s, n)| (Arc::new(Shape::Array(s)), n + 1)),
                "map" => read(part("values")?, namespace, names).map(|(s, n)| (Arc::new(Shape::Map(s)), n + 1)),
                "record" | "error" | "enum" | "fixed" => {
                    let name = part("name")?.as_str().ok_or_else(|| broken("its schema has a name that is none"))?;
                    let within = of.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                    let full = full_name(name, within);
                    names.insert(full.clone(), None);
                    let found = match kind.as_str() {
                        "enum" => (Arc::new(Shape::Long), 1),
                        "fixed" => {
                            let size = part("size")?.as_u64().and_then(|s| usize::try_from(s).ok());
                            let size = size.ok_or_else(|| broken("its schema has a size that is none"))?;
                            (Arc::new(Shape::Fixed(size)), 1)
                        }
                        _ => {
                            let within = full.rsplit_once('.').map_or("", |(space, _)| space);
                            let fields = part("fields")?.as_array();
                            let fields = fields.ok_or_else(|| broken("its schema has fields that are no list"))?;
                            let no_type = || broken("its schema has a field without a type");
                            let types: Result<Vec<_>> =
                                fields.iter().map(|f| f.get("type").ok_or_else(no_type)).collect();
                            let (shapes, count) = all(types?.into_iter(), within, names)?;
                            (Arc::new(Shape::Record(shapes)), count)
                        }
                    };
                    names.insert(full, Some(found.clone()));
                    Ok(found)
                }
                name => by_name(name, namespace, names),
            }
        }
        _ => Err(broken("its schema has a type that is none")),
    }
}

fn all<'a>(
    types: impl Iterator<Item = &'a Value>,
    namespace: &str,
    names: &mut Names,
) -> Result<(Vec<Arc<Shape>>, usize)> {
    let (mut shapes, mut total) = (Vec::new(), 1_usize);
    for json in types {
        let (shape, count) = read(json, namespace, names)?;
        total = total.saturating_add(count);
        if total > TYPES_MAX {
            return Err(broken(format!("its schema unfolds to more than {TYPES_MAX} types")));
        }
        shapes.push(shape);
    }
    Ok((shapes, total))
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn by_name(name: &str, namespace: &str, names: &Names) -> Result<(Arc<Shape>, usize)> {
    let shape = match name {
        "null" => Shape::Null,
        "boolean" => Shape::Fixed(1),
        "int" | "long" => Shape::Long,
        "float" => Shape::Fixed(4),
        "double" => Shape::Fixed(8),
        "bytes" | "string" => Shape::Bytes,
        _ => {
            return match names.get(&full_name(name, namespace)).or_else(|| names.get(name)) {
                Some(Some(found)) => Ok(found.clone()),
                Some(None) => Err(Error::unsupported(format!("the Avro type `{name}` contains itself"))),
                None => Err(broken(format!("its schema names a type `{name}` that it does not have"))),
            };
        }
    };
    Ok((Arc::new(shape), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(schema: &str, bytes: &[u8]) -> Result<usize> {
        Shape::of(schema.as_bytes())?.pass(bytes, &mut Walk::over(bytes.len()))
    }

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"a.R","fields":[{fields}]}}"#)
    }

    #[test]
    fn a_value_of_every_type_is_walked_over() {
        let cases: [(&str, &[u8]); 10] = [
            (r#"{"name":"a","type":"null"}"#, b""),
            (r#"{"name":"a","type":"boolean"}"#, b"\x01"),
            (r#"{"name":"a","type":{"type":"int","logicalType":"date"}}"#, b"\x80\x01"),
            (r#"{"name":"a","type":"double"}"#, b"12345678"),
            (r#"{"name":"a","type":"string"}"#, b"\x06abc"),
            (r#"{"name":"a","type":["null","long"]}"#, b"\x02\x08"),
            (r#"{"name":"a","type":{"type":"array","items":"long"}}"#, b"\x04\x02\x04\x01\x02\x06\x00"),
            (r#"{"name":"a","type":{"type":"map","values":"boolean"}}"#, b"\x02\x02k\x00\x00"),
            (r#"{"name":"a","type":{"type":"fixed","name":"F","size":2}},{"name":"b","type":"F"}"#, b"aabb"),
            (r#"{"name":"a","type":{"type":"enum","name":"b.E","symbols":["x"]}},{"name":"b","type":"b.E"}"#, b"\0\0"),
        ];
        for (fields, bytes) in cases {
            let behind = [bytes, b"behind"].concat();
            assert_eq!(walk(&record(fields), &behind).unwrap(), bytes.len(), "{fields}");
            for length in 0..bytes.len() {
                assert!(walk(&record(fields), &bytes[..length]).is_err(), "{fields} of {length} bytes");
            }
        }
    }

    #[test]
    fn a_list_of_values_without_bytes_ends_the_walk() {
        let schema = record(r#"{"name":"a","type":{"type":"array","items":"null"}}"#);
        // 2^62 nulls.
        let error = walk(&schema, b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\0").unwrap_err();
        assert!(error.message().ends_with("a block of more values than its bytes allow"), "{error}");
    }

    #[test]
    fn a_schema_that_contains_itself_or_unfolds_for_ever_is_refused() {
        let error = walk(&record(r#"{"name":"a","type":["null","R"]}"#), b"").unwrap_err();
        assert_eq!(error.message(), "the Avro type `R` contains itself");
        let mut fields = vec![r#"{"name":"f0","type":{"type":"record","name":"R0","fields":[]}}"#.to_owned()];
        for i in 1..40 {
            let (name, before) = (format!("R{i}"), format!("R{}", i - 1));
            fields.push(format!(
                r#"{{"name":"f{i}","type":{{"type":"record","name":"{name}","fields":[{{"name":"x","type":"{before}"}},{{"name":"y","type":"{before}"}}]}}}}"#
            ));
        }
        let error = walk(&record(&fields.join(",")), b"").unwrap_err();
        assert!(error.message().contains("unfolds to more than"), "{error}");
        for (schema, told) in [("{", "EOF"), (r#""long""#, "no records"), (r#"{"type":"record"}"#, "without `name`")] {
            let error = walk(schema, b"").unwrap_err();
            assert!(error.message().contains(told), "{error}");
        }
    }
}
