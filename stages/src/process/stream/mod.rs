//! `mode: stream`: rows go through one program that stays, a line each way.

mod complaints;
mod pump;
mod talk;

use std::pin::pin;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::template::Template;
use bourn_engine::api::{BuildContext, CallContext};
use bourn_engine::data::columns::RESERVED_PREFIX;
use bourn_engine::data::json::row_value;
use bourn_engine::env::Launch;
use bourn_engine::{Error, Result};
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::lock::Mutex;
use serde_json::Value;

use super::Process;
use crate::answer::{Answer, Ask};
use crate::places::{Document, template};
use pump::{Line, Pump, Queue, Rules};

/// A program that stays, and the rows that wait for it. One a lane.
///
/// There is no task behind it: whichever of the waiting rows holds the pump drives the pipes, for all of them, until it has
/// its own answer, and hands the pump on.
pub struct Stream {
    input: Option<Document>,
    queue: Arc<Queue>,
    pump: Mutex<Pump>,
}

impl Stream {
    /// Starts nothing yet: the first row does.
    pub fn new(config: &Process, context: &BuildContext) -> Result<Self> {
        // Without places, as planning has checked: what is left to fill is `$${`.
        let plain = |text: &String| -> Result<String> {
            let nothing = RecordBatch::new_empty(context.inputs[0].clone());
            template(text).and_then(|t: Template| t.render(&nothing, 0))
        };
        let launch = Launch {
            argv: config.command.iter().map(plain).collect::<Result<_>>()?,
            variables: config.env.iter().map(|(n, v)| Ok((n.clone(), plain(v)?))).collect::<Result<_>>()?,
            clear_variables: config.clear_env,
        };
        let rules = Rules {
            name: launch.argv.first().cloned().unwrap_or_default(),
            stage: context.id.clone(),
            parse: config.parse(),
            line_max: usize::try_from(config.output_max.0).unwrap_or(usize::MAX),
            timeout: config.limits.timeout.0,
            start_timeout: config.start_timeout.unwrap_or(config.limits.timeout).0,
        };
        let queue = Arc::new(Queue::default());
        Ok(Self {
            input: config.input.as_ref().map(Document::read).transpose()?,
            pump: Mutex::new(Pump::new(launch, rules, queue.clone(), context.env.clone())),
            queue,
        })
    }

    /// The line for one row, with its end.
    fn line(&self, rows: &RecordBatch, row: usize) -> Result<Vec<u8>> {
        let mut line = if let Some(document) = &self.input {
            document.text(rows, row)?
        } else {
            let mut object = row_value(rows, row)?;
            object.retain(|name, _| !name.starts_with(RESERVED_PREFIX));
            Value::Object(object).to_string()
        };
        if line.contains(['\n', '\r']) {
            let message = "the input of this row has a line break, and the program reads a line for each row: say \
                           `input: { text: \"${column}\" }`, which is written as JSON";
            return Err(Error::validation(message));
        }
        line.push('\n');
        Ok(line.into_bytes())
    }
}

impl Ask for Stream {
    async fn ask(&self, rows: &RecordBatch, row: usize, context: &CallContext) -> Result<Answer> {
        let (answer, answered) = oneshot::channel();
        // A row that is tried again has the program to itself, so that it can't take others down with it again.
        self.queue.push(Line { text: self.line(rows, row)?, alone: context.attempt > 1, answer });
        let answered = match select(answered, pin!(self.pump.lock())).await {
            Either::Left((answered, _)) => answered,
            Either::Right((mut pump, answered)) => match select(answered, pin!(pump.drive())).await {
                Either::Left((answered, _)) => answered,
                Either::Right((never, _)) => match never {},
            },
        };
        answered.map_err(|_| Error::engine("a row was dropped by the pump"))?.map(Answer::from)
    }
}

#[cfg(test)]
mod tests;
