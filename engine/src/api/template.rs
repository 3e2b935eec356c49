//! Text with `${...}` places that are filled from the columns of a row.

use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value};

use super::jq::Program;
use crate::data::columns::RESERVED_PREFIX;
use crate::data::json::cell_value;
use crate::diagnostic::{Problem, did_you_mean};
use crate::error::{Error, Result};

/// Text with places such as `${user.name}` or `${items[0].id}`: a column, then a path into its value. What does not begin with a
/// name is jq over the columns: `${.items | length}`. `$${` stands for a plain `${`. Values are data: what is filled in is never
/// read as a template again.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Place(Reference),
    Program(Expression),
}

/// A place in a template that is computed: a program of jq over the columns of the row as an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// What computes it.
    pub program: Program,
    /// Where it stands in the template, in bytes, from `$` to `}`.
    pub span: std::ops::Range<usize>,
}

/// A place in a template: a column and a path into its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The column, or the step of a workflow.
    pub root: String,
    /// The way into its value.
    pub path: Vec<Segment>,
    /// Where it stands in the template, in bytes, from `$` to `}`.
    pub span: std::ops::Range<usize>,
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The member of an object.
    Member(String),
    /// The element of a list, from 0.
    Element(usize),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When a place has no end or is no path.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("${") {
            let start = at + found;
            if text[at..start].ends_with('$') {
                literal.push_str(&text[at..start - 1]);
                literal.push_str("${");
                at = start + 2;
                continue;
            }
            literal.push_str(&text[at..start]);
            let end = end_of_place(&text[start + 2..]).map(|e| start + 2 + e);
            let end = end.ok_or_else(|| {
                Problem::new("`${` without its `}`").part(start..text.len()).help("write `$${` for a plain `${`")
            })?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(place(text, start, end)?);
            at = end + 1;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Its places, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(|p| match p {
            Part::Place(r) => Some(r),
            Part::Text(_) | Part::Program(_) => None,
        })
    }

    /// Its expressions, in order.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|p| match p {
            Part::Program(e) => Some(e),
            Part::Text(_) | Part::Place(_) => None,
        })
    }

    /// The text, when it has no place.
    pub fn plain(&self) -> Option<String> {
        self.parts.iter().map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None }).collect()
    }

    /// Whether it is one place and nothing else, so that its value keeps its type.
    pub fn is_one_place(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Place(_) | Part::Program(_)])
    }

    /// Checks that every place names one of the columns.
    ///
    /// # Errors
    /// One problem for each that does not.
    pub fn check<'a>(&self, columns: impl IntoIterator<Item = &'a str> + Clone) -> Vec<Problem> {
        let places = self.references().map(|r| (r.root.as_str(), r.span.clone()));
        let ways = self.expressions().flat_map(|expression| {
            let from = expression.span.start + "${".len();
            let first = expression.program.reads().ways.iter().filter_map(|way| way.first());
            first.map(move |(name, span)| (name.as_str(), from + span.start..from + span.end))
        });
        let unknown = places.chain(ways).filter(|(name, _)| !columns.clone().into_iter().any(|c| c == *name));
        unknown
            .map(|(name, span)| {
                let known: Vec<_> = columns.clone().into_iter().collect();
                let problem = Problem::new(format!("unknown name `{name}`"))
                    .part(span)
                    .label(format!("there is: {}", known.join(", ")));
                match did_you_mean(name, known) {
                    Some(help) => problem.help(help),
                    None => problem,
                }
            })
            .collect()
    }

    /// The text for one row: texts as they are, other values as JSON.
    ///
    /// # Errors
    /// When a place has no value in this row.
    pub fn render(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        self.render_with(rows, row, |_, value| value)
    }

    /// The same, with each value put through `encode`, which gets the text before it too.
    ///
    /// # Errors
    /// When a place has no value in this row.
    pub fn render_with(
        &self,
        rows: &RecordBatch,
        row: usize,
        mut encode: impl FnMut(&str, String) -> String,
    ) -> Result<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Place(_) | Part::Program(_) => {
                    let value = match part.value(rows, row)? {
                        Value::String(value) => value,
                        other => other.to_string(),
                    };
                    let value = encode(&text, value);
                    text.push_str(&value);
                }
            }
        }
        Ok(text)
    }

    /// The value for one row: that of the place when the template is one place and nothing else, a text otherwise.
    ///
    /// # Errors
    /// When a place has no value in this row.
    pub fn value(&self, rows: &RecordBatch, row: usize) -> Result<Value> {
        match self.parts.as_slice() {
            [part @ (Part::Place(_) | Part::Program(_))] => part.value(rows, row),
            _ => Ok(Value::String(self.render(rows, row)?)),
        }
    }
}

/// What stands between `${`, at `start`, and `}`, at `end`.
fn place(text: &str, start: usize, end: usize) -> Result<Part, Problem> {
    let (inner, span) = (&text[start + 2..end], start..end + 1);
    let begins_with_name = inner.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_');
    if !begins_with_name && !inner.trim().is_empty() {
        return Program::parse(inner).map(|program| Part::Program(Expression { program, span })).map_err(
            |(what, at)| {
                let from = (start + 2 + at).min(end);
                Problem::new(format!("`{}` {what}", inner.trim())).part(from..end + 1)
            },
        );
    }
    let (root, path) = parse_path(inner.trim()).map_err(|message| {
        Problem::new(message)
            .part(span.clone())
            .help("a place is a name and a path, as in `${step.results.items[0]}`, or jq that begins with a dot: `${.step.results | length}`")
    })?;
    Ok(Part::Place(Reference { root, path, span }))
}

/// The end of a place: the `}` that closes it. In jq there may be others before, in objects and texts.
fn end_of_place(text: &str) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let is_program = !text.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_');
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' if is_program => in_text = !in_text,
            '{' if is_program && !in_text => depth += 1,
            '}' if in_text => {}
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

impl Part {
    fn value(&self, rows: &RecordBatch, row: usize) -> Result<Value> {
        match self {
            Self::Text(text) => Ok(Value::String(text.clone())),
            Self::Place(reference) => reference.value(rows, row),
            Self::Program(Expression { program, .. }) => {
                let schema = rows.schema_ref();
                let mut object = Map::new();
                for (column, field) in rows.columns().iter().zip(schema.fields()) {
                    // What it does not read it need not see; all of it is all but what is the engine's own.
                    if field.name().starts_with(RESERVED_PREFIX) {
                        continue;
                    }
                    if program.reads().may_read(field.name()) {
                        object.insert(field.name().clone(), cell_value(column, field, row)?);
                    }
                }
                program.value(&Value::Object(object).to_string()).map_err(|e| e.at_row(row))
            }
        }
    }
}

impl Reference {
    /// The value in one row.
    ///
    /// # Errors
    /// When the row has none there.
    pub fn value(&self, rows: &RecordBatch, row: usize) -> Result<Value> {
        let missing = |at: String| Error::validation(format!("`${{{self}}}` has no value: {at}")).at_row(row);
        let schema = rows.schema_ref();
        let index = schema.index_of(&self.root).map_err(|_| missing(format!("there is no column `{}`", self.root)))?;
        let mut value = cell_value(rows.column(index), schema.field(index), row)?;
        for segment in &self.path {
            let inner = match segment {
                Segment::Member(name) => value.get_mut(name),
                Segment::Element(index) => value.get_mut(index),
            };
            value = match inner {
                Some(inner) => inner.take(),
                None => return Err(missing(format!("no `{segment}` in {}", kind_of(&value)))),
            };
        }
        Ok(value)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.root)?;
        self.path.iter().try_for_each(|s| write!(f, "{}{s}", if matches!(s, Segment::Member(_)) { "." } else { "" }))
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(name) => f.write_str(name),
            Self::Element(index) => write!(f, "[{index}]"),
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object without it",
    }
}

/// `name(.name | [number])*`
fn parse_path(text: &str) -> Result<(String, Vec<Segment>), String> {
    let is_name = |s: &str| {
        !s.is_empty()
            && s.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
            && !s.starts_with(|c: char| c.is_ascii_digit())
    };
    let wrong = || format!("`{text}` is no path");
    let mut segments = Vec::new();
    for piece in text.split('.') {
        let (name, mut rest) = piece.split_at(piece.find('[').unwrap_or(piece.len()));
        if !is_name(name) {
            return Err(wrong());
        }
        segments.push(Segment::Member(name.to_owned()));
        while let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']').ok_or_else(wrong)?;
            segments.push(Segment::Element(index.trim().parse().map_err(|_| wrong())?));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(wrong());
        }
    }
    match segments.remove(0) {
        Segment::Member(root) => Ok((root, segments)),
        Segment::Element(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::columns::json_field;
    use arrow::array::StringArray;
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    fn rows(document: &str) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![json_field("a")]));
        RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec![document]))]).unwrap()
    }

    #[test]
    fn places_are_filled_once_and_values_stay_data() {
        let rows = rows(r#"{"results": "say ${a.b} }", "list": [{"n": 7}]}"#);
        let render = |t: &str| Template::parse(t).unwrap().render(&rows, 0).map_err(|e| e.to_string());
        assert_eq!(render("x ${a.results}!"), Ok("x say ${a.b} }!".into()));
        assert_eq!(render("${ a.list[0].n } of $${a}"), Ok("7 of ${a}".into()));
        assert_eq!(render("${a.list}"), Ok(r#"[{"n":7}]"#.into()));
        assert!(render("${a.results.x}").unwrap_err().contains("`${a.results.x}` has no value: no `x` in a text"));
    }

    #[test]
    fn values_can_be_encoded_by_what_stands_before_them() {
        let template = Template::parse("a ${a.n}, ${a.n}").unwrap();
        let encode = |before: &str, value: String| format!("<{}:{value}>", before.len());
        assert_eq!(template.render_with(&rows(r#"{"n": "x"}"#), 0, encode).unwrap(), "a <2:x>, <9:x>");
    }

    #[test]
    fn what_begins_with_no_name_is_jq() {
        let rows = rows(r#"{"n": 7, "list": [1, 2]}"#);
        let value = |t: &str| Template::parse(t).unwrap().value(&rows, 0).map_err(|e| e.to_string());
        assert_eq!(value("${.a.n > 6}"), Ok(true.into()));
        assert_eq!(value("${ {n: .a.n, brace: \"}\"} }"), Ok(serde_json::json!({"n": 7, "brace": "}"})));
        assert_eq!(value("${.a.list | length} of ${a.n}"), Ok("2 of 7".into()));
        assert_eq!(value("${.a.x}"), Ok(Value::Null));
        assert!(value("${.a + 1}").unwrap_err().contains("row 0: `${.a + 1}`: "));
    }

    #[test]
    fn a_template_of_one_place_keeps_the_type() {
        let rows = rows(r#"{"n": 7}"#);
        assert_eq!(Template::parse("${a.n}").unwrap().value(&rows, 0).unwrap(), 7);
        assert_eq!(Template::parse("${a.n}.").unwrap().value(&rows, 0).unwrap(), "7.");
    }

    #[test]
    fn a_bad_place_is_a_problem_that_points_at_it() {
        assert_eq!(Template::parse("ab ${c").unwrap_err().part, Some(3..6));
        assert_eq!(Template::parse("ab ${1 + }").unwrap_err().part, Some(9..10));
        assert_eq!(Template::parse("ab ${a + 2}").unwrap_err().part, Some(3..11));
        let problems = Template::parse("${stepp.x}").unwrap().check(["step", "other"]);
        assert_eq!(problems[0].help.as_deref(), Some("did you mean `step`?"));
    }
}
