//! What a program reads of its input, told from its text: members by name, or the input as a whole. Long because every kind of term has its
//! rule here.

use std::ops::Range;
use std::rc::Rc;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::load::span;
use jaq_core::path::{Opt, Part};

/// The names on the way to a member, each with where it stands in the text of the program.
pub type Way = Vec<(String, Range<usize>)>;

/// What a program reads of its input.
#[derive(Debug, Default)]
pub struct Reads {
    /// Whether it reads all of it, or members whose names its text does not tell: `keys`, `.[]`, `.[$name]`.
    pub is_whole: bool,
    /// The members that must be there: `.a.b` of `.a.b > 1`.
    pub ways: Vec<Way>,
    /// Those that need not be, since the program asks whether they are, or makes them: `.a?`, `has("a")`, `.a = 1 | .a`.
    pub maybe: Vec<String>,
}

impl Reads {
    /// What the program reads that has this text, and can be compiled.
    pub(super) fn of(text: &str) -> Self {
        let Some(term) = jaq_core::load::parse(text, |parser| parser.term()) else {
            return Self { is_whole: true, ..Self::default() };
        };
        let mut reader = Reader { text, reads: Self::default(), depth: 0 };
        let given = reader.term(&term, Seen::Input, &Names::default());
        reader.whole(given);
        reader.reads
    }

    /// Whether it may read the member of this name.
    pub fn may_read(&self, name: &str) -> bool {
        self.is_whole || self.names().any(|read| read == name)
    }

    /// The members that it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let first = self.ways.iter().filter_map(|way| way.first().map(|(name, _)| name.as_str()));
        first.chain(self.maybe.iter().map(String::as_str))
    }
}

/// What a part of a program works on, or gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// Anything else.
    Other,
    /// The input, of which what is read must be there.
    Input,
    /// The same where that need not be.
    Maybe,
}

impl Seen {
    /// The input may have been changed, or what is not there is no fault.
    fn maybe(self) -> Self {
        if self == Self::Other { self } else { Self::Maybe }
    }
}

/// The variables and functions of a place in a program.
#[derive(Clone, Default)]
struct Names<'a> {
    variables: Vec<(&'a str, Seen)>,
    functions: Vec<Rc<Function<'a>>>,
}

/// What is called by its name: a definition, or an argument of one.
struct Function<'a> {
    name: &'a str,
    arguments: &'a [&'a str],
    body: &'a Term<&'a str>,
    /// Of where it was defined.
    names: Names<'a>,
}

impl<'a> Names<'a> {
    fn with(&self, name: &'a str, seen: Seen) -> Self {
        let mut names = self.clone();
        names.variables.push((name, seen));
        names
    }

    fn variable(&self, name: &str) -> Seen {
        self.variables.iter().rev().find(|(known, _)| *known == name).map_or(Seen::Other, |(_, seen)| *seen)
    }

    fn function(&self, name: &str, arguments: usize) -> Option<Rc<Function<'a>>> {
        let is = |f: &&Rc<Function<'a>>| f.name == name && f.arguments.len() == arguments;
        self.functions.iter().rev().find(is).cloned()
    }
}

/// Definitions that are called deeper than this may read anything.
const DEPTH: usize = 12;

struct Reader<'t> {
    text: &'t str,
    reads: Reads,
    depth: usize,
}

impl Reader<'_> {
    fn whole(&mut self, seen: Seen) {
        self.reads.is_whole |= seen != Seen::Other;
    }

    /// Reads the member of this name, and no more of it.
    fn member(&mut self, of: Seen, name: &str) {
        match of {
            Seen::Other => {}
            Seen::Input => self.reads.ways.push(vec![(name.to_owned(), span(self.text, name))]),
            Seen::Maybe => self.reads.maybe.push(name.to_owned()),
        }
    }

    /// Follows a term that works on this, to what it gives.
    fn term<'a>(&mut self, term: &'a Term<&'a str>, on: Seen, names: &Names<'a>) -> Seen {
        match term {
            Term::Id => on,
            Term::Recurse => self.used(on),
            Term::Num(_) | Term::Break(_) | Term::Arr(None) => Seen::Other,
            Term::Str(_, parts) => {
                for part in parts {
                    if let StrPart::Term(term) = part {
                        self.uses(term, on, names);
                    }
                }
                Seen::Other
            }
            Term::Arr(Some(term)) | Term::Neg(term) => self.uses(term, on, names),
            Term::Obj(entries) => {
                for (key, value) in entries {
                    match (key, value) {
                        (Term::Var(name), None) => self.whole(names.variable(name)),
                        (key, None) => match literals(key) {
                            Some(members) => members.into_iter().for_each(|name| self.member(on, name)),
                            None => self.whole(on),
                        },
                        (key, Some(value)) => {
                            self.uses(key, on, names);
                            self.uses(value, on, names);
                        }
                    }
                }
                Seen::Other
            }
            Term::Label(_, term) => self.term(term, on, names),
            Term::TryCatch(term, catch) => {
                let given = self.term(term, on.maybe(), names);
                let caught = catch.as_ref().map_or(Seen::Other, |catch| self.term(catch, Seen::Other, names));
                given.max(caught)
            }
            Term::IfThenElse(cases, last) => {
                let mut given = Seen::Other;
                for (when, then) in cases {
                    // Whatever the input is, it counts as true.
                    self.term(when, on, names);
                    given = given.max(self.term(then, on, names));
                }
                given.max(last.as_ref().map_or(on, |last| self.term(last, on, names)))
            }
            Term::Fold(_, of, pattern, arguments) => {
                let each = self.term(of, on, names);
                let inner = self.bind(pattern, each, names);
                let mut kept = arguments.first().map_or(Seen::Other, |first| self.term(first, on, names));
                let mut given = kept;
                for _ in 0..2 {
                    for next in arguments.iter().skip(1) {
                        given = given.max(self.term(next, kept, &inner));
                    }
                    kept = kept.max(given);
                }
                given
            }
            Term::Def(defs, term) => {
                let mut inner = names.clone();
                for def in defs {
                    let function =
                        Function { name: def.name, arguments: &def.args, body: &def.body, names: inner.clone() };
                    inner.functions.push(Rc::new(function));
                }
                self.term(term, on, &inner)
            }
            Term::Call(name, arguments) => match names.function(name, arguments.len()) {
                Some(function) => self.call(&function, arguments, on, names),
                None => self.builtin(name, arguments, on, names),
            },
            Term::Var(name) => names.variable(name),
            Term::Path(from, path) => self.path(from, &path.0, on, names),
            Term::BinOp(left, operator, right) => self.operation(left, operator, right, on, names),
        }
    }

    /// A term of which what it gives is used as a value.
    fn uses<'a>(&mut self, term: &'a Term<&'a str>, on: Seen, names: &Names<'a>) -> Seen {
        let given = self.term(term, on, names);
        self.used(given)
    }

    fn used(&mut self, seen: Seen) -> Seen {
        self.whole(seen);
        Seen::Other
    }

    fn path<'a>(
        &mut self,
        from: &'a Term<&'a str>,
        path: &'a [(Part<Term<&'a str>>, Opt)],
        on: Seen,
        names: &Names<'a>,
    ) -> Seen {
        let of = self.term(from, on, names);
        for (part, _) in path {
            let terms = match part {
                Part::Index(at) => [Some(at), None],
                Part::Range(from, to) => [from.as_ref(), to.as_ref()],
            };
            for term in terms.into_iter().flatten() {
                self.uses(term, on, names);
            }
        }
        let Some(((first, optional), rest)) = path.split_first() else { return of };
        if of == Seen::Other {
            return of;
        }
        let Part::Index(at) = first else { return self.used(of) };
        match literals(at).as_deref() {
            Some([name]) if of == Seen::Input && matches!(optional, Opt::Essential) => {
                let mut way = vec![((*name).to_owned(), span(self.text, name))];
                for (part, optional) in rest {
                    let Part::Index(at) = part else { break };
                    let names = literals(at);
                    let (Some([name]), Opt::Essential) = (names.as_deref(), optional) else { break };
                    way.push(((*name).to_owned(), span(self.text, name)));
                }
                self.reads.ways.push(way);
            }
            Some(all) => {
                let of = if matches!(optional, Opt::Essential) { of } else { of.maybe() };
                for name in all {
                    self.member(of, name);
                }
            }
            None => self.whole(of),
        }
        Seen::Other
    }

    fn operation<'a>(
        &mut self,
        left: &'a Term<&'a str>,
        operator: &'a BinaryOp<&'a str>,
        right: &'a Term<&'a str>,
        on: Seen,
        names: &Names<'a>,
    ) -> Seen {
        match operator {
            BinaryOp::Pipe(None) => {
                let piped = self.term(left, on, names);
                self.term(right, piped, names)
            }
            BinaryOp::Pipe(Some(pattern)) => {
                let bound = self.term(left, on, names);
                let inner = self.bind(pattern, bound, names);
                self.term(right, on, &inner)
            }
            BinaryOp::Comma | BinaryOp::Alt => self.term(left, on, names).max(self.term(right, on, names)),
            BinaryOp::Or | BinaryOp::And => {
                self.term(left, on, names);
                self.term(right, on, names);
                Seen::Other
            }
            BinaryOp::Math(_) | BinaryOp::Cmp(_) => {
                self.uses(left, on, names);
                self.uses(right, on, names)
            }
            BinaryOp::Update => {
                let changed = self.term(left, on.maybe(), names);
                self.term(right, changed, names);
                on.maybe()
            }
            BinaryOp::Assign | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                self.term(left, on.maybe(), names);
                self.uses(right, on, names);
                on.maybe()
            }
        }
    }

    /// The names behind `as`.
    fn bind<'a>(&mut self, pattern: &'a Pattern<&'a str>, seen: Seen, names: &Names<'a>) -> Names<'a> {
        match pattern {
            Pattern::Var(name) => names.with(name, seen),
            Pattern::Arr(parts) => {
                self.whole(seen);
                parts.iter().fold(names.clone(), |names, part| self.bind(part, Seen::Other, &names))
            }
            Pattern::Obj(parts) => parts.iter().fold(names.clone(), |names, (key, part)| {
                match (key, literals(key).as_deref()) {
                    (Term::Var(name), _) => self.member(seen, name.trim_start_matches('$')),
                    (_, Some(members)) => members.iter().for_each(|name| self.member(seen, name)),
                    _ => self.whole(seen),
                }
                self.bind(part, Seen::Other, &names)
            }),
        }
    }

    /// A function that the program defines.
    fn call<'a>(
        &mut self,
        function: &Rc<Function<'a>>,
        arguments: &'a [Term<&'a str>],
        on: Seen,
        names: &Names<'a>,
    ) -> Seen {
        if self.depth == DEPTH {
            self.reads.is_whole = true;
            return Seen::Other;
        }
        self.depth += 1;
        let mut inner = function.names.clone();
        // It may call itself.
        inner.functions.push(function.clone());
        for (name, argument) in function.arguments.iter().zip(arguments) {
            if name.starts_with('$') {
                let seen = self.term(argument, on, names);
                inner.variables.push((name, seen));
            }
            let name = name.trim_start_matches('$');
            inner.functions.push(Rc::new(Function { name, arguments: &[], body: argument, names: names.clone() }));
        }
        let given = self.term(function.body, on, &inner);
        self.depth -= 1;
        given
    }

    /// A function of jq.
    fn builtin<'a>(&mut self, name: &str, arguments: &'a [Term<&'a str>], on: Seen, names: &Names<'a>) -> Seen {
        let all = |reader: &mut Self, on: Seen| {
            arguments.iter().map(|argument| reader.term(argument, on, names)).max().unwrap_or(Seen::Other)
        };
        if on == Seen::Other {
            return all(self, on);
        }
        match (name, arguments) {
            ("empty" | "null" | "true" | "false" | "nan" | "infinite" | "type" | "not", []) => Seen::Other,
            ("values" | "objects", []) => on,
            ("select", [condition]) => {
                self.term(condition, on, names);
                on
            }
            ("first" | "last" | "limit" | "skip" | "nth", [_, ..]) => all(self, on),
            ("any" | "all", [of, condition]) => {
                let each = self.term(of, on, names);
                self.term(condition, each, names);
                Seen::Other
            }
            ("isempty", [_]) => {
                all(self, on);
                Seen::Other
            }
            ("range" | "error", [_, ..]) => {
                let given = all(self, on);
                self.used(given)
            }
            ("has", [name]) => {
                match literals(name) {
                    Some(members) => members.into_iter().for_each(|name| self.member(Seen::Maybe, name)),
                    None => self.whole(on),
                }
                Seen::Other
            }
            ("getpath", [Term::Arr(Some(path))]) => {
                match literals(path).as_deref() {
                    Some([first, ..]) => self.member(Seen::Maybe, first),
                    _ => self.whole(on),
                }
                Seen::Other
            }
            _ => {
                all(self, on.maybe());
                self.used(on)
            }
        }
    }
}

/// The texts that a term gives, if it is nothing but these.
fn literals<'a>(term: &Term<&'a str>) -> Option<Vec<&'a str>> {
    match term {
        Term::Str(None, parts) => match parts.as_slice() {
            [StrPart::Str(text)] => Some(vec![text]),
            _ => None,
        },
        Term::BinOp(left, BinaryOp::Comma, right) => Some([literals(left)?, literals(right)?].concat()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ways that must be there, `?` before what need not, and `.` for all.
    fn told(text: &str) -> String {
        assert!(super::super::Program::parse(text).is_ok(), "{text}");
        let reads = Reads::of(text);
        assert!(reads.ways.iter().flatten().all(|(name, place)| text[place.clone()] == **name), "{text}");
        let joined = |way: &Way| way.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(".");
        let mut all: Vec<String> = reads.ways.iter().map(joined).collect();
        all.extend(reads.maybe.iter().map(|name| format!("?{name}")));
        all.extend(reads.is_whole.then(|| ".".to_owned()));
        all.join(" ")
    }

    #[test]
    fn members_are_told_by_their_ways() {
        for (text, expected) in [
            (r#"(.a.b > 1 and .c["d"].e[0].f < -.g) or (.h | .i) == any(.j[]; .k)"#, "a.b c.d.e g h j"),
            (".plan.results.title", "plan.results.title"),
            (".input.list | map(.title) | length", "input.list"),
            ("[.a[] | select(.b > 1)] | add", "a"),
            ("{a, n: .b.c, \"d\": 1}", "a b.c"),
            (". as $row | .a | map(. + $row.b.c)", "a b.c"),
            (". as {a: $q, $b} | $q + $b", "a b"),
            ("select(.a == 1) | .b", "a b"),
            ("if .a then .b else .c end", "a b c"),
            ("if .a then .b end", "a b ."),
            ("reduce .a[] as $x (0; . + $x.b)", "a"),
            ("reduce .a[] as $x (.; . + {n: $x}) | .b", "a b ."),
            ("def f: .a; f + (.b | f)", "a b"),
            ("def f(g): .x | g; f(.y) + .z", "x z"),
            ("def f($v): $v.a; f(.)", "a"),
            (".a.list[.b]", "b a.list"),
            (".[\"a\", \"b\"]", "a b"),
            ("first(.a, .b)", "a b"),
            ("\"\\(.a) and \\(.b.c)\"", "a b.c"),
            ("1 + 2", ""),
            ("label $out | .a | ., break $out", "a"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn what_asks_whether_a_member_is_there_or_makes_it_need_not_find_it() {
        for (text, expected) in [
            (".nothing? // 3", "?nothing"),
            (".a.b? // 3", "a"),
            ("try .nothing catch 3", "?nothing"),
            ("has(\"y\") and .a", "a ?y"),
            ("getpath([\"a\", \"b\"])", "?a"),
            (".foo = 3 | .foo", "?foo ?foo"),
            (".foo |= 3 | .foo", "?foo ?foo"),
            (".foo += .a | .foo", "a ?foo ?foo"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn all_of_it_is_told_as_such() {
        for text in [
            ".",
            "keys",
            ". | keys",
            "[.[]]",
            "..",
            "tojson",
            ". as {a: $q} | .",
            "[.]",
            "{n: .}",
            ". == 1",
            "-.",
            "length",
            ".[$__prog_args[0]]? // .",
            "to_entries",
            "del(.a)",
            "\"\\(.)\"",
            ". as [$x] | $x",
            "def f: f; f",
            ".a = 1",
            "[., 1] | .[0]",
            "map(.a)",
        ] {
            if super::super::Program::parse(text).is_ok() {
                assert!(Reads::of(text).is_whole, "{text}");
            }
        }
        assert!(!Reads::of(".a | keys, ., [.[]], tojson").is_whole);
    }
}
