//! A step that runs a pipeline: what its block says, and what does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value, json};

use super::check::unknown;
use super::load::Loaded;
use super::model::{Places, Spec, Work};
use super::nested::{self, Included};
use super::node::{Content, Node};
use super::reader::Reader;
use super::references::Names;
use super::steps::Common;
use super::tried::Tried;
use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::template::Template;
use crate::api::{BuildContext, Call, CallContext, Cardinality, JobRequest, Jobs, Limits, Operator, Reply, Usage};
use crate::data::columns::json_field;
use crate::diagnostic::{Diagnostic, Key, Problem, Problems};
use crate::error::{Error, Result};
use crate::metrics::{JobStats, StageStats};

/// The key of a step.
pub(super) const PIPELINE: &str = "pipeline";
/// The column that it adds.
const RESULT: &str = "result";
/// Values that a variable may have which is only known in a run: a spec is at fault if it can't be read with any of them.
const STAND_INS: [&str; 5] = ["1", "1s", "true", "a", "http://127.0.0.1:1"];

/// What runs a pipeline. It can't be read from a spec by itself, so it has no `StageConfig` of its own.
struct PipelineStep {
    file: String,
    text: String,
    included: BTreeMap<String, String>,
    /// Environment variables that the pipeline sees, of the run.
    variables: BTreeMap<String, Template>,
}

impl Common<'_> {
    /// A pipeline as what a step does; `way` leads to its block from the step.
    pub(super) fn pipeline(
        reader: &mut Reader<'_>,
        block: &Node,
        (path, way): (&[Key], &[Key]),
        (names, tried): (&Names<'_>, &Tried),
        needs: &mut Vec<usize>,
    ) -> Option<Work> {
        let way = [way, &[PIPELINE.into()]].concat();
        let here = [path, &way].concat();
        let below = |key: &str| [here.as_slice(), &[key.into()]].concat();
        for key in ["args", "with"].into_iter().filter(|key| block.get(key).is_some()) {
            let at = [&here[..here.len() - 1], &[key.into()]].concat();
            let problem = Problem::new(format!("a pipeline has no `{key}`"));
            let help = "what it is given are variables: `pipeline: { spec: FILE, env: { DAY: \"${input.day}\" } }`";
            reader.fault_at_key(&at, problem.help(help));
        }
        let said = block.get(PIPELINE)?;
        let (spec, at) = match &said.content {
            Content::Map(members) => {
                for member in members.iter().filter(|m| !["spec", "env"].contains(&m.name.as_str())) {
                    reader
                        .fault_at_key(&below(&member.name), unknown("key", &member.name, ["spec", "env"].into_iter()));
                }
                (said.get("spec"), below("spec"))
            }
            _ => (Some(said), here.clone()),
        };
        let variables = said.get("env").map(Node::members).unwrap_or_default().iter().filter_map(|member| {
            let at = [below("env").as_slice(), &[member.name.as_str().into()]].concat();
            if member.name.is_empty() || member.name.contains(['=', '\0']) {
                let problem = Problem::new(format!("`{}` can't be the name of a variable", member.name));
                reader.fault_at_key(&at, problem);
            }
            let text = match &member.node.content {
                Content::List(_) | Content::Map(_) => {
                    let problem = Problem::new(format!("a variable is a text, and this is {}", member.node.kind()));
                    reader.fault(&at, problem);
                    return None;
                }
                Content::Text(text) => names.text(reader, text, &at, needs),
                _ => member.node.value().to_string(),
            };
            Some((member.name.clone(), Template::parse(&text).ok()?))
        });
        let variables: BTreeMap<String, Template> = variables.collect();
        if let Some(env) = said.get("env").filter(|env| !env.is_map()) {
            reader.fault(&below("env"), Problem::new(format!("expected a map of variables, found {}", env.kind())));
        }
        let Some(file) = spec.and_then(Node::text) else {
            let found = spec.map_or("nothing".to_owned(), |spec| spec.kind().to_string());
            let problem = Problem::new(format!("expected the path of a pipeline, found {found}"));
            reader.fault(&at, problem.help("a pipeline that a step runs stands in a file of its own"));
            return None;
        };
        let file = nested::text(reader, file, &at)?;
        match looked_at(reader, &file, &variables) {
            Ok(Some(loaded)) => check(reader, loaded, &at),
            Ok(None) => {}
            Err(told) => reader.told.extend(told),
        }
        let config = PipelineStep { file: file.name, text: file.text, included: reader.included.clone(), variables };
        let config = BoxStageConfig(Arc::new(config));
        let deadlines = tried.deadlines(reader, &config);
        Some(Work {
            command: PIPELINE.into(),
            config,
            // It takes as long as it takes, unless something is said.
            timeout: tried.timeouts.start_to_close.unwrap_or(Limits::NO_TIMEOUT.0),
            deadlines,
            retry: tried.retry.clone(),
            rate_limit: None,
            places: Places { known: vec![("env".to_owned(), [way.as_slice(), &["env".into()]].concat())] },
            workflow: None,
        })
    }
}

/// Loads the pipeline with the variables that are known; those that only a run knows have stand-ins. None if it can only be read
/// with the true ones.
fn looked_at(
    reader: &Reader<'_>,
    file: &Included,
    variables: &BTreeMap<String, Template>,
) -> Result<Option<Loaded>, Vec<Diagnostic>> {
    let all_known = variables.values().all(|template| template.plain().is_some());
    let mut faults: Option<Vec<Diagnostic>> = None;
    for stand_in in STAND_INS {
        let value = |(name, template): (&String, &Template)| {
            (name.clone(), template.plain().unwrap_or_else(|| stand_in.to_owned()))
        };
        let env = reader.around.env.with_variables(variables.iter().map(value).collect());
        let told = match file.load(reader, &env) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(told) if all_known => return Err(told),
            Err(told) => told,
        };
        // What is wrong whatever stands there is wrong.
        let is_told = |fault: &Diagnostic| told.iter().any(|other| other.to_string() == fault.to_string());
        faults = Some(match faults {
            None => told,
            Some(faults) => faults.into_iter().filter(is_told).collect(),
        });
    }
    match faults {
        Some(faults) if !faults.is_empty() => Err(faults),
        _ => Ok(None),
    }
}

/// A step ends when its pipeline does.
fn check(reader: &mut Reader<'_>, mut loaded: Loaded, at: &[Key]) {
    reader.included.append(&mut loaded.included);
    reader.hidden.push(loaded.document.secrets().clone());
    let Spec::Pipeline(spec) = &loaded.spec else {
        let problem = Problem::new("this is no pipeline: it has no `sources`");
        return reader.fault(at, problem.help("a step that says `workflow: FILE` runs a workflow"));
    };
    for source in &spec.sources {
        if source.connector.0.capabilities().source.is_some_and(|source| !source.finite) {
            let kind = source.connector.0.kind();
            let problem = Problem::new(format!("the source `{}` (`{kind}`) of this pipeline has no end", source.id));
            reader.fault(
                at,
                problem.help("a step ends when its pipeline does: run this one by itself, `bourn run FILE`"),
            );
        }
    }
}

impl ErasedStage for PipelineStep {
    fn kind(&self) -> &'static str {
        PIPELINE
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let columns = inputs[0].fields().iter().map(|field| field.name().as_str());
        let told = self.variables.iter().flat_map(|(name, template)| {
            template.check(columns.clone()).into_iter().map(|p| p.under(name.as_str()).under("env"))
        });
        Problems::check(told.collect())?;
        let fields = inputs[0].fields().iter().cloned().chain([Arc::new(json_field(RESULT))]);
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let call = RunsPipeline {
            request: JobRequest {
                file: self.file.clone(),
                text: self.text.clone(),
                included: self.included.clone(),
                variables: BTreeMap::new(),
                key: "".into(),
                mock: context.mock,
            },
            variables: self.variables.clone(),
            jobs: context.jobs.clone(),
            schema: self.schema(&context.inputs)?,
        };
        Ok(Operator::call(call, Limits::default()))
    }

    fn describe(&self) -> Value {
        let names: Vec<_> = self.variables.keys().collect();
        if names.is_empty() { json!(self.file) } else { json!({ "spec": self.file, "env": names }) }
    }
}

struct RunsPipeline {
    request: JobRequest,
    variables: BTreeMap<String, Template>,
    jobs: Option<Arc<dyn Jobs>>,
    schema: SchemaRef,
}

impl RunsPipeline {
    /// What the variables are in a row. A null has no text: the word would stand there.
    fn variables(&self, rows: &RecordBatch, row: usize) -> Result<BTreeMap<String, String>> {
        let value = |(name, template): (&String, &Template)| {
            for place in template.references() {
                if place.value(rows, row)?.is_null() {
                    let message = format!("`${{{place}}}` is null, which can't be a variable of a pipeline");
                    return Err(Error::validation(message));
                }
            }
            Ok((name.clone(), template.render(rows, row)?))
        };
        self.variables.iter().map(value).collect()
    }
}

impl Call for RunsPipeline {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let Some(jobs) = &self.jobs else {
            return Err(Error::unsupported("nothing here runs a pipeline for a step"));
        };
        let (mut told, mut usage) = (Vec::with_capacity(rows.num_rows()), Usage::default());
        for row in 0..rows.num_rows() {
            let variables = self.variables(&rows, row)?;
            let key = if row == 0 {
                context.idempotency_key.clone()
            } else {
                format!("{}.{row}", context.idempotency_key).into()
            };
            let request = JobRequest { variables, key, ..self.request.clone() };
            let stats = jobs.run(request).await?;
            usage += spent(&stats);
            told.push(summary(&stats).to_string());
        }
        let columns = rows.columns().iter().cloned().chain([Arc::new(StringArray::from(told)) as ArrayRef]);
        let rows = RecordBatch::try_new(self.schema.clone(), columns.collect())?;
        Ok(Reply { usage, ..Reply::rows(rows) })
    }
}

/// What the models of a pipeline have cost.
fn spent(stats: &JobStats) -> Usage {
    let sum = |counter: fn(&StageStats) -> &AtomicU64| -> u64 {
        stats.stages.iter().map(|s| counter(&s.stats).load(Relaxed)).sum()
    };
    Usage {
        input_tokens: sum(|s| &s.input_tokens),
        output_tokens: sum(|s| &s.output_tokens),
        usd: sum(|s| &s.cost) as f64 / 1e9,
    }
}

/// What a step's results say of the pipeline that it ran.
fn summary(stats: &JobStats) -> Value {
    let mut stages = Map::new();
    for id in stats.stage_ids() {
        let count = |counter| stats.total(&id, counter);
        let kind = stats.stages.iter().find(|s| s.stage == id).map_or("", |s| s.kind);
        let stage = json!({
            "kind": kind,
            "rows_in": count(|s| &s.rows_in),
            "rows_out": count(|s| &s.rows_out),
            "rows_rejected": count(|s| &s.rows_rejected),
            "rows_filtered": count(|s| &s.rows_filtered),
        });
        stages.insert(id.to_string(), stage);
    }
    json!({
        "rows_read": stats.rows_read(),
        "rows_written": stats.rows_written(),
        "rows_rejected": stats.rows_rejected(),
        "stages": stages,
    })
}
