//! Admission: lines of JSON become runs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::columns::{PASSAGE, RUN, start};
use super::record::Record;
use crate::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage, StageConfig};
use crate::data::columns::RUN_ID;
use crate::data::units::Interval;
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::journal::Rest;
use crate::spec::Chain;
use crate::state::{StateVisitor, Value};

/// Makes a run of each line. A line that is no JSON, does not fit the schema of the input, or is null for the reason that
/// the column `fault` gives, is a run that failed at its input: no line is lost.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdmitConfig {
    /// The name of the workflow.
    pub workflow: String,
    /// The id of the source.
    pub source: String,
    /// The id of the run, when there is one by hand.
    pub run_id: Option<String>,
    /// Which job it is.
    pub job: u64,
    /// When it began, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<i64>,
    /// The number of the first run.
    pub first: u64,
    /// A JSON Schema that every input must fit.
    pub input: Option<Json>,
    /// Whether runs may be passed several times at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overlap: bool,
    /// Whether the time of runs, or of workflows within, is bounded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_timed: bool,
    /// How long a run may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
    /// The runs at rest of a job that has a journal.
    #[serde(skip)]
    #[schemars(skip)]
    pub rest: Option<Rest>,
}

impl StageConfig for AdmitConfig {
    const NAME: &'static str = "admit";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let text = inputs[0].field_with_name("text").map(|f| f.data_type() == &DataType::Utf8);
        if text.unwrap_or_default() {
            Ok(start(self.overlap, self.is_timed))
        } else {
            Err(Problem::new("the source of a workflow gives lines: a column `text`").into())
        }
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::AtMostOne
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = self.input.as_ref().map(jsonschema::validator_for).transpose();
        let schema = schema.map_err(|e| Error::validation(format!("the schema of the input: {e}")))?;
        let (config, env) = (self.clone(), context.env.clone());
        Ok(Operator::stage(Admit { config, env, schema, next: Value::new(self.first) }))
    }
}

struct Admit {
    config: AdmitConfig,
    env: Env,
    schema: Option<jsonschema::Validator>,
    /// The number of the next run.
    next: Value<u64>,
}

impl Stage for Admit {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let text = super::columns::texts(rows, "text")?;
        let file = rows.column_by_name("file").and_then(|c| c.as_string_opt::<i32>());
        let fault = rows.column_by_name("fault").and_then(|c| c.as_string_opt::<i32>());
        let line = rows.column_by_name("number").map(|c| cast(c, &DataType::UInt64)).transpose()?;
        let line = line.as_ref().and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let back = rows.column_by_name(RUN).and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let (mut ids, mut numbers, mut inputs, mut failures) = (vec![], vec![], vec![], vec![]);
        let mut admitted: Vec<usize> = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            if let Some(back) = back.filter(|c| c.is_valid(row)) {
                ids.push(super::columns::cell(rows, RUN_ID, row)?.unwrap_or_default().to_owned());
                numbers.push(back.value(row));
                admitted.push(row);
                inputs.push(Some(text.value(row).to_owned()));
                failures.push(None);
                continue;
            }
            let given = if text.is_valid(row) { text.value(row).trim() } else { "" };
            let fault = fault.filter(|f| f.is_valid(row)).map(|f| f.value(row));
            if given.is_empty() && fault.is_none() {
                out.filtered(1);
                self.config.rest.iter().for_each(|rest| rest.over(1));
                continue;
            }
            let number = *self.next.get();
            self.next.set(number + 1);
            let place = (
                file.filter(|f| f.is_valid(row)).map_or("", |f| f.value(row)),
                line.filter(|l| l.is_valid(row)).map_or(number, |l| l.value(row)),
            );
            let checked = match fault {
                Some(fault) => Err(Error::validation(fault.to_owned())),
                None => self.check(given),
            };
            let failure = checked.err().map(|e| e.at_input(format!("{}:{}", place.0, place.1)));
            admitted.push(row);
            ids.push(self.id(number, place, given));
            numbers.push(number);
            inputs.push(failure.is_none().then(|| given.to_owned()));
            failures.push(failure.map(|e| serde_json::to_string(&Record::failed(&e, 1))).transpose()?);
        }
        let count = numbers.len();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(ids)),
            Arc::new(UInt64Array::from(numbers)),
            Arc::new(StringArray::from(inputs)),
            Arc::new(StringArray::from(failures)),
        ];
        if self.config.overlap {
            let passage = rows.column_by_name(PASSAGE).and_then(|c| c.as_primitive_opt::<UInt64Type>());
            let of = |row: &usize| passage.filter(|c| c.is_valid(*row)).map_or(0, |c| c.value(*row));
            columns.push(Arc::new(admitted.iter().map(of).collect::<UInt64Array>()));
        }
        if self.config.is_timed {
            // What the journal knows of a run from before stands over this.
            let now = self.env.wall();
            let deadline = self.config.timeout.map(|Interval(time)| now.after(time).0);
            columns.push(Arc::new(Int64Array::from(vec![now.0; count])));
            columns.push(Arc::new(Int64Array::from(vec![deadline; count])));
        }
        out.emit(RecordBatch::try_new(start(self.config.overlap, self.config.is_timed), columns)?);
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("next", &mut self.next)
    }
}

impl Admit {
    /// The id given by hand, or a hash of the place and of when its job began, so that a line that is read again is the same run, and one of
    /// another job is not.
    fn id(&self, number: u64, (file, line): (&str, u64), given: &str) -> String {
        match &self.config.run_id {
            Some(id) if number == self.config.first => id.clone(),
            Some(id) => format!("{id}-{number}"),
            None => {
                let mut hash = blake3::Hasher::new();
                for part in [self.config.workflow.as_str(), self.config.source.as_str(), file] {
                    // The length keeps `a`, `bc` and `ab`, `c` apart.
                    hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
                }
                if self.config.job > 1 {
                    hash.update(b"job").update(&self.config.job.to_le_bytes());
                }
                match self.config.began {
                    Some(began) => hash.update(b"began").update(&began.to_le_bytes()),
                    // Of a job that is kept nowhere no more is known than what it is given.
                    None => hash.update(b"given").update(given.as_bytes()),
                };
                hash.update(&line.to_le_bytes()).finalize().to_hex()[..32].to_owned()
            }
        }
    }

    fn check(&self, given: &str) -> Result<()> {
        // The parser counts lines of its own, and every input is one.
        let no_json = |e: serde_json::Error| {
            let told = e.to_string().replace(" at line 1 column ", " at column ");
            Error::validation(format!("the input is not JSON: {told}"))
        };
        let Some(schema) = &self.schema else {
            return serde_json::from_str::<IgnoredAny>(given).map(drop).map_err(no_json);
        };
        let faults = faults(schema, &serde_json::from_str(given).map_err(no_json)?);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::validation(format!("the input does not fit: {}", faults.join("; "))))
        }
    }
}

/// What of an input does not fit, each with its place.
pub(super) fn faults(schema: &jsonschema::Validator, input: &Json) -> Vec<String> {
    let told = |e: jsonschema::ValidationError<'_>| match e.instance_path().as_str() {
        "" => e.to_string(),
        path => format!("{path}: {e}"),
    };
    schema.iter_errors(input).map(told).collect()
}

/// What of an input does not fit the schema that the workflow declares; nothing when it declares none. For telling it
/// before a run is started by hand.
pub fn check_input(spec: &Chain, input: &Json) -> Vec<String> {
    // The schema was checked when the spec was loaded.
    let schema = spec.input.as_ref().and_then(|schema| jsonschema::validator_for(schema).ok());
    schema.map(|schema| faults(&schema, input)).unwrap_or_default()
}
