//! The one error of the engine: kind, retry hint, message, place, source.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

use arrow::error::ArrowError;

/// What the public functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the words that a policy is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The data, an argument or an answer does not fit what was declared.
    Validation,
    /// It took longer than allowed.
    Timeout,
    /// The other side asked for fewer requests (HTTP 429).
    RateLimit,
    /// The other side has too much to do for now (HTTP 529).
    Overloaded,
    /// A file, a disk or a connection failed.
    Io,
    /// A file, a table or a program is not there.
    NotFound,
    /// It is there, and we may not.
    Permission,
    /// It is there already, and there is one of each.
    Conflict,
    /// This connector or stage can't do that.
    Unsupported,
    /// Stopped because the job is stopping.
    Canceled,
    /// A limit on memory, money or tokens was reached.
    Budget,
    /// A service refuses what it was asked, or what it would have to answer, by its rules of conduct.
    Guardrail,
    /// Who did the work was ended from outside in the middle of it: a program by a signal.
    LostWorker,
    /// A promise of the engine itself was broken, a panic included.
    Engine,
    /// Anything else; see the source.
    Other,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// After the usual backoff.
    Soon,
    /// Not before this long (an HTTP `Retry-After`).
    After(Duration),
}

/// What a node of a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Node {
    /// It works on rows.
    #[default]
    Stage,
    /// It reads.
    Source,
    /// It writes.
    Sink,
}

/// Where it went wrong, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The id of the stage, source or sink.
    pub stage: Option<String>,
    /// Which of them it is.
    pub node: Node,
    /// The row in the batch at hand, from 0.
    pub row: Option<usize>,
    /// The column or field.
    pub field: Option<String>,
    /// The file and line, or what a source calls a place in its input.
    pub input: Option<String>,
}

/// The error of stages, calls, sources, sinks and the engine.
///
/// It does not implement [`std::error::Error`] (as `anyhow::Error` does not), so that `?` converts any error that does.
/// An [`io::Error`] and an [`ArrowError`] keep their kind on the way; others are [`Kind::Other`] and permanent until
/// [`Error::transient`] or [`Error::kind`] says otherwise.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    retry: Retry,
    message: Cow<'static, str>,
    place: Place,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind that will not go away by itself.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        let retry = match kind {
            Kind::Timeout | Kind::RateLimit | Kind::Overloaded | Kind::LostWorker => Retry::Soon,
            _ => Retry::Never,
        };
        Self(Box::new(Inner { kind, retry, message: message.into(), place: Place::default(), source: None }))
    }

    /// The data does not fit.
    pub fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Validation, message)
    }

    /// The engine broke a promise of its own.
    pub fn engine(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Engine, message)
    }

    /// This connector or stage can't do that.
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// The same error with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Trying again may help.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.0.retry = Retry::Soon;
        self
    }

    /// Trying again will not help.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.retry = Retry::Never;
        self
    }

    /// Trying again may help, and not before `wait` has passed.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry = Retry::After(wait);
        self
    }

    /// Puts what was being done before the message: `reading a.csv: no such file`.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message).into();
        self
    }

    /// Names the stage, unless one nearer to the fault was named before.
    #[must_use]
    pub fn at_stage(self, stage: &str) -> Self {
        self.at_node(Node::Stage, stage)
    }

    /// The same of a source, a sink or a stage.
    #[must_use]
    pub fn at_node(mut self, node: Node, id: &str) -> Self {
        let place = &mut self.0.place;
        if place.stage.is_none() {
            (place.stage, place.node) = (Some(id.to_owned()), node);
        }
        self
    }

    /// Names the row in the batch at hand, from 0.
    #[must_use]
    pub fn at_row(mut self, row: usize) -> Self {
        self.0.place.row = Some(row);
        self
    }

    /// Names the column or field.
    #[must_use]
    pub fn at_field(mut self, field: impl Into<String>) -> Self {
        self.0.place.field = Some(field.into());
        self
    }

    /// Names the file and line, or what the source calls a place in its input.
    #[must_use]
    pub fn at_input(mut self, input: impl Into<String>) -> Self {
        self.0.place.input = Some(input.into());
        self
    }

    /// Puts all of the place at once.
    #[must_use]
    pub fn with_place(mut self, place: Place) -> Self {
        self.0.place = place;
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same with every text of it changed: message, place, and what caused it. A cause whose text changes is left out.
    #[must_use]
    pub(crate) fn reworded(mut self, change: impl Fn(&str) -> Cow<'_, str>) -> Self {
        let changed = |text: &str| matches!(change(text), Cow::Owned(_));
        let mut cause: Option<&dyn std::error::Error> = self.0.source.as_deref().map(|s| s as _);
        let mut tells = false;
        while let Some(e) = cause {
            tells |= changed(&e.to_string()) || changed(&format!("{e:?}"));
            cause = e.source();
        }
        if tells {
            self.0.source = None;
        }
        if changed(&self.0.message) {
            self.0.message = change(&self.0.message).into_owned().into();
        }
        let Place { stage, node: _, row: _, field, input } = &mut self.0.place;
        for text in [stage, field, input].into_iter().flatten() {
            *text = change(text).into_owned();
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Where it went wrong.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// The message alone, without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The error that caused this one.
    pub fn source(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.0.source.as_deref()
    }

    /// The class in a result document: `transient`, `rate_limit`, `timeout`, `validation`, `permanent`, `budget`, `guardrail`,
    /// `canceled`, `lost_worker` or `engine`.
    pub fn class(&self) -> &'static str {
        match (self.0.kind, self.0.retry) {
            (Kind::RateLimit, _) => "rate_limit",
            (Kind::Timeout, _) => "timeout",
            (Kind::Validation, _) => "validation",
            (Kind::Budget, _) => "budget",
            (Kind::Guardrail, _) => "guardrail",
            (Kind::LostWorker, _) => "lost_worker",
            (Kind::Canceled, _) => "canceled",
            (Kind::Engine, _) => "engine",
            (_, Retry::Soon | Retry::After(_)) => "transient",
            (_, Retry::Never) => "permanent",
        }
    }

    /// A copy without the source, for a failure that is told in several places.
    pub fn summary(&self) -> Self {
        let mut copy = Self::new(self.0.kind, self.0.message.clone().into_owned());
        copy.0.retry = self.0.retry;
        copy.0.place = self.0.place.clone();
        copy
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(source: E) -> Self {
        let any: &dyn Any = &source;
        let (kind, retry) = if let Some(e) = any.downcast_ref::<io::Error>() {
            io_kind(e)
        } else if let Some(e) = any.downcast_ref::<ArrowError>() {
            arrow_kind(e)
        } else {
            (Kind::Other, Retry::Never)
        };
        let mut error = Self::new(kind, source.to_string()).with_source(source);
        error.0.retry = retry;
        error
    }
}

fn io_kind(e: &io::Error) -> (Kind, Retry) {
    use io::ErrorKind as E;
    match e.kind() {
        E::NotFound => (Kind::NotFound, Retry::Never),
        E::PermissionDenied => (Kind::Permission, Retry::Never),
        E::TimedOut => (Kind::Timeout, Retry::Soon),
        E::InvalidData | E::InvalidInput | E::UnexpectedEof => (Kind::Validation, Retry::Never),
        E::ConnectionRefused | E::ConnectionReset | E::ConnectionAborted | E::Interrupted => (Kind::Io, Retry::Soon),
        _ => (Kind::Io, Retry::Never),
    }
}

fn arrow_kind(e: &ArrowError) -> (Kind, Retry) {
    match e {
        ArrowError::IoError(_, e) => io_kind(e),
        ArrowError::NotYetImplemented(_) => (Kind::Unsupported, Retry::Never),
        ArrowError::MemoryError(_) => (Kind::Budget, Retry::Never),
        _ => (Kind::Validation, Retry::Never),
    }
}

/// `stage `enrich`, a.jsonl:7, row 3, field `id`: not a number`
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { stage, node, row, field, input } = &self.0.place;
        let mut parts = Vec::new();
        let word = match node {
            Node::Stage => "stage",
            Node::Source => "source",
            Node::Sink => "sink",
        };
        // The only source of a spec is called `source`.
        parts.extend(stage.as_ref().map(|s| if s == word { format!("`{s}`") } else { format!("{word} `{s}`") }));
        parts.extend(input.clone());
        // The line of an input says more than the row of a batch.
        parts.extend(row.filter(|_| input.is_none()).map(|r| format!("row {r}")));
        parts.extend(field.as_ref().map(|c| format!("field `{c}`")));
        if !parts.is_empty() {
            write!(f, "{}: ", parts.join(", "))?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} [{:?}, retry {:?}]", self.0.kind, self.0.retry)?;
        let mut cause: Option<&dyn std::error::Error> = self.0.source.as_deref().map(|s| s as _);
        while let Some(e) = cause {
            write!(f, "\n  caused by: {e}")?;
            cause = e.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> Result<()> {
        Err(io::Error::new(io::ErrorKind::NotFound, "no such file"))?
    }

    #[test]
    fn a_known_error_keeps_its_kind_and_its_source() {
        let e = read().unwrap_err().context("reading a.csv");
        assert_eq!((e.kind(), e.retry()), (Kind::NotFound, Retry::Never));
        assert_eq!(e.message(), "reading a.csv: no such file");
        assert!(e.source().is_some());
        let e: Error = ArrowError::CastError("x".into()).into();
        assert_eq!(e.kind(), Kind::Validation);
    }

    #[test]
    fn the_place_nearest_to_the_fault_wins_and_is_shown() {
        let e = Error::validation("not a number").at_stage("inner").at_stage("outer").at_row(3).at_field("id");
        assert_eq!(e.to_string(), "stage `inner`, row 3, field `id`: not a number");
    }

    #[test]
    fn what_failed_is_called_what_it_is() {
        let told = |node, id| Error::validation("no").at_node(node, id).at_stage("outer").to_string();
        assert_eq!(told(Node::Source, "orders"), "source `orders`: no");
        assert_eq!(told(Node::Source, "source"), "`source`: no");
        assert_eq!(told(Node::Sink, "table"), "sink `table`: no");
        assert_eq!(told(Node::Stage, "map"), "stage `map`: no");
    }

    #[test]
    fn the_class_follows_kind_and_retry() {
        assert_eq!(Error::new(Kind::Other, "x").transient().class(), "transient");
        assert_eq!(Error::new(Kind::Other, "x").class(), "permanent");
        assert_eq!(Error::new(Kind::RateLimit, "x").class(), "rate_limit");
    }
}
