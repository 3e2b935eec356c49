//! What must hold of a block, by its language.
//!
//! | | |
//! |---|---|
//! | any, below `<!-- file: PATH -->` | it is the file |
//! | `yaml` | a spec that `bourn validate` accepts; one without a source is added to the quickstart |
//! | any, below `<!-- configuration of NAME -->` | somebody else's, which must be YAML all the same |
//! | `sh` | commands that end well |
//! | `console` | lines behind `$ ` are commands, the others what they say; `…` stands for any text |
//! | `rust` | it stands in a file that is compiled |
//! | `json` | JSON, or JSON lines |
//! | `text` | nothing: drawings, tables |
//!
//! `BOURN_WRITE=1 cargo test -p bourn-cli --all-features --test book` puts the files and the outputs into the pages.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::blocks::{self, Block, top};
use crate::surroundings::Surroundings;

/// What CI runs by itself, beside this.
const RUN_ELSEWHERE: &[&str] = &["./test", "fuzz/run", "cargo test", "git ", "BOURN_WRITE=1"];

/// The pages that a test of the command writes, from specs that another one loads.
const GENERATED: &str = "docs/reference/";

fn is_writing() -> bool {
    std::env::var("BOURN_WRITE").is_ok_and(|value| value == "1")
}

#[test]
fn every_block_of_the_book_does_what_it_says() {
    let mut faults = Vec::new();
    let mut pages: Vec<String> = blocks::pages();
    pages.retain(|page| !page.starts_with(GENERATED));
    for page in pages {
        let around = Surroundings::of(&page);
        let count = blocks::of(&page, &fs::read_to_string(top().join(&page)).unwrap()).len();
        for n in 0..count {
            // Read anew, since writing one block moves the others.
            let block = &blocks::of(&page, &fs::read_to_string(top().join(&page)).unwrap())[n];
            if let Err(fault) = check(block, &around) {
                faults.push(format!("{} ({}): {fault}", block.place(), block.language));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n\n"));
}

fn check(block: &Block, around: &Surroundings) -> Result<(), String> {
    if let Some(file) = block.file() {
        return same_as_file(block, file);
    }
    if block.other().is_some() {
        let value = serde_saphyr::from_str::<serde_json::Value>(&block.text).map_err(|e| e.to_string())?;
        return if value.is_object() { Ok(()) } else { Err("it is no map".into()) };
    }
    match block.language.as_str() {
        "yaml" => spec(block, around),
        "sh" => commands(block, around),
        "console" => session(block, around),
        "rust" => compiled(block),
        "json" => json(block),
        "text" => Ok(()),
        other => Err(format!("nothing checks a block of `{other}`; the languages are in cli/tests/book/code.rs")),
    }
}

fn same_as_file(block: &Block, file: &str) -> Result<(), String> {
    let text = fs::read_to_string(top().join(file)).map_err(|e| format!("{file}: {e}"))?;
    let text = format!("{}\n", text.trim_end());
    if text == block.text {
        return Ok(());
    }
    if is_writing() {
        blocks::write(block, &text);
        return Ok(());
    }
    Err(format!("it is not {file}; BOURN_WRITE=1 puts the file here"))
}

fn spec(block: &Block, around: &Surroundings) -> Result<(), String> {
    let keys: Vec<&str> = block.text.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key).collect();
    let is_whole = ["source", "sources", "steps"].iter().any(|key| keys.contains(key));
    let text = if is_whole { block.text.clone() } else { added_to_the_quickstart(&block.text) };
    fs::write(around.path().join("block.yaml"), text).unwrap();
    let (ended_well, said) = around.run("bourn validate block.yaml");
    if ended_well { Ok(()) } else { Err(said) }
}

/// The quickstart with these keys in place of its own.
fn added_to_the_quickstart(text: &str) -> String {
    let given: Vec<&str> = text.lines().filter(|l| !l.starts_with(' ')).filter_map(|l| l.split(':').next()).collect();
    let quickstart = fs::read_to_string(top().join("examples/quickstart.yaml")).unwrap();
    let mut kept = String::new();
    let mut is_kept = true;
    for line in quickstart.lines() {
        if !line.starts_with([' ', '-']) {
            is_kept = !given.contains(&line.split(':').next().unwrap_or_default());
        }
        if is_kept {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept + text
}

fn commands(block: &Block, around: &Surroundings) -> Result<(), String> {
    let lines = block.text.lines().filter(|line| {
        let line = line.trim();
        !line.starts_with("alias ") && !RUN_ELSEWHERE.iter().any(|known| line.starts_with(known))
    });
    let built =
        |line: &str| line.replace("cargo run --release ", "cargo run ").replace("cargo run --bin bourn --", "bourn");
    let script: Vec<String> = lines.map(built).collect();
    let (ended_well, said) = around.run(&script.join("\n"));
    if ended_well { Ok(()) } else { Err(said) }
}

fn session(block: &Block, around: &Surroundings) -> Result<(), String> {
    let mut new = String::new();
    let mut faults = Vec::new();
    for part in format!("\n{}", block.text).split("\n$ ").skip(1) {
        let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
        let (_, said) = around.run(command);
        let (said, expected) = (said.trim_end(), expected.trim_end());
        let fits = fits(expected, said);
        let shown = if fits { expected } else { said };
        let _ = write!(new, "$ {command}\n{shown}{}", if shown.is_empty() { "" } else { "\n" });
        if !fits {
            faults.push(format!("`{command}` says\n{said}\nand the page\n{expected}"));
        }
    }
    if new.is_empty() {
        return Err("no line begins with `$ `".into());
    }
    if !faults.is_empty() && is_writing() {
        blocks::write(block, &new);
        return Ok(());
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Whether what was said is what was expected, in which `…` stands for any text of a line.
fn fits(expected: &str, said: &str) -> bool {
    let (expected, said): (Vec<_>, Vec<_>) = (expected.lines().collect(), said.lines().collect());
    expected.len() == said.len() && expected.iter().zip(said).all(|(e, s)| line_fits(e.trim_end(), s.trim_end()))
}

fn line_fits(expected: &str, said: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = said.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn compiled(block: &Block) -> Result<(), String> {
    let wanted: Vec<&str> = block.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut folders = ["examples", "cli/tests", "engine/src", "engine/tests"].map(|f| top().join(f)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "rs") && holds(&path, &wanted) {
                return Ok(());
            }
        }
    }
    Err("these lines do not stand in this order in any file that is compiled".into())
}

/// Whether a file has these lines in this order; others may stand between them.
fn holds(path: &Path, wanted: &[&str]) -> bool {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|l| l.trim_start_matches("///").trim_start_matches("//!").trim());
    wanted.iter().all(|wanted| lines.any(|line| line == *wanted))
}

fn json(block: &Block) -> Result<(), String> {
    let mut documents = serde_json::Deserializer::from_str(&block.text).into_iter::<serde_json::Value>();
    documents.try_for_each(|document| document.map(drop).map_err(|e| e.to_string()))
}

#[test]
fn a_block_that_is_wrong_is_found() {
    let around = Surroundings::of("README.md");
    let block = |language: &str, note: Option<&str>, text: &str| Block {
        page: "a.md".into(),
        line: 1,
        language: language.into(),
        note: note.map(str::to_owned),
        text: text.into(),
    };
    let wrong = [
        block("yaml", None, "source:\n  generate: { rows: 1 }\nsink:\n  nowhere: {}\n"),
        block("yaml", None, "on_error: sometimes\n"),
        block("yaml", Some("configuration of Vector"), "a: [\n"),
        block("sh", None, "bourn run nothing.yaml\n"),
        block("console", None, "$ echo a\nb\n"),
        block("console", None, "bourn list\n"),
        block("rust", None, "let nothing = stands_here();\n"),
        block("json", None, "{\n"),
        block("toml", None, "a = 1\n"),
        block("yaml", Some("file: examples/quickstart.yaml"), "name: another\n"),
    ];
    for block in wrong {
        assert!(is_writing() || check(&block, &around).is_err(), "{block:?}");
    }
    let right = [
        block("yaml", None, "source:\n  generate: { rows: 1 }\nsink:\n  blackhole: {}\n"),
        block("yaml", None, "on_error: drop\n"),
        block("console", None, "$ echo a; echo took 12 ms in all\na\ntook … ms in …\n"),
        block("json", None, "{\"a\":1}\n{\"a\":2}\n"),
    ];
    for block in right {
        assert_eq!(check(&block, &around), Ok(()), "{block:?}");
    }
}
