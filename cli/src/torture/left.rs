//! What must not be left behind when a job has ended, whatever was done to it.

use std::path::Path;

use bourn_engine::Result;
use bourn_engine::checkpoint::recovery::{Found, find};
use bourn_engine::checkpoint::{Folder, manifest};
use bourn_engine::env::Env;
use walkdir::WalkDir;

use super::subject::Subject;

fn found(subject: &Subject, folder: &Path, env: &Env) -> Result<Found> {
    find(&Folder::at(env.clone(), subject.checkpoints(folder)))
}

/// How far a job has come: its newest checkpoint, and whether nothing is left to do behind it.
///
/// # Errors
/// When the disk fails.
pub fn progress(subject: &Subject, folder: &Path, env: &Env) -> Result<(Option<u64>, bool)> {
    let found = found(subject, folder, env)?;
    let newest = found.complete.last();
    Ok((newest.map(|m| m.epoch), newest.is_some_and(|m| m.last && found.settled.contains(&m.epoch))))
}

/// Everything that should not be there, by name.
///
/// # Errors
/// When the disk fails.
pub fn behind(subject: &Subject, folder: &Path, env: &Env) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let staged = subject.checkpoints(folder).join("staged");
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(std::result::Result::ok) {
        let path = entry.path();
        let is_part = path.extension().is_some_and(|e| e == "part");
        if entry.file_type().is_file() && (is_part || path.starts_with(&staged)) {
            left.push(path.strip_prefix(folder).unwrap_or(path).display().to_string());
        }
    }
    let found = found(subject, folder, env)?;
    left.extend(found.unreadable.iter().map(|(epoch, e)| format!("checkpoint {epoch}, which can't be read: {e}")));
    if found.complete.len() > subject.keep {
        left.push(format!("{} checkpoints, and {} are kept", found.complete.len(), subject.keep));
    }
    let needed = |name: &String| {
        let of = |m: &bourn_engine::checkpoint::Manifest| {
            m.parts.iter().any(|p| p.name == *name) || *name == manifest::settled_name(m.epoch)
        };
        name == "lock" || found.complete.iter().any(of)
    };
    left.extend(found.others.iter().filter(|name| !needed(name)).cloned());
    Ok(left)
}
