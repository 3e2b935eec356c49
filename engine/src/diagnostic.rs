//! Problems of a spec: each points into the text, and all are told at once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{LabeledSpan, NamedSource, SourceCode};

use crate::error::Error;

/// A step on the way into a configuration: a key of a map or an index of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The value of this key.
    Name(String),
    /// The element at this place, from 0.
    Index(usize),
}

impl From<&str> for Key {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<usize> for Key {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A problem in a configuration, placed by a path of keys: what a stage or connector says of its own part of the spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What is wrong, lower case, naming the thing.
    pub message: String,
    /// The way from the configuration to the value at fault.
    pub path: Vec<Key>,
    /// The part of a text value that is at fault, in bytes of the value (a column in a SQL text).
    pub part: Option<Range<usize>>,
    /// What stands under the marked place.
    pub label: Option<String>,
    /// The way out.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of the whole configuration.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), path: Vec::new(), part: None, label: None, help: None }
    }

    /// Puts the problem below `key`; call it from the inside out.
    #[must_use]
    pub fn under(mut self, key: impl Into<Key>) -> Self {
        self.path.insert(0, key.into());
        self
    }

    /// Marks a part of the text value.
    #[must_use]
    pub fn part(mut self, part: Range<usize>) -> Self {
        self.part = Some(part);
        self
    }

    /// Says what stands at the marked place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Offers the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// One or more problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `Ok` when there are none.
    ///
    /// # Errors
    /// All of `problems`, when there are any.
    pub fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// Puts all of them below `key`.
    #[must_use]
    pub fn under(self, key: impl Into<Key>) -> Self {
        let key = key.into();
        Self(self.0.into_iter().map(|p| p.under(key.clone())).collect())
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// All of them as one error, for a program that does not point into a spec.
impl From<Problems> for Error {
    fn from(Problems(problems): Problems) -> Self {
        let told = |p: Problem| match p.help {
            Some(help) => format!("{} ({help})", p.message),
            None => p.message,
        };
        Self::validation(problems.into_iter().map(told).collect::<Vec<_>>().join("; "))
    }
}

impl From<Error> for Problems {
    fn from(error: Error) -> Self {
        Problem::new(error.to_string()).into()
    }
}

/// `did you mean `id`?`, when one of the known words is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|near| format!("did you mean `{near}`?"))
}

/// The known word nearest to `word`, if any is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&lower, &k.to_lowercase()), k))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// A problem with its place in the text of a spec.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// What is wrong, lower case, naming the thing.
    pub message: String,
    /// The place, in bytes of the text.
    pub span: Range<usize>,
    /// What stands under the marked place.
    pub label: Option<String>,
    /// The way out.
    pub help: Option<String>,
    /// The text.
    pub source: Arc<NamedSource<String>>,
}

impl Diagnostic {
    /// Line and column of the place, both from 1; the column counts characters.
    pub fn line_column(&self) -> (usize, usize) {
        let text = self.source.inner();
        let before = text.get(..self.span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// ``orders.yaml:12:7 unknown key `depend_on` (did you mean `depends_on`?)``
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column} {}", self.source.name(), self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl std::error::Error for Diagnostic {}

/// For miette's graphical report, which prints the place by itself: the message is shown without it.
pub struct Report<'a>(pub &'a Diagnostic);

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|h| Box::new(h) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.0.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Range { start, end } = self.0.span;
        Some(Box::new(std::iter::once(LabeledSpan::new(self.0.label.clone(), start, end - start))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_says_line_column_and_the_way_out() {
        let d = Diagnostic {
            message: "unknown key `depend_on`".into(),
            span: 8..17,
            label: None,
            help: did_you_mean("depend_on", ["id", "depends_on"]),
            source: Arc::new(NamedSource::new("bad.yaml", "a: ü\n  depend_on: x".to_owned())),
        };
        assert_eq!(d.to_string(), "bad.yaml:2:3 unknown key `depend_on` (did you mean `depends_on`?)");
    }

    #[test]
    fn nothing_is_suggested_when_nothing_is_near() {
        assert_eq!(did_you_mean("zzz", ["id", "depends_on"]), None);
    }
}
