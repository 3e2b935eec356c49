//! A bundle read again, to decide its run.

use std::collections::{BTreeMap, BTreeSet};

use bourn_engine::spec::{Request, Routing, StandIns};
use bourn_engine::testing::replay::Past;
use bourn_engine::time::Timestamp;
use bourn_journal::{Event, history_of};
use chrono::DateTime;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{About, Line, SCHEMA, Specs, Variable, name, pack};
use crate::failure::Failure;

/// What a replay needs of a bundle.
pub(crate) struct Bundle {
    pub(crate) workflow: String,
    /// The name of the spec, its text, and what it is loaded with.
    pub(crate) spec: (String, String),
    pub(crate) request: Request,
    pub(crate) past: Past,
}

#[derive(Deserialize)]
struct Told {
    id: String,
    workflow: String,
    input: Option<String>,
}

#[derive(Deserialize)]
struct Environment {
    variables: Vec<Variable>,
}

impl Bundle {
    /// Reads the one in this file.
    ///
    /// # Errors
    /// When it is none, or of a later form.
    pub(crate) fn read(path: &str) -> Result<Self, Failure> {
        let files = Files { path, files: pack::read(path)? };
        let About { schema, bourn, .. } = files.json(name::BUNDLE)?;
        if schema != SCHEMA {
            let message =
                format!("{path} is a bundle of the form `{schema}`, of Bourn {bourn}; this Bourn reads `{SCHEMA}`");
            return Err(Failure::invalid(message));
        }
        let Told { id, workflow, input } = files.json(name::RUN)?;
        let mut events = Vec::new();
        for line in files.text(name::HISTORY)?.lines() {
            let Line { kind, step, data, by, at } =
                serde_json::from_str(line).map_err(|e| files.wrong(name::HISTORY, &e.to_string()))?;
            let at =
                DateTime::parse_from_rfc3339(&at).map_err(|e| files.wrong(name::HISTORY, &format!("`{at}`: {e}")))?;
            let at = Timestamp(at.timestamp_micros());
            events.push(Event { at, kind, step, data: data.map(|data| Box::<str>::from(data).into()), who: by });
        }
        let history = history_of(events).map_err(Failure::Invalid)?;
        let specs: Specs = files.json(name::SPECS)?;
        let included = specs.included.iter().map(|(path, file)| Ok((path.clone(), files.text(file)?.to_owned())));
        let routing = match &specs.routing {
            Some(file) => Routing::parse(files.text(file)?, file).map_err(Failure::Problems)?,
            None => Routing::default(),
        };
        let Environment { variables } = files.json(name::ENVIRONMENT)?;
        let unset: BTreeSet<String> = variables.into_iter().filter(|v| !v.is_set).map(|v| v.name).collect();
        let request = Request {
            routing,
            included: included.collect::<Result<_, Failure>>()?,
            stand_ins: Some(StandIns { unset, ..StandIns::default() }),
            mode: None,
        };
        let spec = (specs.spec.0.clone(), files.text(&specs.spec.1)?.to_owned());
        Ok(Self { workflow, spec, request, past: Past { id, input, history } })
    }
}

struct Files<'a> {
    path: &'a str,
    files: BTreeMap<String, Vec<u8>>,
}

impl Files<'_> {
    fn text(&self, name: &str) -> Result<&str, Failure> {
        let bytes = self.files.get(name).ok_or_else(|| self.wrong(name, "it is not there"))?;
        std::str::from_utf8(bytes).map_err(|_| self.wrong(name, "it is no UTF-8"))
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Failure> {
        serde_json::from_str(self.text(name)?).map_err(|e| self.wrong(name, &e.to_string()))
    }

    fn wrong(&self, name: &str, why: &str) -> Failure {
        Failure::invalid(format!("{}: {name}: {why}", self.path))
    }
}
