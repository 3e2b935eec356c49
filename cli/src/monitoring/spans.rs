//! Spans of runs, their steps and questions to models, as the conventions of OpenTelemetry name them.

use bourn_engine::api::observer::{Asked, Question};
use bourn_engine::data::secret::Secrets;
use bourn_engine::journal::RunState;
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::record::{Cost, Failure, Items, Status as StepStatus};
use bourn_engine::workflow::result::{ErrorAnalysis, StepMetrics};
use chrono::DateTime;
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use reqwest::Url;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::attributes::{Attributes, cut};
use super::ids;

/// In `flags`: the trace is sampled.
const SAMPLED: u32 = 1;

/// What spans are made with.
#[derive(Clone, Debug)]
pub struct Manner {
    /// What nobody may see.
    pub secrets: Secrets,
    /// Whether inputs and results are in them.
    pub payloads: bool,
    /// The workflow or pipeline.
    pub name: String,
}

/// What spans need of the record of a step.
#[derive(Debug, Deserialize)]
pub struct Brief {
    /// How it ended.
    pub status: StepStatus,
    #[serde(default)]
    results: Option<Box<RawValue>>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Failure>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    rounds: Option<u32>,
    #[serde(default)]
    fallback: Option<u64>,
    #[serde(default)]
    items: Option<Items>,
    /// Whether it gave something else than it would have.
    #[serde(default)]
    pub degraded: bool,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    duration_ms: Option<u64>,
    #[serde(default)]
    usage: Option<Cost>,
}

impl Brief {
    /// What a document says of a step.
    pub fn of(step: &StepMetrics, failed: Option<&ErrorAnalysis>, results: Option<&Value>) -> Self {
        let attempts = step.attempts;
        let error = |error: &ErrorAnalysis| Failure {
            class: error.class.clone(),
            message: error.detail.clone(),
            attempts,
            at: None,
        };
        Self {
            status: step.status,
            results: results.and_then(|results| serde_json::value::to_raw_value(results).ok()),
            error: failed.map(error),
            reason: step.reason.clone(),
            rounds: None,
            fallback: step.fallback.map(|fallback| fallback as u64),
            items: None,
            degraded: false,
            attempts,
            started_at: step.started_at.clone(),
            duration_ms: step.duration_ms,
            usage: step.usage,
        }
    }

    /// When it began, in nanoseconds since 1970.
    pub fn began(&self) -> Option<u64> {
        let at = DateTime::parse_from_rfc3339(self.started_at.as_deref()?).ok()?;
        u64::try_from(at.timestamp_nanos_opt()?).ok()
    }
}

/// A run that is over.
pub struct Over<'a> {
    /// Its trace.
    pub trace: TraceId,
    /// Its id.
    pub id: &'a str,
    /// When it began and when it ended, in nanoseconds since 1970.
    pub times: (u64, u64),
    /// How.
    pub state: RunState,
    /// What was wrong first.
    pub failure: Option<&'a (String, String)>,
    /// What it was given.
    pub input: Option<&'a str>,
}

impl Manner {
    /// The span of a run.
    pub fn run(&self, over: &Over<'_>) -> Span {
        let other = ("_OTHER".to_owned(), String::new());
        let failure = match over.state {
            RunState::Completed => None,
            RunState::TimedOut => Some(("timeout".to_owned(), "the time of the run is over".to_owned())),
            RunState::Canceled => Some(("canceled".to_owned(), "the run was canceled".to_owned())),
            _ => Some(over.failure.cloned().unwrap_or(other)),
        };
        let attributes = Attributes::without(&self.secrets)
            .text("gen_ai.operation.name", "invoke_workflow")
            .text("gen_ai.workflow.name", &self.name)
            .text("bourn.run.id", over.id)
            .text("bourn.run.status", over.state.name())
            .text_of("error.type", failure.as_ref().map(|(class, _)| class.as_str()));
        let attributes = match over.input.filter(|_| self.payloads) {
            Some(input) => attributes.payload("bourn.run.input", input),
            None => attributes,
        };
        Span {
            attributes: attributes.all(),
            status: self.status(failure.as_ref().map(|(_, message)| message.as_str())),
            ..span(over.trace, ids::of_step(over.trace, ""), &format!("invoke_workflow {}", self.name), over.times)
        }
    }

    /// The span of a step that has ended at `now`, as far as its record does not say when; with what happened to it before.
    pub fn step(&self, trace: TraceId, name: &str, record: &Brief, (events, now): (Vec<Event>, u64)) -> Span {
        let began = record.began().unwrap_or(now);
        let ended = record.duration_ms.map_or(now.max(began), |millis| began.saturating_add(millis * 1_000_000));
        let (path, item) = match name.strip_suffix(']').and_then(|name| name.rsplit_once('[')) {
            Some((path, item)) => (path, item.parse().ok()),
            None => (name, None),
        };
        let id = path.rsplit('/').next().unwrap_or(path);
        let status = json!(record.status);
        let usage = record.usage.unwrap_or_default();
        let mut attributes = Attributes::without(&self.secrets)
            .text("bourn.step", name)
            .text("bourn.step.status", status.as_str().unwrap_or_default())
            .number("bourn.step.attempts", record.attempts.into())
            .text_of("bourn.step.reason", record.reason.as_deref())
            .count("bourn.step.rounds", record.rounds.unwrap_or(0).into())
            .count("bourn.step.fallback", record.fallback.unwrap_or(0))
            .flag("bourn.step.degraded", record.degraded)
            .count("bourn.usage.input_tokens", usage.input_tokens)
            .count("bourn.usage.output_tokens", usage.output_tokens)
            .amount("bourn.usage.usd", usage.usd)
            .text_of("error.type", record.error.as_ref().map(|error| error.class.as_str()));
        if let Some(item) = item {
            attributes = attributes.number("bourn.step.item", item);
        }
        if let Some(items) = &record.items {
            attributes =
                attributes.number("bourn.step.items", items.total).count("bourn.step.items.failed", items.failed);
        }
        if let Some(results) = record.results.as_ref().filter(|_| self.payloads) {
            attributes = attributes.payload("bourn.step.results", results.get());
        }
        let is_failed = matches!(record.status, StepStatus::Failed | StepStatus::TimedOut | StepStatus::Canceled);
        let message = record.error.as_ref().map(|error| error.message.as_str()).or(record.reason.as_deref());
        Span {
            parent_span_id: ids::above(trace, name).to_bytes().to_vec(),
            attributes: attributes.all(),
            status: self.status(message.filter(|_| is_failed)),
            events,
            ..span(trace, ids::of_step(trace, name), &format!("step {id}"), (began, ended))
        }
    }

    /// What stands on a step's span about an attempt that has failed.
    pub fn attempt(&self, (attempt, wait_ms): (u32, u64), class: &str, message: &str, now: Timestamp) -> Event {
        let attributes = Attributes::without(&self.secrets)
            .number("bourn.attempt", attempt.into())
            .number("bourn.wait_ms", wait_ms)
            .text("error.type", class)
            .text("exception.message", message);
        Event {
            time_unix_nano: nanos(now),
            name: "attempt failed".into(),
            attributes: attributes.all(),
            ..Event::default()
        }
    }

    /// The span of a question to a model: below its step, or on its own.
    pub fn question(&self, trace: TraceId, asked: &Asked<'_>) -> Span {
        let Asked { question, stage, key, attempt, began, took, ended, .. } = asked;
        let Question { operation, provider, model, address, max_tokens, temperature, .. } = question;
        let (server, port) = server(*address);
        let mut attributes = Attributes::without(&self.secrets)
            .text("gen_ai.operation.name", operation)
            .text_of("gen_ai.provider.name", Some(*provider).filter(|provider| !provider.is_empty()))
            .text_of("gen_ai.request.model", *model)
            .count("gen_ai.request.max_tokens", max_tokens.unwrap_or(0).into())
            .text_of("server.address", server.as_deref())
            .count("server.port", port.unwrap_or(0).into())
            .text("bourn.stage", stage)
            .number("bourn.attempt", (*attempt).into());
        if let Some(temperature) = temperature {
            // As people write it: 0.7, not the nearest number of 32 bits with all of its digits.
            attributes =
                attributes.amount("gen_ai.request.temperature", temperature.to_string().parse().unwrap_or_default());
        }
        let mut message = None;
        match ended {
            Ok(answer) => {
                attributes = attributes
                    .text_of("gen_ai.response.model", answer.model)
                    .number("gen_ai.usage.input_tokens", answer.usage.input_tokens)
                    .number("gen_ai.usage.output_tokens", answer.usage.output_tokens)
                    .amount("bourn.usage.usd", answer.usage.usd);
                if let Some(finish) = answer.finish {
                    attributes = attributes.texts("gen_ai.response.finish_reasons", &[finish]);
                }
            }
            Err((class, what)) => {
                attributes = attributes.text("error.type", class);
                message = Some(what.as_str());
            }
        }
        if self.payloads {
            attributes = payloads(attributes, asked);
        }
        let parent = asked.step.map(|step| ids::of_step(trace, &step.name).to_bytes().to_vec());
        let name = model.map_or_else(|| (*operation).to_owned(), |model| format!("{operation} {model}"));
        let began = nanos(*began);
        let ended = began.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        Span {
            parent_span_id: parent.unwrap_or_default(),
            kind: SpanKind::Client.into(),
            attributes: attributes.all(),
            status: self.status(message),
            ..span(trace, ids::of_question(trace, key, asked.began.0), &name, (began, ended))
        }
    }

    fn status(&self, failure: Option<&str>) -> Option<Status> {
        let message = cut(&self.secrets.conceal(failure?));
        Some(Status { message, code: StatusCode::Error.into() })
    }
}

/// What was asked and answered, as messages.
fn payloads<'a>(mut attributes: Attributes<'a>, asked: &Asked<'_>) -> Attributes<'a> {
    let secrets = attributes.secrets();
    let part = |text: &str| json!([{ "type": "text", "content": cut(&secrets.conceal_in_data(text)) }]);
    if let Some(system) = asked.question.system {
        attributes = attributes.message("gen_ai.system_instructions", &part(system));
    }
    if let Some(text) = asked.question.text {
        attributes = attributes.message("gen_ai.input.messages", &json!([{ "role": "user", "parts": part(text) }]));
    }
    let Ok(answer) = &asked.ended else { return attributes };
    let Some(text) = answer.text else { return attributes };
    let finish = answer.finish.unwrap_or("stop");
    let messages = json!([{ "role": "assistant", "parts": part(text), "finish_reason": finish }]);
    attributes.message("gen_ai.output.messages", &messages)
}

fn span(trace: TraceId, id: SpanId, name: &str, (began, ended): (u64, u64)) -> Span {
    Span {
        trace_id: trace.to_bytes().to_vec(),
        span_id: id.to_bytes().to_vec(),
        flags: SAMPLED,
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: began,
        end_time_unix_nano: ended.max(began),
        ..Span::default()
    }
}

/// The host and port of an address.
pub fn server(address: Option<&str>) -> (Option<String>, Option<u16>) {
    let address = address.and_then(|address| Url::parse(address).ok());
    let host = address.as_ref().and_then(Url::host_str).map(str::to_owned);
    (host, address.as_ref().and_then(Url::port_or_known_default))
}

/// A moment as spans have it.
pub fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000)
}
