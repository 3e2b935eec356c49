//! A configuration as a tree that knows where each key and value stands in the text.

use std::ops::Range;

use serde_json::{Map, Number, Value};

use crate::diagnostic::Key;

/// A value of a spec and its place in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Bytes of the text, from its first to behind its last; where it is used, when it comes from an alias.
    pub span: Range<usize>,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing: `null`, `~`, or no value at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; never NaN or infinite.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Members in the order they were written; names are unique.
    Map(Vec<Member>),
}

/// A member of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The key.
    pub name: String,
    /// Where the key stands.
    pub key: Range<usize>,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// The members of a map; none for anything else.
    pub fn members(&self) -> &[Member] {
        match &self.content {
            Content::Map(members) => members,
            _ => &[],
        }
    }

    /// The elements of a list; none for anything else.
    pub fn elements(&self) -> &[Node] {
        match &self.content {
            Content::List(elements) => elements,
            _ => &[],
        }
    }

    /// The member with this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members().iter().find(|m| m.name == name)
    }

    /// The value of the member with this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.member(name).map(|m| &m.node)
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// One step into it.
    pub fn child(&self, key: &Key) -> Option<&Node> {
        match key {
            Key::Name(name) => self.get(name),
            Key::Index(index) => self.elements().get(*index),
        }
    }

    /// The node at the end of a path, if all of it is there.
    pub fn at(&self, path: &[Key]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.child(key))
    }

    /// The same without places.
    pub fn value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(b) => Value::Bool(*b),
            Content::Number(n) => Value::Number(n.clone()),
            Content::Text(t) => Value::String(t.clone()),
            Content::List(list) => Value::Array(list.iter().map(Node::value).collect()),
            Content::Map(members) => Value::Object(members.iter().map(|m| (m.name.clone(), m.node.value())).collect()),
        }
    }

    /// The members that `keep` names, without places.
    pub fn part(&self, keep: impl Fn(&str) -> bool) -> Map<String, Value> {
        self.members().iter().filter(|m| keep(&m.name)).map(|m| (m.name.clone(), m.node.value())).collect()
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "a boolean",
            Content::Number(_) => "a number",
            Content::Text(_) => "a text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// Calls `visit` with every text in it and the way to it.
    pub fn texts<'a>(&'a self, path: &mut Vec<Key>, visit: &mut impl FnMut(&[Key], &'a str)) {
        match &self.content {
            Content::Text(text) => visit(path, text),
            Content::List(list) => {
                for (index, node) in list.iter().enumerate() {
                    path.push(index.into());
                    node.texts(path, visit);
                    path.pop();
                }
            }
            Content::Map(members) => {
                for member in members {
                    path.push(member.name.as_str().into());
                    member.node.texts(path, visit);
                    path.pop();
                }
            }
            _ => {}
        }
    }
}
