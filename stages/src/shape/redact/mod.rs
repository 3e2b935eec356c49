//! `redact`: hides values that must not go on.

mod hide;
mod path;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Key, Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use hide::{Hash, Hide};
use path::Path;

/// Hides values: masks them, keeps only their last characters, puts a hash in their place, or clears them.
///
/// `redact: { mask: [name], keep_last: { card: 4 }, hash: [email, user.phone], clear: [notes] }`: a name becomes `***`, a
/// card `***1234`, an e-mail address the 64 hexadecimal digits of its SHA-256, and notes null. A value goes on being
/// null if it was; equal values have equal hashes, so that they can still be counted and joined. `mask`, `keep_last` and
/// `hash` work on text: `map: { cast: { id: text } }` before it makes text of a number.
///
/// `user.phone` is a member of a struct; where there are lists on the way, every element is redacted. A member of a JSON
/// document can't be named, only the document as a whole.
///
/// Hashes of values that can be guessed (addresses, numbers) can be found by trying. `salt: ${env.SALT}` makes them
/// HMAC-SHA-256 with the salt as the key, and BLAKE3 keyed with the BLAKE3 hash of the salt: without the salt no one can try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redact {
    /// Columns whose text becomes `text`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<String>,
    /// Columns of whose text only the last characters stay, behind `text`, and how many; a value that has no more than
    /// these is masked as a whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keep_last: BTreeMap<String, usize>,
    /// Columns whose text becomes its hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash: Vec<String>,
    /// Columns, of any type, whose values become null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clear: Vec<String>,
    /// What stands in place of what is hidden.
    #[serde(default = "stars")]
    pub text: String,
    /// How `hash` is computed.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The key of the hashes; from the environment, never in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
}

/// How a hash is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// BLAKE3, which is faster.
    Blake3,
}

/// The key of a hash; it is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Salt(pub String);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

fn stars() -> String {
    "***".to_owned()
}

impl Default for Redact {
    fn default() -> Self {
        Self {
            mask: Vec::new(),
            keep_last: BTreeMap::new(),
            hash: Vec::new(),
            clear: Vec::new(),
            text: stars(),
            algorithm: Algorithm::default(),
            salt: None,
        }
    }
}

impl Redact {
    /// What is to be done, with where it stands in the configuration.
    fn wanted(&self) -> Vec<(Vec<Key>, &str, Hide)> {
        let mask = |keep| Hide::Mask { text: self.text.clone(), keep };
        let hash = Hide::Hash(Arc::new(Hash::new(self.algorithm, self.salt.as_ref().map(|s| s.0.as_bytes()))));
        let mut all = Vec::new();
        for (key, names, hide) in
            [("mask", &self.mask, mask(0)), ("hash", &self.hash, hash), ("clear", &self.clear, Hide::Clear)]
        {
            for (i, name) in names.iter().enumerate() {
                all.push((vec![key.into(), i.into()], name.as_str(), hide.clone()));
            }
        }
        for (name, keep) in &self.keep_last {
            all.push((vec!["keep_last".into(), name.as_str().into()], name.as_str(), mask(*keep)));
        }
        all
    }

    /// Where each value is that is hidden, and how; and the schema that leaves.
    fn plan(&self, input: &SchemaRef) -> Result<(SchemaRef, Vec<(Path, Hide)>), Problems> {
        let (mut problems, mut hidden) = (Vec::new(), Vec::<(Path, Hide)>::new());
        let wanted = self.wanted();
        if wanted.is_empty() {
            let problem = Problem::new("this hides nothing");
            problems
                .push(problem.help("name columns, as in `mask: [name]`, `keep_last: { card: 4 }`, `hash: [email]`"));
        }
        if let Some(salt) = &self.salt {
            if self.hash.is_empty() {
                problems.push(Problem::new("a salt is for hashes, and no column is hashed").under("salt"));
            } else if salt.0.is_empty() {
                problems.push(Problem::new("the salt is empty").under("salt"));
            }
        }
        for (place, name, hide) in wanted {
            let found = Path::find(input, name).and_then(|path| path.check(input, &hide).map(|()| path));
            match found {
                Ok(path) if hidden.iter().any(|(other, _)| other.overlaps(&path)) => {
                    let problem = Problem::new(format!("`{name}` is redacted twice"));
                    problems.push(Problem { path: place, ..problem });
                }
                Ok(path) => hidden.push((path, hide)),
                Err(problem) => problems.push(Problem { path: place, ..problem }),
            }
        }
        Problems::check(problems)?;
        let mut fields = input.fields().to_vec();
        for (path, hide) in &hidden {
            fields[path.column] = Arc::new(path.field(&fields[path.column], hide));
        }
        Ok((Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())), hidden))
    }
}

impl StageConfig for Redact {
    const NAME: &'static str = "redact";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(self.plan(&inputs[0])?.0)
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let plan = self.plan(&context.inputs[0]);
        let (schema, hidden) = plan.map_err(|Problems(mut p)| super::filter::as_error(p.swap_remove(0)))?;
        Ok(Operator::stage(Hider { schema, hidden }))
    }
}

struct Hider {
    schema: SchemaRef,
    hidden: Vec<(Path, Hide)>,
}

impl Stage for Hider {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut columns = rows.columns().to_vec();
        for (path, hide) in &self.hidden {
            columns[path.column] = path.apply(&columns[path.column], hide)?;
        }
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?);
        Ok(Progress::Done)
    }
}
