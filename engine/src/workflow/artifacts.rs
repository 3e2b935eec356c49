//! The files that a step left where it says that it writes.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::env::Env;
use crate::error::{Error, Kind, Result};

/// Files of a step that are told, at most: the first by their names.
const ARTIFACTS_MAX: usize = 1_000;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// A file that a step left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// Where it is.
    pub path: String,
    /// The SHA-256 of what was in it when the step completed, in hexadecimal.
    pub sha256: String,
    /// How many bytes that were.
    pub bytes: u64,
}

/// What a step says that it writes.
#[derive(Clone, Default)]
pub(super) struct Writes(Arc<[String]>);

impl Writes {
    pub(super) fn of(patterns: &[String]) -> Self {
        Self(patterns.into())
    }

    /// The files that are there now, each once, sorted by path.
    pub(super) async fn found(&self, env: &Env) -> Result<Vec<Artifact>> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let (world, patterns) = (env.clone(), self.0.clone());
        env.blocking(move || {
            let mut paths = Vec::new();
            for pattern in &*patterns {
                paths.extend(world.glob(pattern)?);
            }
            paths.sort();
            paths.dedup();
            let mut found = Vec::new();
            for path in paths {
                if found.len() < ARTIFACTS_MAX {
                    found.extend(artifact(&path, &world)?);
                }
            }
            Ok(found)
        })
        .await?
    }
}

/// A file as it is now; none if it is not there, or no file.
fn artifact(path: &Path, env: &Env) -> Result<Option<Artifact>> {
    // A folder, or a pipe that nobody fills.
    if env.files().is_special(path) {
        return Ok(None);
    }
    let file = match env.files().open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == Kind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let failed = |e: std::io::Error| Error::from(e).context(path.display());
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let read = match file.read_at(bytes, &mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) => return Err(failed(e)),
        };
        hash.update(&piece[..read]);
        bytes += read as u64;
    }
    Ok(Some(Artifact { path: path.display().to_string(), sha256: hexadecimal(hash), bytes }))
}

/// The SHA-256 of a content, in hexadecimal.
pub(super) fn sha256(content: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(content))
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
