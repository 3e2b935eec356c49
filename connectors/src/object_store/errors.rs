//! What goes wrong with objects, in the words of the engine.

use std::error::Error as _;
use std::fmt;
use std::io;

use bourn_engine::data::secret::shortened;
use bourn_engine::diagnostic::{Key, Problem, Problems};
use bourn_engine::{Error, Kind};
use object_store::Error as Foreign;

/// How much is shown of what a server said, in characters.
const SHOWN: usize = 300;

/// An error as a problem of the URL.
pub fn at_url(error: &Error) -> Problem {
    Problem::new(error.to_string()).under("url")
}

/// Problems of the files, as problems of the objects.
pub fn of_objects(Problems(found): Problems) -> Problems {
    let at_url = |mut problem: Problem| {
        if problem.path.first() == Some(&Key::from("path")) {
            problem.path[0] = "url".into();
            problem.message = problem.message.replace("there is no file `", "there is no object `");
            problem.message = problem.message.replace("no file matches `", "no object matches `");
            problem.message = problem.message.replace("the path names one", "the URL names one");
            // What is said of paths that are relative to a folder.
            problem.help = problem.help.filter(|help| !help.starts_with("paths are relative"));
        }
        problem
    };
    Problems(found.into_iter().map(at_url).collect())
}

/// The first of several, as an error.
pub fn first(Problems(problems): Problems) -> Error {
    Error::validation(problems.first().map(|p| p.message.clone()).unwrap_or_default())
}

/// The error of a request about `place`. Nothing of the request itself is shown: its address may hold a signature.
pub fn told(place: impl fmt::Display, error: &Foreign) -> Error {
    let said = said(error);
    let error = match error {
        _ if said.starts_with("NoSuchBucket") => Error::new(Kind::NotFound, "there is no such bucket"),
        Foreign::NotFound { .. } => Error::new(Kind::NotFound, "there is no such object"),
        Foreign::PermissionDenied { .. } | Foreign::Unauthenticated { .. } => Error::new(Kind::Permission, said),
        Foreign::AlreadyExists { .. } => Error::new(Kind::Io, "is there already, and `if_exists: fail` keeps it"),
        Foreign::Precondition { .. } => Error::new(Kind::Io, "was changed while it was read"),
        Foreign::NotSupported { .. } | Foreign::NotImplemented { .. } => Error::unsupported(said),
        Foreign::InvalidPath { .. } => Error::new(Kind::Io, said),
        // Refused for good: a wrong region or key, a request that makes no sense.
        _ if status(error).is_some_and(|s| (300..500).contains(&s) && s != 408 && s != 429) => {
            Error::new(if status(error) == Some(403) { Kind::Permission } else { Kind::Io }, said)
        }
        _ => Error::new(Kind::Io, said).transient(),
    };
    error.context(place)
}

/// The same for a trait that speaks of I/O; never one that is tried again, since we have tried.
pub fn as_io(error: &Error) -> io::Error {
    let kind = match error.kind() {
        Kind::NotFound => io::ErrorKind::NotFound,
        Kind::Permission => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error.message().to_owned())
}

/// The innermost cause, or what a server has said in its XML.
pub fn said(error: &Foreign) -> String {
    let mut cause: &dyn std::error::Error = error;
    let mut text = cause.to_string();
    while let Some(inner) = cause.source() {
        cause = inner;
        text = cause.to_string();
    }
    let part = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(part, _)| part.trim().to_owned())
    };
    let told = match (part("Code"), part("Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code,
        _ => text,
    };
    shortened(&told, SHOWN)
}

/// The HTTP status that is told anywhere in the chain of causes.
fn status(error: &Foreign) -> Option<u16> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if let Some((_, rest)) = text.split_once("status code: ") {
            return rest.get(..3)?.parse().ok();
        }
        cause = inner.source();
    }
    None
}
