//! The steps of a workflow in a graph: a node for each step, a gather wherever branches meet, and a workflow within another one in
//! the place of a step.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::cached::Place as Looked;
use super::chain::shapes;
use super::course::Begin;
use super::fail_fast::FailFast;
use super::gate;
use super::gather::GatherConfig;
use super::journaled::{Journaled, What};
use super::lines::{hidden, leaves, lines, order};
use super::nested::{BackConfig, IntoConfig, OutConfig, TurnConfig, Turns};
use super::recorded::Recorded;
use super::start::{Start, behind};
use super::step::StepConfig;
use crate::api::OnFull;
use crate::api::cache::{Cache, Flights, Memory};
use crate::api::registry::BoxStageConfig;
use crate::diagnostic::Key;
use crate::graph::{Graph, Input, Node, Role};
use crate::journal::{Asked, Durability, History, Journal, Wait};
use crate::spec::Chain;
use crate::spec::model::{Nested, Repeat, Step};

/// A graph that is being made.
pub(super) struct Wiring {
    pub graph: Graph,
    journal: Option<Arc<dyn Journal>>,
    durability: Durability,
    /// What the idempotency keys of a run begin with, where that is not its id.
    pub(super) key: Option<Arc<str>>,
    /// Whether a run may be passed several times at once.
    pub(super) overlap: bool,
    /// The history of a run that is decided again.
    pub(super) recorded: Option<Recorded>,
    /// What ends runs that have failed.
    pub(super) fails: FailFast,
    /// Where steps look for what was asked before.
    cache: Looked,
    /// The node that joins each pair that was joined before.
    gathers: HashMap<(String, String), String>,
    /// The node behind a step whose rows may be read, where it is not the step itself.
    last: HashMap<String, String>,
}

/// Where the steps of a workflow stand.
pub(super) struct Within {
    /// What the ids of their nodes begin with: `each/`.
    prefix: String,
    /// The node behind which they begin.
    first: String,
    /// Where the workflow stands in the outer spec, if it has a file of its own: places in that are not places of the spec.
    pub(super) path: Option<Vec<Key>>,
    /// What the names of its rate limits begin with.
    pub(super) rates: String,
    /// Whether it undoes a step, or is done at the end.
    in_cleanup: bool,
    is_outermost: bool,
    is_pipeline: bool,
}

/// Where a workflow stands within something else.
pub(super) struct Place<'a> {
    /// The column of its record, which is the id of the step.
    pub id: &'a str,
    /// The id of the node.
    pub node: String,
    pub repeat: Option<&'a Repeat>,
    /// What makes its input.
    pub input: &'a BoxStageConfig,
    /// How many elements of a list may be within at once.
    pub at_once: Option<usize>,
    /// Where it stands in the spec.
    pub path: Vec<Key>,
}

impl Within {
    pub(super) fn outermost(first: String) -> Self {
        let (prefix, rates) = (String::new(), String::new());
        Self { prefix, first, path: None, rates, in_cleanup: false, is_outermost: true, is_pipeline: false }
    }

    pub(super) fn pipeline() -> Self {
        Self { is_outermost: false, is_pipeline: true, ..Self::outermost(String::new()) }
    }

    pub(super) fn id(&self, step: &str) -> String {
        format!("{}{step}", self.prefix)
    }

    pub(super) fn path(&self, step: &Step) -> Vec<Key> {
        self.path.clone().unwrap_or_else(|| step.path.clone())
    }
}

/// Steps that stand in the graph.
pub(super) struct Wired {
    /// The node whose rows have all columns.
    pub last: String,
    /// The steps that the journal is told of behind themselves.
    pub kept: Vec<String>,
}

impl Wiring {
    pub(super) fn new(
        graph: Graph,
        journal: Option<Arc<dyn Journal>>,
        durability: Durability,
        cache: Option<Arc<dyn Cache>>,
    ) -> Self {
        let fails = FailFast::default();
        let (gathers, last) = (HashMap::new(), HashMap::new());
        let cache = cache.unwrap_or_else(|| Arc::new(Memory::default()));
        let cache = Looked { cache, flights: Flights::default() };
        Self { graph, journal, durability, key: None, overlap: false, recorded: None, fails, cache, gathers, last }
    }

    pub(super) fn stage(&mut self, id: &str, config: BoxStageConfig, from: Vec<String>, path: Vec<Key>) {
        self.graph.nodes.push(node(id, Role::Stage(config), from, path));
    }

    /// A node where the journal is asked or told; there is one.
    pub(super) fn journaled(&mut self, id: &str, what: What, from: String, path: Vec<Key>) -> String {
        let Some(journal) = self.journal.clone() else { return from };
        self.stage(id, BoxStageConfig(Arc::new(Journaled { journal, what })), vec![from], path);
        id.to_owned()
    }

    /// What somebody asks of runs meanwhile.
    pub(super) fn asked(&self) -> Asked {
        self.journal.as_ref().map(|journal| journal.asked()).unwrap_or_default()
    }

    /// Whether what a step gave is kept behind it, and whether the next one waits for that.
    pub(super) fn kept(&self) -> Option<Wait> {
        self.journal.as_ref()?;
        match self.durability {
            Durability::Sync => Some(Wait::Durable),
            Durability::Async => Some(Wait::No),
            Durability::Exit => None,
        }
    }

    /// All steps of a workflow.
    pub(super) fn steps(&mut self, spec: &Chain, within: &Within) -> Wired {
        let (order, leaves, behind) = (order(&spec.steps), leaves(&spec.steps), behind(spec));
        let mut kept = Vec::new();
        let mut before = within.first.clone();
        let ids = |places: &[usize]| places.iter().map(|at| spec.steps[*at].id.clone()).collect::<Vec<_>>();
        for line in lines(spec, order) {
            if let [_, _, ..] = line.as_slice() {
                before = self.line(spec, &line, &behind, within);
                let all = ids(&line);
                if let Some(wait) = self.wait(&all, &leaves, within) {
                    before = self.keep(&all, wait, before, within.path(&spec.steps[line[0]]), within);
                    kept.extend(all.iter().cloned());
                }
                self.last.extend(all.into_iter().map(|id| (within.id(&id), before.clone())));
                continue;
            }
            let at = line[0];
            let step = &spec.steps[at];
            let needs = ids(&step.follows);
            let from = match needs.as_slice() {
                _ if !spec.optimization.parallel_where_possible => before.clone(),
                [] => within.first.clone(),
                needs => self.gather(needs, within),
            };
            let start = Start::of(spec, at, &behind).in_cleanup(within.in_cleanup);
            let items = step
                .for_each
                .as_ref()
                .map(|each| self.items(step, each, &start, ids(&step.reads), from.clone(), within));
            before = self.works(spec, at, &start, items.unwrap_or_else(|| from.clone()), within);
            if let Some(each) = &step.for_each {
                before = self.collect(step, each, from, before, within);
            }
            if spec.fail_fast && !start.cleans_up() {
                before = self.watch(step, None, before, within);
            }
            let all = [step.id.clone()];
            if let Some(wait) = self.wait(&all, &leaves, within) {
                before = self.keep(&all, wait, before, within.path(step), within);
                kept.extend(all);
            }
            self.last.insert(within.id(&step.id), before.clone());
        }
        let ends = if spec.optimization.parallel_where_possible { Some(leaves) } else { None };
        let last = ends.map_or(before, |ends| self.gather(&ends, within));
        Wired { last, kept }
    }

    /// Whether it is told behind steps what they gave, and whether the next ones wait for that.
    fn wait(&self, steps: &[String], leaves: &[String], within: &Within) -> Option<Wait> {
        let wait = self.kept()?;
        if !steps.iter().all(|step| leaves.contains(step)) {
            return Some(wait);
        }
        // What nobody waits for need only be kept soon. The end of a run is durable only after all that was appended before it, so the
        // only last steps of one are told there; where there are others, one may take long after another.
        let are_last = within.is_outermost && leaves.len() == steps.len();
        (!are_last).then_some(Wait::No)
    }

    fn keep(&mut self, steps: &[String], wait: Wait, from: String, path: Vec<Key>, within: &Within) -> String {
        let last = steps.last().map_or("", String::as_str);
        let what = What::Steps(steps.iter().map(|id| id.as_str().into()).collect(), wait);
        self.journaled(&format!("@kept:{}", within.id(last)), what, from, path)
    }

    /// Steps that need the same ones and are soon done, one behind the other.
    fn line(&mut self, spec: &Chain, line: &[usize], behind: &[BTreeSet<usize>], within: &Within) -> String {
        let needs: Vec<String> = spec.steps[line[0]].follows.iter().map(|at| spec.steps[*at].id.clone()).collect();
        let mut from = if needs.is_empty() { within.first.clone() } else { self.gather(&needs, within) };
        for at in line {
            let start = Start::of(spec, *at, behind).in_cleanup(within.in_cleanup);
            from = self.works(spec, *at, &start, from, within);
        }
        from
    }

    /// What is tried for a step: its work, and then each of its fallbacks.
    fn works(&mut self, spec: &Chain, at: usize, start: &Start, mut reads: String, within: &Within) -> String {
        let step = &spec.steps[at];
        let all = StepConfig::all(spec, at, start, (self.journal.as_ref(), self.durability), &self.fails, &self.cache);
        for (fallback, (config, work)) in all.into_iter().enumerate() {
            let own = within.id(&step.id);
            let id = if fallback == 0 { own } else { format!("@fallback:{own}:{fallback}") };
            if let Some(nested) = &work.workflow {
                let (asked, fails) = (self.asked(), self.fails.clone());
                let (default, recorded) = (config.default(), self.recorded.clone());
                let marks = gate::marks(step).collect();
                let begin = Begin { start: start.clone(), fallback, default, marks, asked, fails, recorded };
                let place = Place {
                    id: &step.id,
                    node: within.id(&step.id),
                    repeat: step.repeat.as_ref(),
                    input: &work.config,
                    at_once: step.for_each.as_ref().and_then(|each| each.max_concurrency),
                    path: within.path(step),
                };
                reads = self.nested(&place, nested, &begin, reads, within);
                reads = self.gates(spec, at, (start, fallback), reads, within);
                continue;
            }
            let config = config.hiding(hidden(spec, at)).with_key(self.key.clone()).replaying(self.recorded.clone());
            let aside = config.aside().filter(|_| self.overlap);
            let aside = aside.map(|aside| self.aside(&id, aside, reads.clone(), within.path(step)));
            let reads_from = aside.clone().unwrap_or(reads);
            let config = BoxStageConfig(Arc::new(config));
            let mut node = node(&id, Role::Stage(config), vec![reads_from], within.path(step));
            node.rate_limit = work.rate_limit.map(|name| format!("{}{name}", within.rates));
            self.graph.nodes.push(node);
            let behind = aside.map_or(id.clone(), |aside| self.meet(&id, aside, within.path(step)));
            reads = self.gates(spec, at, (start, fallback), behind, within);
        }
        reads
    }

    /// A workflow in the place of a step or a stage, once or in rounds.
    pub(super) fn nested(
        &mut self,
        place: &Place<'_>,
        nested: &Nested,
        begin: &Begin,
        mut reads: String,
        within: &Within,
    ) -> String {
        let Place { id, node, repeat, input, at_once, path } = place;
        let repeat = repeat.filter(|_| begin.fallback == 0);
        let rounds = repeat.map_or(1, |repeat| repeat.max);
        for round in 1..=rounds {
            let mark = match (begin.fallback, repeat) {
                (0, None) => String::new(),
                (0, Some(_)) => format!("#{round}"),
                (fallback, _) => History::fallback(fallback),
            };
            let name = format!("{node}{mark}");
            let (into, out) = (format!("@into:{name}"), format!("@out:{name}"));
            let turns = at_once.map(Turns::new);
            if let Some(turns) = &turns {
                let turn = format!("@turn:{name}");
                self.stage(&turn, BoxStageConfig(Arc::new(TurnConfig(turns.clone()))), vec![reads], path.clone());
                reads = turn;
            }
            let config = IntoConfig {
                id: (*id).into(),
                mark: mark.clone(),
                begin: begin.clone(),
                round: repeat.map(|repeat| (round, repeat.until.clone())),
                input: (*input).clone(),
                schema: nested.chain.input.clone(),
                is_timed: nested.chain.is_timed(),
                timeout: nested.chain.timeout,
            };
            self.stage(&into, BoxStageConfig(Arc::new(config)), vec![reads.clone()], path.clone());
            let is_file = nested.file.is_some();
            let inner = Within {
                prefix: format!("{name}/"),
                first: into,
                path: if is_file { Some(path.clone()) } else { within.path.clone() },
                rates: if is_file { format!("{name}/") } else { within.rates.clone() },
                in_cleanup: begin.start.cleans_up(),
                is_outermost: false,
                is_pipeline: false,
            };
            if is_file {
                let limits = nested.chain.rate_limits.iter().map(|(key, l)| (format!("{}{key}", inner.rates), *l));
                self.graph.options.rate_limits.extend(limits);
            }
            let last = self.steps(&nested.chain, &inner).last;
            let config = OutConfig {
                id: (*id).to_owned(),
                workflow: nested.chain.name.clone(),
                steps: shapes(&nested.chain),
                format: nested.chain.format.clone(),
                output: nested.chain.output.clone(),
                timeout: nested.chain.timeout,
            };
            self.stage(&out, BoxStageConfig::new(config), vec![last], path.clone());
            let back = match begin.fallback {
                0 if round == rounds && within.is_pipeline => format!("@back:{node}"),
                0 if round == rounds => node.clone(),
                0 => format!("@round:{name}"),
                fallback => format!("@fallback:{node}:{fallback}"),
            };
            let config = BackConfig {
                id: (*id).into(),
                mark,
                begin: begin.clone(),
                round: repeat.map(|_| round),
                workflow: nested.chain.name.clone(),
                turns,
            };
            self.stage(&back, BoxStageConfig(Arc::new(config)), vec![reads, out], path.clone());
            reads = back;
        }
        reads
    }

    /// The node whose rows have the columns of all of these: itself if it is one, a cascade of joins otherwise.
    fn gather(&mut self, steps: &[String], within: &Within) -> String {
        let node = |id: &String| self.last.get(&within.id(id)).cloned().unwrap_or_else(|| within.id(id));
        let mut ids: Vec<String> = Vec::with_capacity(steps.len());
        for id in steps.iter().map(node) {
            // Steps of one line have one end.
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let mut left = ids.first().cloned().unwrap_or_else(|| within.first.clone());
        for right in ids.iter().skip(1) {
            let pair = (left.clone(), right.clone());
            if let Some(known) = self.gathers.get(&pair) {
                left.clone_from(known);
                continue;
            }
            // `@` and `+` stand in no id of a step, so it is the only one of this name.
            let name = |id: &str| {
                let bare = ["@kept:", "@with:", "@watch:", "@fallback:", "@gate:"]
                    .iter()
                    .find_map(|prefix| id.strip_prefix(prefix));
                bare.unwrap_or_else(|| id.trim_start_matches('@')).to_owned()
            };
            let id = format!("@{}+{}", name(&left), name(right));
            self.stage(&id, BoxStageConfig::new(GatherConfig {}), vec![left, right.clone()], Vec::new());
            self.gathers.insert(pair, id.clone());
            left = id;
        }
        left
    }
}

pub(super) fn node(id: &str, role: Role, from: Vec<String>, path: Vec<Key>) -> Node {
    let inputs = from.into_iter().map(|node| Input { node, port: None }).collect();
    let (fallback, rate_limit, journal) = (Vec::new(), None, None);
    let (on_error, on_full, lanes, admission) = (None, OnFull::Block, None, None);
    Node { id: id.to_owned(), role, inputs, on_error, on_full, fallback, rate_limit, journal, lanes, admission, path }
}
