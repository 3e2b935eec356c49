//! Texts that the command line names: files, stdin, or the text itself.
#![expect(clippy::disallowed_methods, reason = "what a user names on the command line is read here, before any job")]

use std::io::{self, Read as _, Seek as _};

use bourn_engine::{Error, Kind};
use serde_json::Value;

use crate::failure::Failure;
use crate::run::inputs::Inputs;

/// A longer spec is a slip: a data file in its place.
pub const SPEC_MAX: u64 = 64 << 20;

/// A text and the name under which messages show it.
pub struct Text {
    /// The path, or `stdin`.
    pub name: String,
    /// The text.
    pub text: String,
}

impl Text {
    /// Of the file at this path; `-` is stdin.
    ///
    /// # Errors
    /// When it can't be read, is no UTF-8, or is far too long.
    pub fn read(path: &str) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let name = if path == "-" { "stdin" } else { path };
        let read = if path == "-" {
            io::stdin().lock().take(SPEC_MAX + 1).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(SPEC_MAX + 1).read_to_end(&mut bytes))
        };
        read.map_err(|e| Failure::Invalid(Error::from(e).context(name)))?;
        if bytes.len() as u64 > SPEC_MAX {
            let message = format!("{name}: longer than {} MiB; this can't be meant", SPEC_MAX >> 20);
            return Err(Failure::Invalid(Error::new(Kind::Budget, message)));
        }
        let mut text = String::from_utf8(bytes).map_err(|e| {
            let place = e.utf8_error().valid_up_to();
            let before = &e.as_bytes()[..place];
            let lines: Vec<&[u8]> = before.split(|b| *b == b'\n').collect();
            let (line, column) = (lines.len(), lines.last().map_or(0, |last| last.len()) + 1);
            Failure::invalid(format!("{name}:{line}: not UTF-8: byte 0x{:02x} at column {column}", e.as_bytes()[place]))
        })?;
        // What some programs begin a text with is no part of it.
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        Ok(Self { name: name.to_owned(), text })
    }
}

/// The bytes of a file that is no longer than this; of a longer one the end, if that says most.
///
/// # Errors
/// When it can't be read, or is too long.
pub fn bytes(path: &str, most: u64, is_log: bool) -> Result<Vec<u8>, Failure> {
    let read = || {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        if is_log && length > most {
            file.seek(io::SeekFrom::Start(length - most))?;
        }
        let mut bytes = Vec::new();
        file.take(most + u64::from(!is_log)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|e: io::Error| Failure::Invalid(Error::from(e).context(path)))?;
    if bytes.len() as u64 > most {
        return Err(Failure::Invalid(Error::new(Kind::Budget, format!("{path}: longer than {} MiB", most >> 20))));
    }
    Ok(bytes)
}

/// The value of `--input`: JSON, or `@FILE` with JSON in it.
///
/// # Errors
/// When the file can't be read, or it is not JSON.
pub fn input(given: &str) -> Result<Value, Failure> {
    json("--input", given)
}

/// What a flag says in JSON, itself or in the file behind an `@`.
///
/// # Errors
/// When the file can't be read, or it is not JSON.
pub fn json(flag: &str, given: &str) -> Result<Value, Failure> {
    let Text { name, text } = match given.strip_prefix('@') {
        Some(path) => Text::read(path)?,
        None => Text { name: flag.into(), text: given.to_owned() },
    };
    serde_json::from_str(&text).map_err(|e| {
        let hint = if name == flag { format!("; a file is `{flag} @FILE`") } else { String::new() };
        Failure::invalid(format!("{name}: not JSON: {e}{hint}"))
    })
}

/// What `--inputs` names: a file of lines, or stdin.
///
/// # Errors
/// When the file can't be opened.
pub fn lines(path: &str) -> Result<Inputs, Failure> {
    if path == "-" {
        return Ok(Inputs::of("stdin", io::stdin(), None));
    }
    let open = || {
        let file = std::fs::File::open(path)?;
        let about = file.metadata()?;
        if about.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
        }
        // A pipe has no length.
        Ok(Inputs::of(path, file, about.is_file().then_some(about.len())))
    };
    open().map_err(|e| Failure::Invalid(Error::from(e).context(path)))
}
