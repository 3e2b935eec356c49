//! Which specs and cases a command line means.

use std::path::{Path, PathBuf};

use bourn_engine::Engine;
use bourn_engine::spec::case::Case;
use bourn_engine::spec::{Cases, Document, Loaded};

use super::args::Test;
use crate::args::Spec;
use crate::failure::Failure;
use crate::given::Text;
use crate::prepare;
use crate::watch::Watched;

use super::folder;

/// What a spec may be written in.
pub const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// What stands before the ending of a file of cases.
const MARK: &str = ".test";

/// A spec and its cases, each with the document in which it stands.
pub struct Suite {
    /// The spec.
    pub loaded: Loaded,
    /// First those in it, then those beside it.
    pub cases: Vec<(Document, Case)>,
}

/// The specs that are meant, each once, with all their cases.
///
/// # Errors
/// Every problem of specs and cases, or a file that can't be read.
pub fn suites(args: &Test, engine: &Engine) -> Result<Vec<Suite>, Failure> {
    let mut specs: Vec<String> = Vec::new();
    for path in &args.paths {
        let files = if is_folder(path) { folder::with_cases(path)? } else { vec![path.clone()] };
        for spec in files.iter().map(|file| spec_of(file)) {
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
    }
    let (mut suites, mut problems) = (Vec::new(), Vec::new());
    for path in specs {
        match suite(path, args, engine) {
            Ok(suite) => suites.push(suite),
            Err(Failure::Problems(all)) => problems.extend(all),
            Err(other) => return Err(other),
        }
    }
    if problems.is_empty() { Ok(suites) } else { Err(Failure::Problems(problems)) }
}

/// What is read for them: specs, files of cases that are or may come beside them, routing.
///
/// # Errors
/// When a folder can't be read, or a path can't be read again.
pub fn watched(args: &Test) -> Result<Watched, Failure> {
    let mut all = Watched { files: args.routing.iter().map(PathBuf::from).collect(), folders: Vec::new() };
    for path in &args.paths {
        if is_folder(path) {
            let folder::Below { files, folders } = folder::below(path)?;
            all.files.extend(files);
            all.folders.extend(folders);
        } else if path == "-" {
            return Err(Failure::invalid("--watch: - can't be read again; name a file"));
        } else {
            let spec = spec_of(path);
            all.files.extend(ENDINGS.map(|ending| with_mark(&spec, ending)));
            all.files.push(spec.into());
        }
    }
    Ok(all)
}

fn suite(path: String, args: &Test, engine: &Engine) -> Result<Suite, Failure> {
    if is_beside(Path::new(&path)) {
        return Err(Failure::invalid(format!("{path}: there is no spec beside these cases: {}", spec_names(&path))));
    }
    let spec = Spec { path, mode: None, routing: args.routing.clone() };
    let loaded = prepare::load(&spec, engine)?;
    let mut cases: Vec<_> = loaded.cases.iter().map(|case| (loaded.document.clone(), case.clone())).collect();
    for beside in beside(&spec.path) {
        let Text { name, text } = Text::read(&beside)?;
        let more = Cases::load(&text, &name, &loaded, engine.registry(), engine.env()).map_err(Failure::Problems)?;
        cases.extend(more.cases.into_iter().map(|case| (more.document.clone(), case)));
    }
    Ok(Suite { loaded, cases })
}

/// The spec that a path means: a file of cases means the spec beside it, if there is one.
fn spec_of(path: &str) -> String {
    let specs = beside_which(path);
    let there = specs.iter().find(|spec| is_there(spec));
    there.map_or_else(|| path.to_owned(), |spec| spec.to_string_lossy().into_owned())
}

/// Whether a file has cases and no spec, as its name says.
pub fn is_beside(file: &Path) -> bool {
    file.file_stem().and_then(|s| s.to_str()).is_some_and(|stem| stem.ends_with(MARK))
}

/// Where the spec of a file of cases may be; nowhere for a spec.
fn beside_which(path: &str) -> Vec<PathBuf> {
    let file = Path::new(path);
    let stem = file.file_stem().and_then(|s| s.to_str()).and_then(|s| s.strip_suffix(MARK));
    stem.map(|stem| ENDINGS.map(|ending| file.with_file_name(format!("{stem}.{ending}"))).into()).unwrap_or_default()
}

/// `late.yaml, late.yml or late.json`
fn spec_names(path: &str) -> String {
    let names: Vec<_> = beside_which(path).iter().map(|p| p.display().to_string()).collect();
    names.split_last().map_or_else(String::new, |(last, all)| format!("{} or {last}", all.join(", ")))
}

/// The files of cases beside a spec.
fn beside(spec: &str) -> Vec<String> {
    let paths = ENDINGS.map(|ending| with_mark(spec, ending));
    paths.iter().filter(|path| is_there(path)).map(|path| path.to_string_lossy().into_owned()).collect()
}

/// `orders.test.yaml` for `orders.yaml`.
pub fn beside_name(spec: &str) -> String {
    with_mark(spec, ENDINGS[0]).to_string_lossy().into_owned()
}

fn with_mark(spec: &str, ending: &str) -> PathBuf {
    let file = Path::new(spec);
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}{MARK}.{ending}"))
}

/// Whether specs are looked for below this path.
pub fn is_folder(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.is_dir())
}

fn is_there(path: &Path) -> bool {
    std::fs::metadata(path).is_ok()
}
