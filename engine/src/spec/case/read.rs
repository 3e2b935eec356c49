//! Test cases read from a document, each with its problems at their places.

use std::time::Duration;

use super::keys::{CaseKeys, FailKeys, FeedKeys, FeedMap, FeedsKeys, MoveKeys, RunWant, WantKeys, WantMap, WantsKeys};
use super::names::Names;
use super::{Case, Cases, Feed, Move, Rows, Want};
use crate::api::Registry;
use crate::diagnostic::{Diagnostic, Key, Problem};
use crate::env::Env;
use crate::spec::document::Document;
use crate::spec::fill::Filling;
use crate::spec::load::{Loaded, Request};
use crate::spec::nested::Around;
use crate::spec::node::Content;
use crate::spec::reader::Reader;
use crate::spec::secrets::Printed;
use crate::spec::{Spec, parse};
use crate::time::Timestamp;

/// Reads a list of cases that stands at a path. `spec` is what they are for, as far as it could be read.
pub(crate) fn read(reader: &mut Reader<'_>, path: &[Key], spec: Option<&Spec>) -> Vec<Case> {
    let document = reader.document;
    let Some(node) = document.filled().at(path) else { return Vec::new() };
    if !matches!(node.content, Content::List(_)) {
        let problem = Problem::new(format!("expected a list of cases, found {}", node.kind()));
        reader.fault(path, problem.help("for example `- { name: …, given: […], expect: […] }`"));
        return Vec::new();
    }
    let names = spec.map(Names::of);
    let mut cases: Vec<Case> = Vec::new();
    for (index, element) in node.elements().iter().enumerate() {
        let path = [path, &[index.into()]].concat();
        let Some(keys) = reader.keys::<CaseKeys>(element.value(), &path, &[]) else { continue };
        if cases.iter().any(|case| case.name == keys.name) {
            let problem = Problem::new(format!("the name `{}` is here twice", keys.name));
            reader.fault(&below(&path, &["name"]), problem.help("give each case a name of its own"));
        }
        let mut one = One { reader, names: names.as_ref(), path };
        cases.extend(one.case(keys));
    }
    cases
}

/// The cases of a file beside a spec.
pub(super) fn beside(
    text: &str,
    file: &str,
    of: &Loaded,
    registry: &Registry,
    env: &Env,
) -> Result<Cases, Vec<Diagnostic>> {
    let written = parse::parse(text).map_err(|fault| vec![fault.diagnostic(file, text)])?;
    let mut filling = Filling::of(&written, &Printed::new(), env, None);
    let filled = filling.fill(&written, &mut Vec::new());
    let secrets = filling.hidden();
    let faults = std::mem::take(&mut filling.faults);
    let document = Document::new(file, text.to_owned(), written, filled).with(secrets, Vec::new());
    let request = Request::default();
    let around = Around { request: &request, env, within: Vec::new() };
    let mut reader = Reader { faults, ..Reader::of(&document, registry, &around) };
    let root = document.filled();
    let path: &[Key] = if root.is_map() { &["tests".into()] } else { &[] };
    for member in root.members().iter().filter(|m| m.name != "tests") {
        let problem = Problem::new(format!("unknown key `{}`", member.name));
        reader.fault_at_key(&[member.name.as_str().into()], problem.help("a file of cases has `tests` alone"));
    }
    if root.is_map() && root.get("tests").is_none() {
        reader.fault(&[], Problem::new("there are no cases here").help("write `tests: [ … ]`, or a list of them"));
    }
    let cases = read(&mut reader, path, Some(&of.spec));
    let faults = reader.faults;
    if faults.is_empty() { Ok(Cases { document, cases }) } else { Err(document.diagnostics(&faults)) }
}

fn below(path: &[Key], keys: &[&str]) -> Vec<Key> {
    path.iter().cloned().chain(keys.iter().map(|k| Key::from(*k))).collect()
}

/// A case while it is read.
struct One<'a, 'r> {
    reader: &'a mut Reader<'r>,
    /// `None` when the spec could not be read, whose faults are told.
    names: Option<&'a Names>,
    path: Vec<Key>,
}

impl One<'_, '_> {
    fn case(&mut self, keys: CaseKeys) -> Option<Case> {
        let before = self.reader.faults.len();
        let is_workflow = self.names.is_some_and(|n| !n.steps.is_empty());
        let clock = keys.clock.as_deref().and_then(|text| self.clock(text));
        let here = self.path.clone();
        let first = keys.given.map(|given| self.feeds(given, below(&here, &["given"]))).unwrap_or_default();
        let mut moves = vec![Move { after: Duration::ZERO, give: first, wants: Vec::new() }];
        let mut now = Duration::ZERO;
        for (index, step) in keys.script.into_iter().enumerate() {
            let path = [here.as_slice(), &["script".into(), index.into()]].concat();
            moves.push(self.step(step, &path, &mut now));
        }
        let path = below(&here, &["expect"]);
        let (mut wants, mut run) = (Vec::new(), None);
        match keys.expect {
            Some(expect) if is_workflow => run = self.reader.keys::<RunWant>(expect, &path, &[]),
            Some(expect) => {
                let read = self.reader.keys::<WantsKeys>(expect, &path, &[]);
                wants = read.map(|read| self.wants(read, path.clone())).unwrap_or_default();
            }
            None => {}
        }
        self.of_mode(is_workflow, keys.input.is_some(), moves.len() > 1 || !moves[0].give.is_empty());
        let looks = !wants.is_empty() || run.is_some() || moves.iter().any(|m| !m.wants.is_empty());
        if !looks && keys.dead_letters.is_none() && keys.error.is_none() && self.reader.faults.len() == before {
            let problem = Problem::new("this case expects nothing, so it would never fail");
            self.reader
                .fault(&below(&here, &["name"]), problem.help("add `expect: …`, `dead_letters: …` or `error: …`"));
        }
        for step in run.iter().flat_map(|r| r.steps.iter().flat_map(|s| s.keys()).chain(&r.skipped)) {
            self.name(|n| n.step(step), &path);
        }
        for id in keys.mocks.keys() {
            self.name(|n| n.stage_or_step(id), &below(&here, &["mocks", id]));
        }
        for (id, mock) in &keys.mocks {
            self.mock(&below(&here, &["mocks", id]), mock);
        }
        for id in keys.fail.keys() {
            self.name(|n| n.sink(id), &below(&here, &["fail", id]));
        }
        let fail = keys.fail.into_iter().map(|(id, fail): (_, FailKeys)| (id, fail.meant())).collect();
        (self.reader.faults.len() == before).then_some(Case {
            name: keys.name,
            path: here,
            clock,
            input: keys.input,
            moves,
            wants,
            run,
            letters: keys.dead_letters,
            error: keys.error,
            mocks: keys.mocks,
            fail,
        })
    }

    fn clock(&mut self, text: &str) -> Option<Timestamp> {
        let read = chrono::DateTime::parse_from_rfc3339(text);
        if read.is_err() {
            let problem = Problem::new(format!("`{text}` is no moment")).help("write it as `2024-05-01T12:00:00Z`");
            self.reader.fault(&below(&self.path, &["clock"]), problem);
        }
        Some(Timestamp(read.ok()?.timestamp_micros()))
    }

    /// What belongs to pipelines alone, or to workflows.
    fn of_mode(&mut self, is_workflow: bool, has_input: bool, has_rows: bool) {
        if self.names.is_none() {
            return;
        }
        if is_workflow && has_rows {
            let problem = Problem::new("a workflow has no sources").help("say what its run is given: `input: { … }`");
            self.reader.fault(&below(&self.path, &["given"]), problem);
        }
        if !is_workflow && has_input {
            let problem = Problem::new("a pipeline has no input").help("say what its sources give: `given: { … }`");
            self.reader.fault(&below(&self.path, &["input"]), problem);
        }
    }

    fn step(&mut self, keys: MoveKeys, path: &[Key], now: &mut Duration) -> Move {
        let MoveKeys { advance, at, give, expect } = keys;
        let after = match (advance, at) {
            (Some(_), Some(_)) => {
                let problem = Problem::new("time passes once in a move").help("say `advance` or `at`");
                self.reader.fault_at_key(&below(path, &["at"]), problem);
                Duration::ZERO
            }
            (Some(advance), None) => advance.0,
            (None, Some(at)) if at.0 < *now => {
                let problem = Problem::new(format!("it is {} by then", crate::data::units::Interval(*now)));
                self.reader.fault(&below(path, &["at"]), problem.help("time does not go back"));
                Duration::ZERO
            }
            (None, Some(at)) => at.0.saturating_sub(*now),
            (None, None) => Duration::ZERO,
        };
        *now += after;
        let give = give.map(|give| self.feeds(give, below(path, &["give"]))).unwrap_or_default();
        let wants = expect.map(|expect| self.wants(expect, below(path, &["expect"]))).unwrap_or_default();
        Move { after, give, wants }
    }

    fn name<T>(&mut self, check: impl FnOnce(&Names) -> Result<T, Problem>, path: &[Key]) -> Option<T> {
        match check(self.names?) {
            Ok(found) => Some(found),
            Err(problem) => {
                self.reader.fault_at_key(path, problem);
                None
            }
        }
    }

    fn feeds(&mut self, keys: FeedsKeys, path: Vec<Key>) -> Vec<Feed> {
        match keys {
            FeedsKeys::One(rows) => {
                let rows = Rows::Rows { rows, path: path.clone() };
                let source = self.only(|n| &n.sources, "source", &path).unwrap_or_default();
                vec![Feed { source, rows, schema: None, path }]
            }
            FeedsKeys::Many(feeds) => feeds
                .into_iter()
                .filter_map(|(source, feed)| {
                    let path = below(&path, &[&source]);
                    self.name(|n| n.source(&source), &path);
                    let (rows, schema) = match feed {
                        FeedKeys::Rows(rows) => (Some(Rows::Rows { rows, path: path.clone() }), None),
                        FeedKeys::More(FeedMap { rows, batches, schema }) => (self.rows(rows, batches, &path), schema),
                    };
                    let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                    let schema = schema.map(|map| map.iter().map(|(k, v)| (k.clone(), text(v))).collect());
                    Some(Feed { source, rows: rows?, schema, path })
                })
                .collect(),
        }
    }

    fn wants(&mut self, keys: WantsKeys, path: Vec<Key>) -> Vec<Want> {
        let plain = |id, port, rows, path| Want { id, port, rows, path, unordered: false, partial: false, count: None };
        match keys {
            WantsKeys::One(rows) => {
                let id = self.only(|n| &n.sinks, "sink", &path).unwrap_or_default();
                vec![plain(id, None, Some(Rows::Rows { rows, path: path.clone() }), path)]
            }
            WantsKeys::Many(wants) => wants
                .into_iter()
                .map(|(name, want)| {
                    let path = below(&path, &[&name]);
                    let (id, port) = self.name(|n| n.target(&name), &path).unwrap_or_default();
                    match want {
                        WantKeys::Rows(rows) => plain(id, port, Some(Rows::Rows { rows, path: path.clone() }), path),
                        WantKeys::More(WantMap { rows, unordered, partial, count }) => {
                            if rows.is_none() && count.is_none() {
                                let problem = Problem::new("nothing is expected here");
                                self.reader.fault(&path, problem.help("say `rows: […]` or `count: N`"));
                            }
                            let rows = rows.map(|rows| Rows::Rows { rows, path: below(&path, &["rows"]) });
                            Want { unordered, partial, count, ..plain(id, port, rows, path) }
                        }
                    }
                })
                .collect(),
        }
    }

    /// The one way in which given rows are said.
    fn rows(
        &mut self,
        rows: Option<Vec<super::Row>>,
        batches: Option<Vec<Vec<super::Row>>>,
        path: &[Key],
    ) -> Option<Rows> {
        let rows = rows.map(|rows| Rows::Rows { rows, path: below(path, &["rows"]) });
        let batches = batches.map(|batches| Rows::Batches { batches, path: below(path, &["batches"]) });
        if rows.is_some() == batches.is_some() {
            let problem = Problem::new(if rows.is_some() { "rows twice here" } else { "no rows here" });
            self.reader.fault(path, problem.help("say one of `rows` and `batches`"));
        }
        rows.or(batches)
    }

    /// The only source or sink, which needs no name.
    fn only(&mut self, of: impl Fn(&Names) -> &Vec<String>, what: &str, path: &[Key]) -> Option<String> {
        let names = self.names?;
        match of(names).as_slice() {
            [one] => Some(one.clone()),
            several => {
                let problem = Problem::new(format!("which {what}? There are {}", several.join(", ")));
                let first = several.first().map_or("id", String::as_str);
                self.reader.fault(path, problem.help(format!("say it: `{{ {first}: […] }}`")));
                None
            }
        }
    }

    fn mock(&mut self, path: &[Key], mock: &super::Mock) {
        let whens = mock.when.iter().enumerate().map(|(i, w)| {
            let path = path.iter().cloned().chain(["when".into(), i.into()]).collect::<Vec<_>>();
            (path, w.answer.is_some(), w.fail.is_some(), w.times.is_some())
        });
        let last = (path.to_vec(), mock.answer.is_some(), mock.fail.is_some(), mock.times.is_some());
        let may_be_silent = !mock.when.is_empty();
        for (path, answers, fails, counts) in whens.chain([last.clone()]) {
            let is_silent = !(answers || fails || (may_be_silent && path == last.0));
            let problem = match (answers, fails, counts) {
                _ if is_silent => Problem::new("this answers nothing").help("say `answer: …` or `fail: REASON`"),
                (true, true, false) => {
                    Problem::new("this answers and fails").help("say how many attempts fail: `times: 2`")
                }
                (false, true, true) => Problem::new("this fails, and then answers nothing").help("add `answer: …`"),
                (_, false, true) => Problem::new("`times` counts attempts that fail").help("add `fail: REASON`"),
                _ => continue,
            };
            self.reader.fault(&path, problem);
        }
    }
}
