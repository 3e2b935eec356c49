//! The specs below a folder that have test cases.
#![expect(clippy::disallowed_methods, reason = "what a user names on the command line is read here, before any job")]

use std::path::{Path, PathBuf};

use bourn_engine::Error;
use bourn_engine::spec::parse::{BYTES_MAX, parse};
use walkdir::{DirEntry, WalkDir};

use super::find::{ENDINGS, is_beside};
use crate::failure::Failure;

/// Folders with what was built or installed; those whose names begin with a dot are passed over as well.
const PASSED_OVER: [&str; 2] = ["target", "node_modules"];

/// What is below a folder, in the order of the names.
#[derive(Default)]
pub struct Below {
    /// Whatever may be a spec, or cases of one.
    pub files: Vec<PathBuf>,
    /// The folder itself and those in it.
    pub folders: Vec<PathBuf>,
}

/// The specs that have cases, and the files of cases.
///
/// # Errors
/// When a folder can't be read.
pub fn with_cases(folder: &str) -> Result<Vec<String>, Failure> {
    let mut files = below(folder)?.files;
    files.retain(|file| is_beside(file) || has_cases(file));
    Ok(files.iter().map(|file| file.to_string_lossy().into_owned()).collect())
}

/// Looks for what may be a spec. Links to folders are not followed, but the folder itself may be one.
///
/// # Errors
/// When a folder can't be read.
pub fn below(folder: &str) -> Result<Below, Failure> {
    let mut found = Below::default();
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(is_looked_into) {
        let entry = entry.map_err(|e| {
            let context = e.path().unwrap_or(Path::new(folder)).display().to_string();
            Failure::Invalid(Error::from(std::io::Error::from(e)).context(context))
        })?;
        // Nobody writes `./late.yaml`.
        let path = entry.path().strip_prefix(".").unwrap_or(entry.path()).to_owned();
        if entry.file_type().is_dir() {
            found.folders.push(path);
        } else if may_be_spec(&path) {
            found.files.push(path);
        }
    }
    Ok(found)
}

fn is_looked_into(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let is_passed_over = entry.file_type().is_dir() && PASSED_OVER.contains(&name.as_ref());
    entry.depth() == 0 || !(name.starts_with('.') || is_passed_over)
}

/// Whether a file is written in what specs are written in.
fn may_be_spec(file: &Path) -> bool {
    file.extension().and_then(|e| e.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
}

/// Whether a file has a key `tests` of its own. One that can't be parsed is taken for a spec if it looks as if it had.
fn has_cases(file: &Path) -> bool {
    let is_short = std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.len() <= BYTES_MAX as u64);
    let Some(text) = Some(file).filter(|_| is_short).and_then(|file| std::fs::read_to_string(file).ok()) else {
        return false;
    };
    // Data in JSON is not parsed for nothing.
    text.contains("tests")
        && match parse(&text) {
            Ok(spec) => spec.get("tests").is_some(),
            Err(_) => text.lines().any(|line| line.starts_with("tests:")),
        }
}
