//! What a run gives in the end, and the file that it goes to.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::artifacts::{Artifact, sha256};
use super::columns::{ADMISSION, cell};
use super::document::{Run, document};
use super::record::Record;
use super::result::DocumentConfig;
use crate::api::erased::ErasedStage;
use crate::api::limits::Retries;
use crate::api::template::Template;
use crate::api::{BuildContext, Call, CallContext, Cardinality, Limits, Operator, Reply};
use crate::checkpoint::store::Folder;
use crate::data::columns::{RUN_ID, json_field};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::journal::RunState;
use crate::spec::output;

/// What the file of an output is told as, where the files of steps have their ids.
pub(super) const OUTPUT: &str = "@output";
/// What values leave of a path: they name files, and no folders.
const NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// What a run gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Finished {
    /// What was made of the results.
    pub made: Value,
    /// The file that it goes to, and what that has.
    pub file: Option<(Artifact, Vec<u8>)>,
}

impl Finished {
    /// As the document has it.
    pub(super) fn told(&self) -> Value {
        self.file.as_ref().map_or_else(|| self.made.clone(), |(file, _)| json!(file))
    }
}

/// What a run gives whose steps gave these results.
pub(super) fn finish(config: &DocumentConfig, run: &str, results: &Map<String, Value>) -> Result<Finished> {
    let mut made = config.format.make(results)?;
    if let Some(output) = &config.output {
        made = output.make(made)?;
        let faults = output.faults(&made);
        if !faults.is_empty() {
            return Err(Error::validation(format!("the output does not fit `output.schema`: {}", faults.join("; "))));
        }
    }
    let Some(file) = config.format.file() else { return Ok(Finished { made, file: None }) };
    let content = match &made {
        Value::String(text) => text.clone(),
        other => format!("{other:#}\n"),
    };
    let content = content.into_bytes();
    let path = path(&file.file, run, results)?;
    let artifact = Artifact { path, sha256: sha256(&content), bytes: content.len() as u64 };
    Ok(Finished { made, file: Some((artifact, content)) })
}

/// A path with its places filled.
fn path(text: &str, run: &str, results: &Map<String, Value>) -> Result<String> {
    let template = Template::parse(text).map_err(|problem| Error::validation(problem.message))?;
    let run_id = (output::RUN_ID.to_owned(), Value::from(run));
    let all: Map<String, Value> = [run_id].into_iter().chain(results.clone()).collect();
    let fields: Vec<_> = all.keys().map(|name| json_field(name)).collect();
    let cell = |value: &Value| Arc::new(StringArray::from(vec![value.to_string()])) as ArrayRef;
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), all.values().map(cell).collect())?;
    let encode = |before: &str, value: String| {
        let name = utf8_percent_encode(&value, NAMES).to_string();
        // `..` is no name, and what begins with a dot is hidden.
        let begins = before.is_empty() || before.ends_with('/');
        if begins && name.starts_with('.') { format!("%2E{}", &name[1..]) } else { name }
    };
    let path = template.render_with(&rows, 0, encode).map_err(|e| e.context("the path of the output"))?;
    if path.is_empty() || path.ends_with('/') {
        return Err(Error::validation(format!("the path of the output, `{path}`, names no file")));
    }
    Ok(path)
}

/// A run as the records of its steps tell it.
pub(super) fn run_of(config: &DocumentConfig, rows: &RecordBatch, row: usize) -> Result<Run> {
    let read =
        |name: &str| -> Result<Option<Record>> { Ok(cell(rows, name, row)?.map(serde_json::from_str).transpose()?) };
    let record = |name: &String| read(name)?.ok_or_else(|| Error::engine(format!("step `{name}` has no record")));
    Ok(Run {
        id: cell(rows, RUN_ID, row)?.unwrap_or_default().to_owned(),
        admission: read(ADMISSION)?,
        steps: config.steps.iter().map(|s| record(&s.id)).collect::<Result<_>>()?,
    })
}

/// Where the files of outputs are written, before their runs are told to have ended. It can't be read from a spec, so it has no `StageConfig`
/// of its own.
pub(super) struct FileConfig(pub DocumentConfig);

impl ErasedStage for FileConfig {
    fn kind(&self) -> &'static str {
        "output"
    }

    fn schema(&self, inputs: &[arrow::datatypes::SchemaRef]) -> Result<arrow::datatypes::SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        // A file is there or it is not: a disk that fails ends the job, which goes on from there.
        let retry = Retries { max_attempts: 1, ..Retries::default() };
        let limits = Limits { rows: 1, timeout: Limits::NO_TIMEOUT, retry, ..Limits::default() };
        Ok(Operator::call(Writing(self.0.clone()), limits))
    }

    fn describe(&self) -> Value {
        json!(self.0.format.file())
    }
}

struct Writing(DocumentConfig);

impl Call for Writing {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        for row in 0..rows.num_rows() {
            let run = run_of(&self.0, &rows, row)?;
            let document = document(&self.0, &run);
            if document.status != RunState::Completed {
                continue;
            }
            let Some((artifact, bytes)) = finish(&self.0, &run.id, &document.workflow_results)?.file else {
                continue;
            };
            let env = context.env.clone();
            context.env.blocking(move || write(env, &artifact.path, &run.id, &bytes)).await??;
        }
        Ok(Reply::rows(rows))
    }
}

/// Writes a file that is there as a whole or not at all.
fn write(env: crate::env::Env, path: &str, run: &str, content: &[u8]) -> Result<()> {
    let whole = Path::new(path);
    let (Some(folder), Some(name)) = (whole.parent(), whole.file_name().and_then(|name| name.to_str())) else {
        return Err(Error::validation(format!("the path of the output, `{path}`, names no file")));
    };
    if env.files().is_special(whole) {
        return Err(Error::validation(format!("the path of the output, `{path}`, is no plain file")));
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Folder::at(env, folder).put_by(run, name, content)
}
