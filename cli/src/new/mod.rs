//! `bourn new`: a spec, a stage or a connector to begin with, which works as it is.
#![expect(clippy::disallowed_methods, reason = "files of the user's project are made here, before any job")]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bourn_engine::Error;

use crate::answer;
use crate::args::New;
use crate::failure::Failure;

/// Makes it, and says what to do next.
///
/// # Errors
/// When something of that name is there, or the name can't be one. Nothing that is there is ever changed.
pub fn new(what: &New) -> Result<(), Failure> {
    match what {
        New::Pipeline { name } => pipeline(name),
        New::Stage { name, bourn } => {
            let key = part(
                "stage",
                name,
                bourn.as_deref(),
                include_str!("templates/stage.rs.txt"),
                include_str!("templates/stage_test.rs.txt"),
            )?;
            answer::print(&format!(
                "{name}/src/lib.rs has the stage `{key}`, {name}/tests/conformance.rs puts it to its promises\n  next: cargo test --manifest-path {name}/Cargo.toml"
            ))
        }
        New::Connector { name, bourn } => {
            let key = part(
                "connector",
                name,
                bourn.as_deref(),
                include_str!("templates/connector.rs.txt"),
                include_str!("templates/connector_test.rs.txt"),
            )?;
            answer::print(&format!(
                "{name}/src/lib.rs has the source `{key}`, {name}/tests/conformance.rs puts it to its promises\n  next: cargo test --manifest-path {name}/Cargo.toml"
            ))
        }
    }
}

fn pipeline(name: &str) -> Result<(), Failure> {
    let path = if Path::new(name).extension().is_some_and(|e| e == "yaml" || e == "yml") {
        name.to_owned()
    } else {
        format!("{name}.yaml")
    };
    let stem = Path::new(&path).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let text = include_str!("templates/pipeline.yaml").replace("{name}", &stem).replace("{path}", &path);
    write(Path::new(&path), &text)?;
    answer::print(&format!(
        "{path} runs as it is; its comments say what to change\n  next: bourn test {path}, bourn run {path}"
    ))
}

/// A crate with a stage or a connector; its key in a spec.
fn part(what: &str, name: &str, bourn: Option<&Path>, code: &str, tests: &str) -> Result<String, Failure> {
    let folder = Path::new(name);
    let words = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !words.starts_with(|c: char| c.is_ascii_lowercase()) || !words.chars().all(is_word) {
        let message =
            format!("`{words}` can't be the name of a {what}: small letters, digits, `_` and `-`, a letter first");
        return Err(Failure::invalid(message));
    }
    if folder.exists() {
        return Err(Failure::invalid(format!("{name} is there already; nothing was changed")));
    }
    let clone = clone_of(bourn)?;
    let key = words.replace('-', "_");
    let kind: String = key.split('_').map(capital).collect();
    let fill = |text: &str| {
        let text = text.replace("{crate}", &words).replace("{key}", &key).replace("{Kind}", &kind);
        text.replace("{bourn}", &clone.display().to_string().replace('\\', "/"))
    };
    for (path, text) in [
        ("Cargo.toml", include_str!("templates/Cargo.toml.txt")),
        ("rustfmt.toml", include_str!("templates/rustfmt.toml.txt")),
        ("src/lib.rs", code),
        ("tests/conformance.rs", tests),
    ] {
        write(&folder.join(path), &fill(text))?;
    }
    Ok(key)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The clone of Bourn that a crate is built against: the one that is named, or the one around this folder.
fn clone_of(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let is_clone = |folder: &Path| {
        fs::read_to_string(folder.join("engine/Cargo.toml")).is_ok_and(|text| text.contains("name = \"bourn-engine\""))
    };
    if let Some(folder) = named {
        let whole = folder.canonicalize().ok().filter(|folder| is_clone(folder));
        return whole
            .ok_or_else(|| Failure::invalid(format!("--bourn {}: there is no clone of Bourn", folder.display())));
    }
    let here = std::env::current_dir().map_err(|e| Failure::Failed(e.into()))?;
    let around = here.ancestors().find(|folder| is_clone(folder)).map(Path::to_owned);
    around.ok_or_else(|| Failure::invalid("a crate is built against a clone of Bourn: say where it is, `--bourn PATH`"))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let at = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::invalid(format!("{} is there already; nothing was changed", path.display()))
        }
        _ => Failure::Failed(Error::from(e).context(path.display())),
    };
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(at)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(at)?;
    file.write_all(text.as_bytes()).map_err(at)
}
