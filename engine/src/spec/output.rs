//! What becomes of results before they count: those of a step, and those of a workflow.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::reader::Reader;
use super::workflow_keys::StepKeys;
use crate::api::jq::Program;
use crate::api::template::{Reference, Segment, Template};
use crate::diagnostic::{Key, Problem};
use crate::error::{Error, Result};

/// `output`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputKeys {
    /// What is made of the results before they count: `${ .result }` is jq over them, and lists and objects may have such texts in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#as: Option<Value>,
    /// A JSON Schema for what is made of them. Results of a step that do not fit are a failed attempt; a JSON document in a text that a model
    /// gave is taken out of it first. An output of a workflow that does not fit fails the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// What becomes of results before they count: they are made into something else, and that is checked.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "OutputKeys", into = "OutputKeys")]
pub struct Output {
    keys: OutputKeys,
    shape: Option<Shape>,
    schema: Option<Arc<Validator>>,
}

impl Output {
    fn of(keys: OutputKeys) -> Result<Self, Problem> {
        if keys == OutputKeys::default() {
            let problem = Problem::new("this says nothing of the output");
            return Err(problem.help("say `as`, `schema` or both"));
        }
        let shape = keys.r#as.as_ref().map(Shape::of).transpose().map_err(|problem| problem.under("as"))?;
        let schema = keys.schema.as_ref().map(jsonschema::validator_for).transpose();
        let schema =
            schema.map_err(|e| Problem::new(format!("this is no JSON Schema: {e}")).under("schema"))?.map(Arc::new);
        Ok(Self { keys, shape, schema })
    }

    /// What an `output` at `path` says.
    pub(super) fn read(reader: &mut Reader<'_>, keys: &OutputKeys, path: &[Key]) -> Option<Self> {
        match Self::of(keys.clone()) {
            Ok(output) => Some(output),
            Err(problem) => {
                reader.fault(path, problem);
                None
            }
        }
    }

    /// What a step says of its results.
    pub(super) fn of_step(
        reader: &mut Reader<'_>,
        keys: &StepKeys,
        instead: Option<&str>,
        path: &[Key],
    ) -> Option<Self> {
        let said = keys.output.as_ref()?;
        let at = [path, &["output".into()]].concat();
        if let Some(block) = instead {
            let problem = Problem::new(format!("the results of a `{block}` are not checked here"));
            let help = if block == "workflow" { "say it in the workflow" } else { "say it of a step with a command" };
            reader.fault_at_key(&at, problem.help(help));
        }
        let output = Self::read(reader, said, &at)?;
        let faults = keys.default.as_ref().map(|default| output.faults(default)).unwrap_or_default();
        if !faults.is_empty() {
            let at = [path, &["default".into()]].concat();
            let problem = Problem::new("this does not fit the `output.schema` of the step");
            reader.fault(&at, problem.help(faults.join("; ")));
        }
        Some(output)
    }

    /// What is made of results, unchecked.
    ///
    /// # Errors
    /// When that can't be made of them.
    pub fn make(&self, results: Value) -> Result<Value> {
        let Some(shape) = &self.shape else { return Ok(results) };
        shape.make(&results).map_err(|e| Error::validation(format!("`output.as` can't be made: {e}")))
    }

    /// The same as a program of jq.
    pub(super) fn program(&self) -> String {
        self.shape.as_ref().map_or_else(|| ".".to_owned(), Shape::program)
    }

    /// What of it does not fit the schema.
    pub fn faults(&self, made: &Value) -> Vec<String> {
        let told = |e: jsonschema::ValidationError<'_>| match e.instance_path().as_str() {
            "" => e.to_string(),
            path => format!("{path}: {e}"),
        };
        self.schema.iter().flat_map(|schema| schema.iter_errors(made)).map(told).collect()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.fmt(f)
    }
}

impl TryFrom<OutputKeys> for Output {
    type Error = String;
    fn try_from(keys: OutputKeys) -> Result<Self, String> {
        Self::of(keys).map_err(|problem| problem.message)
    }
}

impl From<Output> for OutputKeys {
    fn from(output: Output) -> Self {
        output.keys
    }
}

impl JsonSchema for Output {
    fn schema_name() -> Cow<'static, str> {
        OutputKeys::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        OutputKeys::json_schema(generator)
    }
}

/// A document with places of jq in it: what is made of another document.
#[derive(Clone, Debug)]
enum Shape {
    Plain(Value),
    Made(Jq),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Shape {
    fn of(said: &Value) -> Result<Self, Problem> {
        Ok(match said {
            Value::String(text) if text.contains("${") => match Template::parse(text).ok().and_then(|t| t.plain()) {
                Some(plain) => Self::Plain(plain.into()),
                None => Self::Made(Jq::of(text)?),
            },
            Value::Array(list) => {
                let one = |(at, said): (usize, &Value)| Self::of(said).map_err(|problem| problem.under(at));
                Self::List(list.iter().enumerate().map(one).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let one = |(name, said): (&String, &Value)| {
                    Self::of(said).map(|made| (name.clone(), made)).map_err(|problem| problem.under(name.as_str()))
                };
                Self::Object(members.iter().map(one).collect::<Result<_, _>>()?)
            }
            plain => Self::Plain(plain.clone()),
        })
    }

    /// The same as one program of jq.
    fn program(&self) -> String {
        match self {
            Self::Plain(value) => value.to_string(),
            Self::Made(jq) => format!("({})", jq.program.text()),
            Self::List(list) => format!("[{}]", list.iter().map(Self::program).collect::<Vec<_>>().join(", ")),
            Self::Object(members) => {
                let member =
                    |(name, one): &(String, Self)| format!("({}): {}", Value::from(name.as_str()), one.program());
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn make(&self, of: &Value) -> Result<Value> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Made(jq) => jq.make(of)?,
            Self::List(list) => list.iter().map(|one| one.make(of)).collect::<Result<_>>()?,
            Self::Object(members) => {
                let member = |(name, one): &(String, Self)| Ok((name.clone(), one.make(of)?));
                Value::Object(members.iter().map(member).collect::<Result<_>>()?)
            }
        })
    }
}

/// A text that is one place of jq: `${ .results | length }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Jq {
    text: String,
    program: Program,
}

impl Jq {
    /// Reads it.
    pub(super) fn of(text: &str) -> Result<Self, Problem> {
        let inner = text.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let one = Template::parse(text.trim()).map_or_else(|_| inner.is_some(), |template| template.is_one_place());
        let Some(inner) = inner.filter(|_| one) else {
            let problem = Problem::new("this is one place, and nothing around it");
            return Err(problem.help("for example `${ .result }`, which is jq over what is given"));
        };
        let wrong = |(what, _): (String, usize)| {
            let problem = Problem::new(format!("`{}` {what}", inner.trim()));
            problem.help("jq over what is given begins with a dot, as in `${ .result }`")
        };
        Ok(Self { text: text.to_owned(), program: Program::parse(inner).map_err(wrong)? })
    }

    /// What it makes of a document.
    ///
    /// # Errors
    /// When it fails, or makes nothing.
    pub fn make(&self, of: &Value) -> Result<Value> {
        self.program.value(&of.to_string())
    }
}

impl TryFrom<String> for Jq {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::of(&text).map_err(|problem| problem.message)
    }
}

impl From<Jq> for String {
    fn from(jq: Jq) -> Self {
        jq.text
    }
}

impl JsonSchema for Jq {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Jq".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^\\s*\\$\\{" })
    }
}

/// What `final_output` is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Format {
    /// The results of some steps, as they are.
    Of(Pick),
    /// `${ … }`: jq over the results of every step by its id.
    Jq(Jq),
    /// A file that has it, in place of the document.
    File(FileFormat),
}

/// Which results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// The results of the last step of the spec.
    #[default]
    Last,
    /// The results of every step by its id.
    Map,
    /// The results of every step, in the order of the spec.
    List,
    /// The results of every step as one text, in the order of the spec.
    Text,
}

/// A file with the output; `final_output` says where it is, its SHA-256 and how many bytes it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileFormat {
    /// Its path, with places such as `${run_id}` and `${step.field}`, the results of steps. It is there as a whole or not at all.
    pub file: String,
    /// What is in it: a text as it is, anything else as JSON.
    #[serde(default)]
    pub format: Box<Format>,
}

impl Default for Format {
    fn default() -> Self {
        Self::Of(Pick::Last)
    }
}

impl Format {
    /// What is made of the results.
    ///
    /// # Errors
    /// When jq fails.
    pub fn make(&self, results: &Map<String, Value>) -> Result<Value> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(match self {
            Self::Of(Pick::Last) => results.values().next_back().cloned().unwrap_or_default(),
            Self::Of(Pick::Map) => Value::Object(results.clone()),
            Self::Of(Pick::List) => results.values().cloned().collect(),
            Self::Of(Pick::Text) => results.values().map(text).collect::<Vec<_>>().join("\n\n").into(),
            Self::Jq(jq) => {
                let failed = |e| Error::validation(format!("`output_format` can't be made: {e}"));
                jq.make(&Value::Object(results.clone())).map_err(failed)?
            }
            Self::File(file) => file.format.make(results)?,
        })
    }

    /// The same as a program of jq over a list of `{key: ID, value: RESULTS}`.
    pub(super) fn program(&self) -> String {
        match self {
            Self::Of(Pick::Last) => "(last | .value)".to_owned(),
            Self::Of(Pick::Map) => "from_entries".to_owned(),
            Self::Of(Pick::List) => "map(.value)".to_owned(),
            Self::Of(Pick::Text) => {
                r#"(map(.value | if type == "string" then . else tojson end) | join("\n\n"))"#.to_owned()
            }
            Self::Jq(jq) => format!("(from_entries | {})", jq.program.text()),
            Self::File(file) => file.format.program(),
        }
    }

    /// The file that it goes to.
    pub fn file(&self) -> Option<&FileFormat> {
        if let Self::File(file) = self { Some(file) } else { None }
    }

    /// Tells what is wrong with it; `ids` are those of the steps.
    pub(super) fn check(&self, reader: &mut Reader<'_>, ids: &[String]) {
        let ids_of = |reader: &mut Reader<'_>, jq: &Jq, path: &[Key]| {
            let Ok(template) = Template::parse(&jq.text) else { return };
            for unknown in template.check(ids.iter().map(String::as_str)) {
                reader.fault(path, unknown);
            }
        };
        if let Self::Jq(jq) = self {
            ids_of(reader, jq, &["output_format".into()]);
        }
        let Self::File(FileFormat { file, format }) = self else { return };
        if let Self::Jq(jq) = &**format {
            ids_of(reader, jq, &["output_format".into(), "format".into()]);
        }
        let at = |key: &str| -> Vec<Key> { vec!["output_format".into(), key.into()] };
        if format.file().is_some() {
            reader.fault(&at("format"), Problem::new("a file has what is made of the results, and no other file"));
        }
        let known = ids.iter().map(String::as_str).chain([RUN_ID]);
        match Template::parse(file) {
            Ok(template) => {
                template.check(known).into_iter().for_each(|problem| reader.fault(&at("file"), problem));
                let is_record =
                    |place: &&Reference| matches!(place.path.first(), Some(Segment::Member(name)) if name == "results");
                for Reference { root, span, .. } in template.references().filter(is_record) {
                    let problem =
                        Problem::new(format!("`${{{root}}}` is what step `{root}` gave here, not its record"));
                    let help = format!("leave `.results` out; a member of that name is `${{.{root}.results}}`");
                    reader.fault(&at("file"), problem.help(help).part(span.clone()));
                }
            }
            Err(problem) => reader.fault(&at("file"), problem),
        }
    }
}

/// What a path of a file calls the id of its run.
pub const RUN_ID: &str = "run_id";
