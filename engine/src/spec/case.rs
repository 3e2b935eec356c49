//! Test cases of a spec, as `bourn test` runs them: what is given, what happens, and what must come out.

mod keys;
mod names;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::document::Document;
use super::load::Loaded;
use crate::api::Registry;
use crate::diagnostic::{Diagnostic, Key};
use crate::env::Env;
use crate::time::Timestamp;

pub(crate) use keys::CaseKeys;
pub use keys::{Fail, Letter, Mock, RunWant, When};
pub(crate) use read::read;

/// A row as it is written.
pub type Row = Map<String, Value>;

/// The cases of a document: of a spec, or of a file beside it.
#[derive(Clone)]
pub struct Cases {
    /// What their places lead into.
    pub document: Document,
    /// In the order of the text.
    pub cases: Vec<Case>,
}

/// A test case without a problem of its own; its rows are not typed yet.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Where it stands in its document.
    pub path: Vec<Key>,
    /// The time of day at which it begins.
    pub clock: Option<Timestamp>,
    /// The input of the run of a workflow.
    pub input: Option<Value>,
    /// What happens, in order: `given` is the first.
    pub moves: Vec<Move>,
    /// What must have come out in the end, over all moves.
    pub wants: Vec<Want>,
    /// How the run of a workflow must have ended.
    pub run: Option<RunWant>,
    /// Rows that must have been rejected; `None` when the case does not say, which means none.
    pub letters: Option<Vec<Letter>>,
    /// A part of the error that must end the job.
    pub error: Option<String>,
    /// What stages answer that would ask something outside, by id.
    pub mocks: BTreeMap<String, Mock>,
    /// Sinks that fail, by id.
    pub fail: BTreeMap<String, Fail>,
}

/// A moment of a case: time passes, rows are given, what has come is looked at.
#[derive(Clone, Debug)]
pub struct Move {
    /// How long to wait before it, in virtual time.
    pub after: Duration,
    /// Rows by source.
    pub give: Vec<Feed>,
    /// What must have come since the last move that looked there.
    pub wants: Vec<Want>,
}

/// Rows that a source gives at once.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The id of the source.
    pub source: String,
    /// Where the rows stand.
    pub rows: Rows,
    /// Columns with their types, when they are declared here.
    pub schema: Option<Vec<(String, String)>>,
    /// Where this stands.
    pub path: Vec<Key>,
}

/// Rows of a case.
#[derive(Clone, Debug)]
pub enum Rows {
    /// One batch.
    Rows {
        /// The rows.
        rows: Vec<Row>,
        /// The list.
        path: Vec<Key>,
    },
    /// Several batches.
    Batches {
        /// The rows of each.
        batches: Vec<Vec<Row>>,
        /// The list of lists.
        path: Vec<Key>,
    },
}

/// What must have come out of a stage, or into a sink.
#[derive(Clone, Debug)]
pub struct Want {
    /// The id of a source, stage or sink.
    pub id: String,
    /// A port of the stage.
    pub port: Option<String>,
    /// The rows, when they are said.
    pub rows: Option<Rows>,
    /// Whether they may come in any order.
    pub unordered: bool,
    /// Whether columns that are not said may have any value.
    pub partial: bool,
    /// How many rows.
    pub count: Option<usize>,
    /// Where this stands.
    pub path: Vec<Key>,
}

impl Want {
    /// `stage` or `stage.port`, as it was written.
    pub fn target(&self) -> String {
        self.port.as_ref().map_or_else(|| self.id.clone(), |port| format!("{}.{port}", self.id))
    }
}

impl Rows {
    /// The batches, each with the place of its list.
    pub fn batches(&self) -> Vec<(&[Row], Vec<Key>)> {
        match self {
            Self::Rows { rows, path } => vec![(rows.as_slice(), path.clone())],
            Self::Batches { batches, path } => batches
                .iter()
                .enumerate()
                .map(|(i, rows)| (rows.as_slice(), [path.as_slice(), &[i.into()]].concat()))
                .collect(),
        }
    }
}

impl Cases {
    /// Reads the cases of a file beside a spec: a list of them, or a map with the key `tests`.
    ///
    /// # Errors
    /// Every problem, in the order of the text.
    pub fn load(text: &str, file: &str, of: &Loaded, registry: &Registry, env: &Env) -> Result<Self, Vec<Diagnostic>> {
        read::beside(text, file, of, registry, env)
    }
}
