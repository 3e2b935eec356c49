//! Text in YAML or JSON to a tree with places. The only file that knows the YAML parser.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::NamedSource;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Location, Spanned};

use super::node::{Content, Member, Node};
use crate::diagnostic::Diagnostic;

/// The longest text that is parsed at all, in bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// The deepest nesting, aliases followed. The parser recurses; in a debug build a level takes some 40 KiB of the stack.
const DEPTH_MAX: usize = 32;
/// The most values, aliases followed.
const NODES_MAX: usize = 100_000;
/// The most bytes of text in the tree, aliases followed.
const TEXT_MAX: usize = 8 << 20;
const TOO_DEEP: &str = "this spec is nested too deeply";

/// Why a text is no tree, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes.
    pub span: Range<usize>,
    /// The way out.
    pub help: Option<String>,
}

impl Fault {
    /// The same with the text.
    pub fn diagnostic(self, file: &str, text: &str) -> Diagnostic {
        // A text that is too long to read is too long to show.
        let text = if text.len() > BYTES_MAX { "" } else { text };
        let source = Arc::new(NamedSource::new(file, text.to_owned()));
        Diagnostic { message: self.message, span: self.span, label: None, help: self.help, source }
    }
}

/// Reads a text in YAML or in JSON. Anchors, aliases and merge keys are followed within bounds; of two equal keys the
/// second is a fault. Never panics, whatever the text.
///
/// # Errors
/// The first thing that is no YAML, or a bound that is passed.
pub fn parse(text: &str) -> Result<Node, Fault> {
    if text.len() > BYTES_MAX {
        let message = format!("this spec has {} bytes; at most {BYTES_MAX} are read", text.len());
        let help = Some("put data into a file that a source reads".into());
        return Err(Fault { message, span: 0..0, help });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: NODES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES_MAX },
        strict_booleans: true,
        with_snippet: false,
    };
    SPENT.set(Spent::default());
    let tree = serde_saphyr::from_str_with_options::<Tree>(text, options).map_err(|e| fault(text, &e))?;
    Ok(tree.into_node(text))
}

fn fault(text: &str, error: &serde_saphyr::Error) -> Fault {
    use serde_saphyr::Error as E;
    let (mut error, mut used) = (error.without_snippet(), error.location());
    while let E::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
        used = used.or_else(|| error.location());
    }
    let span = used.map_or(0..0, |l| place(text, l));
    let (message, help) = match error {
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            (format!("the key `{key}` is here twice"), Some("remove one of them, or give it another name".into()))
        }
        E::UnknownAnchor { .. } => ("this alias has no anchor before it".into(), None),
        E::Budget { breach: BudgetBreach::Documents { .. }, .. } => ("a spec is one document".into(), None),
        E::Budget { .. } | E::AliasReplayLimitExceeded { .. } | E::AliasReplayStackDepthExceeded { .. } => {
            ("this spec is too large or nested too deeply, with its aliases followed".into(), None)
        }
        E::NonFiniteFloat { .. } => ("a number must be finite".into(), None),
        E::ExternalMessage { msg, .. } if msg == "recursion limit exceeded" => (TOO_DEEP.into(), None),
        E::Message { msg, .. } | E::ExternalMessage { msg, .. } => (msg.clone(), None),
        // The parser adds the place in words; ours stands before the message.
        other => (other.to_string().split(" at line ").next().unwrap_or_default().to_owned(), None),
    };
    let help = help.or_else(|| is_cut_text(&message).then(|| WHOLE_IN_QUOTES.to_owned()));
    Fault { message, span, help }
}

/// What is said where a text that should have been in quotes ends too early.
const WHOLE_IN_QUOTES: &str =
    "in braces a comma or brace ends a text, and a quote begins one: put the whole text into quotes";
fn is_cut_text(message: &str) -> bool {
    (message.contains("trailing content after") && message.contains("-quoted scalar"))
        || message.contains("parsing a flow mapping, did not find")
}

/// Errors of the parser know line and column, not always bytes.
fn place(text: &str, location: Location) -> Range<usize> {
    let start = line_start(text, location.line());
    let column = usize::try_from(location.column().saturating_sub(1)).unwrap_or(usize::MAX);
    let line = text[start..].lines().next().unwrap_or_default();
    let (at, length) = line.char_indices().nth(column).map_or((line.len(), 0), |(i, c)| (i, c.len_utf8()));
    let known = bytes(text, location);
    // A span of the parser's is trusted where it agrees.
    if known.start == start + at && known.end > known.start { known } else { start + at..start + at + length }
}

/// The bytes that a location covers; a place within the text in any case.
fn bytes(text: &str, location: Location) -> Range<usize> {
    let at = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok());
    let span = location.span();
    let start = at(span.byte_offset()).unwrap_or(0).min(text.len());
    let end = start.saturating_add(at(span.byte_len()).unwrap_or(0)).min(text.len());
    floor(text, start)..floor(text, end)
}

fn line_start(text: &str, line: u64) -> usize {
    let before = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    text.split_inclusive('\n').take(before).map(str::len).sum()
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

#[derive(Clone, Copy, Default)]
struct Spent {
    depth: usize,
    nodes: usize,
    text: usize,
}

thread_local! {
    /// What the parse under way on this thread has built: serde hands no context down to a value, and the parser's own
    /// budget does not count what an alias repeats.
    static SPENT: Cell<Spent> = const { Cell::new(Spent { depth: 0, nodes: 0, text: 0 }) };
}

fn spend<E: de::Error>(text: usize) -> Result<(), E> {
    let mut spent = SPENT.get();
    spent.nodes += 1;
    spent.text += text;
    SPENT.set(spent);
    if spent.nodes > NODES_MAX || spent.text > TEXT_MAX {
        return Err(E::custom("this spec is too large or nested too deeply, with its aliases followed"));
    }
    Ok(())
}

fn enter<E: de::Error>() -> Result<(), E> {
    let mut spent = SPENT.get();
    spent.depth += 1;
    SPENT.set(spent);
    if spent.depth > DEPTH_MAX { Err(E::custom(TOO_DEEP)) } else { Ok(()) }
}

fn leave() {
    let mut spent = SPENT.get();
    spent.depth -= 1;
    SPENT.set(spent);
}

/// A value as the parser hands it out.
struct Tree(Spanned<Raw>);

enum Raw {
    Leaf(Content),
    List(Vec<Tree>),
    Map(Vec<(Spanned<String>, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        spend(0)?;
        Ok(Raw::Leaf(Content::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        self.visit_unit()
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Raw, E> {
        spend(0)?;
        Ok(Raw::Leaf(Content::Bool(v)))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Raw, E> {
        spend(0)?;
        Ok(Raw::Leaf(Content::Number(v.into())))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Raw, E> {
        spend(0)?;
        Ok(Raw::Leaf(Content::Number(v.into())))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Raw, E> {
        spend(0)?;
        let number = Number::from_f64(v).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Raw::Leaf(Content::Number(number)))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Raw, E> {
        spend(v.len())?;
        Ok(Raw::Leaf(Content::Text(v.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        spend(0)?;
        enter()?;
        let mut list = Vec::new();
        while let Some(element) = access.next_element()? {
            list.push(element);
        }
        leave();
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        spend(0)?;
        enter()?;
        let mut members = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            spend(key.value.len())?;
            members.push((key, access.next_value()?));
        }
        leave();
        Ok(Raw::Map(members))
    }
}

impl Tree {
    fn into_node(self, text: &str) -> Node {
        let alias = self.0.referenced != self.0.defined;
        let span = bytes(text, self.0.referenced);
        let content = match self.0.value {
            Raw::Leaf(content) => content,
            Raw::List(list) => Content::List(list.into_iter().map(|t| t.into_node(text)).collect()),
            Raw::Map(members) => Content::Map(
                members
                    .into_iter()
                    .map(|(key, tree)| Member {
                        key: bytes(text, key.referenced),
                        name: key.value,
                        node: tree.into_node(text),
                    })
                    .collect(),
            ),
        };
        let mut node = Node { span, content };
        if !alias {
            node.span.end = node.span.end.max(last_end(&node, text.len()));
        }
        node
    }
}

/// Where the last of the children that stand inside the node ends; the parser gives only the beginning of a collection.
fn last_end(node: &Node, limit: usize) -> usize {
    let children = node.elements().iter().chain(node.members().iter().map(|m| &m.node)).map(|n| n.span.end);
    children.chain(node.members().iter().map(|m| m.key.end)).max().unwrap_or(0).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marked(text: &str) -> String {
        let fault = parse(text).unwrap_err();
        format!("{} @ {}..{} {:?}", fault.message, fault.span.start, fault.span.end, &text[fault.span.clone()])
    }

    /// Every key and value with what stands at its place.
    fn places(text: &str, node: &Node, out: &mut Vec<String>) {
        let here = &text[node.span.clone()];
        out.push(format!("{}: {}", node.kind(), here.replace('\n', "|")));
        node.elements().iter().for_each(|e| places(text, e, out));
        for member in node.members() {
            out.push(format!("{} = {}", member.name, &text[member.key.clone()]));
            places(text, &member.node, out);
        }
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "ü: [1, 'q']\nb: &x\n  k: \"l\\u0041\" # c\nc: *x\n";
        let mut out = Vec::new();
        places(text, &parse(text).unwrap(), &mut out);
        insta::assert_snapshot!(out.join("\n"), @r#"
        a map: ü: [1, 'q']|b: &x|  k: "l\u0041" # c|c: *x
        ü = ü
        a list: [1, 'q'
        a number: 1
        a text: 'q'
        b = b
        a map: k: "l\u0041"
        k = k
        a text: "l\u0041"
        c = c
        a map: *x
        k = *x
        a text: *x
        "#);
    }

    #[test]
    fn json_and_yaml_give_the_same_tree() {
        let json = parse(r#"{"a": {"b": [true, null, "é"]}, "c": 1.5, "on": "yes"}"#).unwrap();
        let yaml = parse("a:\n  b: [true, ~, é]\nc: 1.5\non: yes\n").unwrap();
        assert_eq!(json.value(), yaml.value());
        assert_eq!(json.value()["on"], "yes");
    }

    #[test]
    fn what_is_no_yaml_is_a_fault_with_its_place() {
        assert_eq!(marked("a: 1\na: 2"), "the key `a` is here twice @ 5..6 \"a\"");
        assert_eq!(marked("b: 2\na: b: c"), "mapping values are not allowed in this context @ 9..10 \":\"");
        assert_eq!(marked("ü: *nope"), "this alias has no anchor before it @ 4..5 \"*\"");
        assert_eq!(marked("a: [1"), "unclosed bracket '[' @ 3..4 \"[\"");
        assert_eq!(marked("a: .inf"), "a number must be finite @ 3..7 \".inf\"");
        assert_eq!(marked("a: 1\n---\nb: 2"), "a spec is one document @ 5..8 \"---\"");
    }

    #[test]
    fn a_text_that_wants_quotes_is_told_so() {
        for text in ["a: { b: f('x', \"y z\"), c: 1 }", "a: { b: out-{lane}.csv }", "a: { b: \"x\" - 1 }"] {
            assert_eq!(parse(text).unwrap_err().help.as_deref(), Some(WHOLE_IN_QUOTES), "{text}");
        }
        assert_eq!(parse("a: [1").unwrap_err().help, None);
    }

    #[test]
    fn a_spec_is_bounded_whatever_its_aliases_say() {
        let grown = |first: &str, next: &dyn Fn(usize) -> String| {
            let lines = (1..9).map(|i| format!("a{i}: &a{i} {}\n", next(i - 1)));
            format!("a0: &a0 {first}\n{}", lines.collect::<String>())
        };
        let wide = grown("[x,x,x,x,x,x,x,x,x]", &|i| format!("[{}]", vec![format!("*a{i}"); 9].join(",")));
        let deep = grown("[[[[[[x]]]]]]", &|i| format!("[[[[[[*a{i}]]]]]]"));
        let heavy = format!("a: &a \"{}\\n\"\nb: [{}]", "x".repeat(500_000), "*a,".repeat(99));
        let flow = "[".repeat(100_000);
        let block = "- ".repeat(100_000);
        for text in [&wide, &deep, &heavy, &flow, &block] {
            let message = parse(text).unwrap_err().message;
            assert!(message.contains("too large") || message.contains("too deep"), "{message}");
        }
        let fault = parse(&" ".repeat(10 << 20)).unwrap_err();
        assert_eq!(fault.message, "this spec has 10485760 bytes; at most 1048576 are read");
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(text in "[-a:\\[\\]{}&*!|>'\"%@`,?# \\n\\té\u{1F600}<0.]{0,60}") {
            match parse(&text) {
                Ok(node) => places(&text, &node, &mut Vec::new()),
                Err(fault) => drop(text[fault.span].to_owned()),
            }
        }

        #[test]
        fn nothing_at_all_makes_the_parser_panic(text in "\\PC*") {
            drop(parse(&text));
        }
    }
}
