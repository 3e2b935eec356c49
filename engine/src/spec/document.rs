//! A spec's text and tree: what turns a problem with a path into a diagnostic with a place.

use std::ops::Range;
use std::sync::Arc;

use miette::NamedSource;

use super::node::{Content, Node};
use super::templates::Use;
use crate::data::secret::Secrets;
use crate::diagnostic::{Diagnostic, Key, Problem};

/// A spec that was parsed. A clone shares the text.
#[derive(Clone)]
pub struct Document {
    source: Arc<NamedSource<String>>,
    /// As it was written, with templates expanded.
    written: Node,
    /// With `${env.…}` and `${secret.…}` filled in; the same shape and places.
    filled: Node,
    secrets: Secrets,
    /// Where stages came from templates.
    uses: Vec<Use>,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({})", self.source.name())
    }
}

/// A problem and which end of its path is at fault.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub problem: Problem,
    /// Whether the last key of the path is at fault, and not its value.
    pub on_key: bool,
}

impl Fault {
    pub(crate) fn at(path: impl IntoIterator<Item = Key>, mut problem: Problem) -> Self {
        problem.path.splice(0..0, path);
        Self { problem, on_key: false }
    }

    pub(crate) fn at_key(path: impl IntoIterator<Item = Key>, problem: Problem) -> Self {
        Self { on_key: true, ..Self::at(path, problem) }
    }
}

impl Document {
    pub(crate) fn new(name: &str, text: String, written: Node, filled: Node) -> Self {
        let source = Arc::new(NamedSource::new(name, text));
        Self { source, written, filled, secrets: Secrets::default(), uses: Vec::new() }
    }

    /// What stands at a path, as a spec of its own in the same text.
    pub(crate) fn below(&self, path: &[Key]) -> Option<Self> {
        let (written, filled) = (self.written.at(path)?.clone(), self.filled.at(path)?.clone());
        Some(Self { written, filled, uses: Vec::new(), ..self.clone() })
    }

    /// The same, of a spec with these values that are never shown, and these uses of templates.
    pub(crate) fn with(self, secrets: Secrets, uses: Vec<Use>) -> Self {
        Self { secrets, uses, ..self }
    }

    /// The same, with more of them.
    pub(crate) fn hiding(self, more: &[Secrets]) -> Self {
        Self { secrets: more.iter().fold(self.secrets, |all, more| all.and(more)), ..self }
    }

    /// The same, with others that are never shown.
    #[must_use]
    pub fn also_hiding(self, more: &Secrets) -> Self {
        self.hiding(std::slice::from_ref(more))
    }

    /// The values that are never shown.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The use of a template that a path leads into.
    pub(crate) fn use_of(&self, path: &[Key]) -> Option<&Use> {
        match path {
            [Key::Name(stages), Key::Index(at), ..] if stages == "stages" => {
                self.uses.iter().find(|u| u.stages.contains(at))
            }
            _ => None,
        }
    }

    /// The line of a place, from 1.
    fn line(&self, at: usize) -> usize {
        self.source.inner()[..at].matches('\n').count() + 1
    }

    /// The name of the file, as it is shown.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        self.source.inner()
    }

    /// The tree as it was written: for showing, because no value of the environment is in it.
    pub fn written(&self) -> &Node {
        &self.written
    }

    /// The tree with `${env.NAME}` filled in: for running, never for showing.
    pub fn filled(&self) -> &Node {
        &self.filled
    }

    /// The place of a problem whose path starts at the root of the spec. A path that leads beyond what is written points
    /// at the nearest value around it. Values from the environment do not show.
    pub fn diagnostic(&self, problem: &Problem) -> Diagnostic {
        self.locate(&Fault { problem: problem.clone(), on_key: false })
    }

    pub(crate) fn locate(&self, fault: &Fault) -> Diagnostic {
        let Problem { message, path, part, label, help } = &fault.problem;
        let (node, rest) = self.nearest(path);
        let parent = path.split_last().and_then(|(last, before)| Some((last, self.written.at(before)?)));
        let key = parent.and_then(|(last, parent)| match last {
            Key::Name(name) => parent.member(name).map(|m| m.key.clone()),
            Key::Index(_) => None,
        });
        let span = match (key, part) {
            (Some(key), _) if fault.on_key => key,
            (_, Some(part)) if rest.is_empty() => self.part(node, path, part).unwrap_or_else(|| self.mark(node)),
            _ => self.mark(node),
        };
        let within = self.use_of(path).map(|Use { template, id, span, .. }| {
            format!(" (in the template `{template}`, used as `{id}` in line {})", self.line(span.start))
        });
        Diagnostic {
            message: self.conceal(message) + within.as_deref().unwrap_or_default(),
            span,
            label: label.as_deref().map(|l| self.conceal(l)),
            help: help.as_deref().map(|h| self.conceal(h)),
            source: Arc::clone(&self.source),
        }
    }

    /// All of them in the order of the text, each once.
    pub(crate) fn diagnostics(&self, faults: &[Fault]) -> Vec<Diagnostic> {
        let mut all: Vec<_> = faults.iter().map(|f| self.locate(f)).collect();
        all.sort_by_key(|d| (d.span.start, d.span.end));
        all.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        all
    }

    fn nearest<'a>(&self, path: &'a [Key]) -> (&Node, &'a [Key]) {
        let mut node = &self.written;
        for (done, key) in path.iter().enumerate() {
            match node.child(key) {
                Some(child) => node = child,
                None => return (node, &path[done..]),
            }
        }
        (node, &[])
    }

    /// A part of a text value, when the text stands in the file as it is: plain or quoted, on one line, nothing filled in.
    fn part(&self, node: &Node, path: &[Key], part: &Range<usize>) -> Option<Range<usize>> {
        let Content::Text(text) = &node.content else { return None };
        if self.filled.at(path).and_then(Node::text) != Some(text) {
            return None;
        }
        let here = self.source.inner().get(node.span.clone())?;
        let quoted = here.len() == text.len() + 2 && here.starts_with(['"', '\'']);
        let start = node.span.start + usize::from(quoted);
        let exact =
            self.source.inner().get(start..start + text.len()) == Some(text) && text.get(part.clone()).is_some();
        exact.then(|| start + part.start..start + part.end)
    }

    /// What is marked for a value: all of it on one line, the first line of a larger one.
    fn mark(&self, node: &Node) -> Range<usize> {
        let here = self.source.inner().get(node.span.clone()).unwrap_or_default();
        let line = here.lines().next().unwrap_or_default().trim_end();
        node.span.start..node.span.start + line.len()
    }

    fn conceal(&self, text: &str) -> String {
        self.secrets.conceal(text).into_owned()
    }
}
