//! Configurations with `${…}` places: texts, and whole JSON documents.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::template::Template;
use bourn_engine::diagnostic::{Key, Problem, Problems};
use bourn_engine::{Error, Result};
use serde_json::{Map, Value};

/// Refuses a row in which a place is null: the word `null` would stand there. `why` goes on behind "is null, which".
///
/// # Errors
/// When one is.
pub fn no_null(template: &Template, rows: &RecordBatch, row: usize, why: &str) -> Result<()> {
    for place in template.references() {
        if place.value(rows, row)?.is_null() {
            return Err(Error::validation(format!("`${{{place}}}` is null, which {why}")).at_row(row));
        }
    }
    Ok(())
}

/// A JSON document whose texts may have places.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// A value without a place.
    Plain(Value),
    /// A text with places.
    Text(Template),
    /// A list.
    List(Vec<Document>),
    /// An object, in order.
    Object(Vec<(String, Document)>),
}

impl Document {
    /// Reads the templates of a document.
    ///
    /// # Errors
    /// When one is none.
    pub fn read(value: &Value) -> Result<Self> {
        Ok(match value {
            Value::String(text) => Self::Text(template(text)?),
            Value::Array(list) => Self::List(list.iter().map(Self::read).collect::<Result<_>>()?),
            Value::Object(map) => {
                Self::Object(map.iter().map(|(k, v)| Ok((k.clone(), Self::read(v)?))).collect::<Result<_>>()?)
            }
            other => Self::Plain(other.clone()),
        })
    }

    /// The document for one row. A text that is one place and nothing else becomes the value of the place.
    ///
    /// # Errors
    /// When a place has no value in this row.
    pub fn value(&self, rows: &RecordBatch, row: usize) -> Result<Value> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Text(template) => template.value(rows, row)?,
            Self::List(list) => Value::Array(list.iter().map(|d| d.value(rows, row)).collect::<Result<_>>()?),
            Self::Object(members) => {
                let member = |(name, d): &(String, Self)| Ok((name.clone(), d.value(rows, row)?));
                Value::Object(members.iter().map(member).collect::<Result<Map<_, _>>>()?)
            }
        })
    }

    /// The document for one row as a text: texts as they are, other values as JSON.
    ///
    /// # Errors
    /// When a place has no value in this row.
    pub fn text(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        match self {
            Self::Text(template) => template.render(rows, row),
            other => Ok(other.value(rows, row)?.to_string()),
        }
    }
}

/// A template that planning has agreed to.
///
/// # Errors
/// When it is none after all.
pub fn template(text: &str) -> Result<Template> {
    Template::parse(text).map_err(|p| Error::validation(p.message))
}

/// Collects what is wrong with the places of a configuration.
pub struct Check<'a> {
    columns: Vec<&'a str>,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    /// Against these columns.
    pub fn against(input: &'a SchemaRef) -> Self {
        Self { columns: input.fields().iter().map(|f| f.name().as_str()).collect(), problems: Vec::new() }
    }

    /// Checks one text.
    pub fn text(&mut self, path: &[Key], text: &str) {
        let found = match Template::parse(text) {
            Ok(template) => template.check(self.columns.iter().copied()),
            Err(problem) => vec![problem],
        };
        self.problems.extend(found.into_iter().map(|p| Problem { path: path.to_vec(), ..p }));
    }

    /// Checks every text of a document.
    pub fn document(&mut self, path: &[Key], value: &Value) {
        let below = |key: Key| [path, &[key]].concat();
        match value {
            Value::String(text) => self.text(path, text),
            Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| self.document(&below(i.into()), v)),
            Value::Object(map) => map.iter().for_each(|(k, v)| self.document(&below(k.as_str().into()), v)),
            _ => {}
        }
    }

    /// Notes another problem.
    pub fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// All problems, and those of the schema that leaves.
    ///
    /// # Errors
    /// When there are any.
    pub fn finish(mut self, schema: Result<SchemaRef, Problem>) -> Result<SchemaRef, Problems> {
        match schema {
            Ok(schema) => Problems::check(self.problems).map(|()| schema),
            Err(problem) => {
                self.problems.push(problem);
                Err(Problems(self.problems))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;
    use serde_json::json;

    #[test]
    fn places_in_a_document_keep_their_type_and_names_are_no_templates() {
        let document = json!({"n": "${n}", "list": ["${name}!", 7, null], "${n}": "$${n}"});
        let value = Document::read(&document).unwrap().value(&rows![{"n": 3, "name": "a"}], 0).unwrap();
        assert_eq!(value, json!({"n": 3, "list": ["a!", 7, null], "${n}": "${n}"}));
    }

    #[test]
    fn problems_stand_at_their_place_in_the_document() {
        let rows = rows![{"name": "a"}];
        let schema = rows.schema();
        let mut check = Check::against(&schema);
        check.document(&["value".into()], &json!({"list": ["${nam}", "${"]}));
        let problems = check.finish(Ok(schema.clone())).unwrap_err().0;
        let path = |i: usize| vec![Key::from("value"), "list".into(), i.into()];
        assert_eq!((&problems[0].path, problems[0].help.as_deref()), (&path(0), Some("did you mean `name`?")));
        assert_eq!((&problems[1].path, problems[1].message.as_str()), (&path(1), "`${` without its `}`"));
    }
}
