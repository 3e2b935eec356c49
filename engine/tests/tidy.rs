//! The rules of the house that no compiler checks: who may import whom, the fences, sizes, names, and what tests must not do.

use std::fs;
use std::path::Path;

/// The folders of `engine/src`, top row first. A row imports the rows above it, and nothing beside it.
const ROWS: &[&[&str]] = &[
    &["error", "time"],
    &["diagnostic", "data", "env"],
    &["state", "metrics"],
    &["api"],
    &["journal"],
    &["checkpoint", "spec", "graph"],
    &["call", "workflow", "plan", "embed"],
    &["runtime"],
    &["engine"],
    &["testing"],
];
/// The last row that stages, connectors and expressions may import.
const PUBLIC_ROW: usize = 3;
/// What `crate::NAME` stands for where it is re-exported.
const RENAMED: &[(&str, &str)] = &[
    ("Error", "error"),
    ("Result", "error"),
    ("Kind", "error"),
    ("Retry", "error"),
    ("Engine", "engine"),
    ("rows", "testing"),
];

/// Words with the only places in which they may stand; a place that ends with `/` is a folder.
const FENCES: &[(&str, &str, &[&str])] = &[
    ("engine/src/", "async_channel", &["engine/src/runtime/channel.rs"]),
    ("engine/src/", "serde_saphyr", &["engine/src/spec/parse.rs"]),
    ("engine/src/", "tokio", &["engine/src/env/", "engine/src/runtime/"]),
    ("", "datafusion", &["expr/"]),
    ("engine/src/", "bourn_expr", &[]),
    ("engine/src/", "bourn_stages", &[]),
    ("engine/src/", "bourn_connectors", &[]),
    ("expr/src/", "bourn_stages", &[]),
    ("expr/src/", "bourn_connectors", &[]),
    ("stages/src/", "bourn_connectors", &[]),
    ("connectors/src/", "bourn_stages", &[]),
    ("", "unsafe", &[]),
];

const LINES_MAX: usize = 600;
const LINES_WITHOUT_REASON: usize = 400;

/// A file of the workspace.
struct Source {
    /// From the top of the repository.
    path: String,
    text: String,
}

impl Source {
    /// The code without comments and without the tests at its end.
    fn code(&self) -> String {
        let text = match self.text.find("#[cfg(test)]\nmod tests {") {
            _ if self.is_test() => "",
            Some(tests) => &self.text[..tests],
            None => &self.text,
        };
        without_comments(text)
    }

    /// Whether it holds nothing but tests.
    fn is_test(&self) -> bool {
        // `src/testing.rs` of stages and connectors is what their own tests share; that of the engine is a folder.
        let ends = ["/tests.rs", "/broken.rs", "/src/testing.rs"];
        self.path.contains("/tests/") || ends.iter().any(|end| self.path.ends_with(end))
    }

    /// The folder or file below `engine/src`.
    fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("engine/src/")?;
        Some(below.split('/').next()?.trim_end_matches(".rs"))
    }
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in the text as a word of its own.
fn names(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The first names behind each `prefix::`: `crate::{a::B, c}` names `a` and `c`.
fn imports(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&format!("{prefix}::")) {
        if code[..at].chars().next_back().is_some_and(|c| is_word(c) || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len() + 2..];
        if !rest.starts_with('{') {
            found.push(rest.chars().take_while(|c| is_word(*c)).collect());
            continue;
        }
        let (mut depth, mut name) = (0, String::new());
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => found.push(std::mem::take(&mut name)),
                c if depth == 1 => name.push(c),
                _ => {}
            }
            if depth == 0 {
                found.push(name);
                break;
            }
        }
    }
    let first = |name: String| name.trim().split("::").next().unwrap_or_default().trim().to_owned();
    found.into_iter().map(first).filter(|n| !n.is_empty() && *n != "self").collect()
}

fn row_of(module: &str) -> Option<usize> {
    let module = RENAMED.iter().find(|(name, _)| *name == module).map_or(module, |(_, module)| module);
    ROWS.iter().position(|row| row.contains(&module))
}

fn import_faults(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let code = source.code();
    if let Some(module) = source.module().filter(|m| *m != "lib") {
        let Some(row) = row_of(module) else {
            return vec![format!("{}: `{module}` stands in no row of the import table", source.path)];
        };
        for name in imports(&code, "crate").into_iter().filter(|name| name != module) {
            let renamed = RENAMED.iter().find(|(from, _)| *from == name).map_or(name.as_str(), |(_, to)| to);
            if renamed != module && row_of(&name).is_none_or(|other| other >= row) {
                faults.push(format!("{}: `{module}` (row {row}) may not import `{name}`", source.path));
            }
        }
    }
    if ["expr/src/", "http/src/", "redis/src/", "stages/src/", "connectors/src/"]
        .iter()
        .any(|krate| source.path.starts_with(krate))
    {
        for name in imports(&code, "bourn_engine") {
            if row_of(&name).is_none_or(|row| row > PUBLIC_ROW) {
                faults.push(format!("{}: only rows up to `api` may be imported here, not `{name}`", source.path));
            }
        }
    }
    faults
}

fn fence_faults(source: &Source) -> Vec<String> {
    let code = source.code();
    let outside = |(area, word, places): &&(&str, &str, &[&str])| {
        let inside = places.iter().any(|p| source.path == *p || p.ends_with('/') && source.path.starts_with(p));
        let named = names(&code, word) || *word == "datafusion" && code.contains("datafusion_");
        source.path.starts_with(area) && !inside && named
    };
    let mut faults: Vec<String> = FENCES
        .iter()
        .filter(outside)
        .map(|(_, word, _)| format!("{}: `{word}` is fenced off here", source.path))
        .collect();
    // A server answers while nobody reads: its connections are tasks, which it owns.
    let server = "connectors/src/http_server/listen.rs";
    // What measures stands outside.
    let measures = "benches/src/bin/";
    let spawns =
        ["engine/src/runtime/supervise.rs", "engine/src/env/", "engine/src/testing/", "cli/", server, measures];
    let spawned = code.matches(".spawn(").count() > code.matches("supervisor.spawn(").count();
    if spawned && source.path.contains("/src/") && !spawns.iter().any(|p| source.path.starts_with(p)) {
        faults.push(format!("{}: tasks are spawned by the supervisor alone", source.path));
    }
    faults
}

fn shape_faults(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.text.lines().count();
    let mut head = source.text.lines().take_while(|line| line.starts_with("//!"));
    if !source.text.starts_with("//! ") {
        faults.push(format!("{}: the first line says what the file is: `//! …`", source.path));
    }
    if lines > LINES_MAX || lines > LINES_WITHOUT_REASON && !head.any(|line| line.contains("because")) {
        faults.push(format!("{}: {lines} lines; split it, or say in the header why (`… because …`)", source.path));
    }
    let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let folders = source.path.split('/').chain([stem]);
    for name in ["util", "utils", "common", "helper", "helpers", "manager", "misc"] {
        if folders.clone().any(|folder| folder == name) {
            faults.push(format!("{}: `{name}` says nothing; name it for what it does", source.path));
        }
    }
    faults
}

fn test_faults(source: &Source) -> Vec<String> {
    let text = without_comments(&source.text);
    let banned = ["#[ignore", "#[should_panic", "thread::sleep"];
    let found = banned.iter().filter(|word| text.contains(**word));
    found
        .map(|word| format!("{}: no `{word}`: the clock is simulated, and a test runs or is not there", source.path))
        .collect()
}

fn faults(source: &Source) -> Vec<String> {
    [import_faults, fence_faults, shape_faults, test_faults].iter().flat_map(|check| check(source)).collect()
}

#[expect(clippy::disallowed_methods, reason = "this test reads the repository itself")]
fn collect(top: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(top, &path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
            sources.push(Source { path: name, text: fs::read_to_string(&path).expect("a listed file is readable") });
        }
    }
}

#[test]
fn the_repository_keeps_the_rules_of_the_house() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = Vec::new();
    for folder in
        ["engine", "expr", "http", "redis", "stages", "connectors", "cli", "benches", "examples", "fuzz", "structs"]
    {
        collect(top, &top.join(folder), &mut sources);
    }
    assert!(sources.len() > 50, "only {} files were found below {}", sources.len(), top.display());
    // This file names what it looks for.
    let found: Vec<String> = sources.iter().filter(|s| s.path != "engine/tests/tidy.rs").flat_map(faults).collect();
    assert!(found.is_empty(), "{} faults\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_rule_catches_who_breaks_it() {
    let broken = [
        ("engine/src/api/a.rs", "//! A.\nuse crate::runtime::job;", "may not import `runtime`"),
        ("engine/src/call/a.rs", "//! A.\nuse crate::{api::Call, plan::Plan};", "may not import `plan`"),
        ("engine/src/graph/a.rs", "//! A.\nfn f() -> crate::Engine {}", "may not import `Engine`"),
        ("engine/src/helping/a.rs", "//! A.\n", "stands in no row"),
        ("stages/src/a.rs", "//! A.\nuse bourn_engine::plan::Plan;", "not `plan`"),
        ("stages/src/a.rs", "//! A.\nuse bourn_connectors::file;", "`bourn_connectors` is fenced"),
        ("engine/src/runtime/a.rs", "//! A.\nuse async_channel::bounded;", "`async_channel` is fenced"),
        ("engine/src/plan/a.rs", "//! A.\nuse tokio::sync::Semaphore;", "`tokio` is fenced"),
        ("engine/src/spec/a.rs", "//! A.\nuse serde_saphyr::Spanned;", "`serde_saphyr` is fenced"),
        ("stages/src/a.rs", "//! A.\nuse datafusion_expr::Expr;", "`datafusion` is fenced"),
        ("cli/src/a.rs", "//! A.\nfn f() { unsafe { g() } }", "`unsafe` is fenced"),
        ("engine/src/runtime/a.rs", "//! A.\nfn f() { env.spawn(x); }", "by the supervisor alone"),
        ("engine/src/plan/a.rs", "// A.\n", "the first line"),
        ("engine/src/plan/util.rs", "//! A.\n", "`util` says nothing"),
        ("engine/src/plan/common/a.rs", "//! A.\n", "`common` says nothing"),
        ("engine/tests/a.rs", "//! A.\n#[ignore]\nfn f() {}", "no `#[ignore`"),
        ("engine/tests/a.rs", "//! A.\n#[should_panic]\nfn f() {}", "no `#[should_panic`"),
        ("engine/tests/a.rs", "//! A.\nfn f() { std::thread::sleep(d) }", "no `thread::sleep`"),
    ];
    for (path, text, expected) in broken {
        let found = faults(&Source { path: path.into(), text: text.into() });
        assert!(found.len() == 1 && found[0].contains(expected), "{path} {text:?}: {found:?}");
    }
    let long =
        |head: &str, lines| Source { path: "cli/src/a.rs".into(), text: format!("{head}\n{}", "\n".repeat(lines)) };
    assert_eq!(faults(&long("//! A.", 350)).len(), 0);
    assert_eq!(faults(&long("//! A.", 450)).len(), 1);
    assert_eq!(faults(&long("//! A: in one file, because it is one table.", 450)).len(), 0);
    assert_eq!(faults(&long("//! A: in one file, because it is one table.", 650)).len(), 1);
}

#[test]
fn what_the_rules_allow_is_not_reported() {
    let good = [
        ("engine/src/runtime/job.rs", "//! A.\nuse crate::plan::Plan;\nfn f() { supervisor.spawn(x) }"),
        ("engine/src/runtime/channel.rs", "//! A.\nuse async_channel::bounded;"),
        (
            "engine/src/api/a.rs",
            "//! A.\n// Not crate::runtime, never unsafe.\n#[cfg(test)]\nmod tests {\n use crate::testing;\n}",
        ),
        ("engine/src/api/tests.rs", "//! A.\nuse crate::testing::harness;"),
        ("connectors/src/a.rs", "//! A.\nuse bourn_engine::{Error, api::{Sink, Source}, data::records::Records};"),
        ("expr/src/a.rs", "//! A.\nuse datafusion_expr::Expr;"),
    ];
    for (path, text) in good {
        assert_eq!(faults(&Source { path: path.into(), text: text.into() }), Vec::<String>::new());
    }
}
