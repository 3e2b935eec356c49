//! How cases went: lines for people, with differences in colour, and JSON for programs.

use std::fmt::Write;

use console::Style;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::Verdict;
use super::compare::Fault;

/// The most lines of a difference that are shown.
const LINES_MAX: usize = 60;

/// What is written to stdout.
pub struct Report {
    is_coloured: bool,
}

impl Report {
    /// With colours or without.
    pub fn new(is_coloured: bool) -> Self {
        Self { is_coloured }
    }

    /// The cases for people; those of one spec stand together.
    pub fn text(&self, verdicts: &[Verdict]) -> String {
        let (mut text, mut spec) = (String::new(), None);
        for verdict in verdicts {
            if spec.replace(&verdict.spec) != Some(&verdict.spec) {
                let _ = writeln!(text, "{}", verdict.spec);
            }
            let mark =
                if verdict.faults.is_empty() { self.green().apply_to("ok  ") } else { self.red().apply_to("FAIL") };
            let _ = writeln!(text, "  {mark} {}", verdict.name);
            for fault in &verdict.faults {
                let (line, column) = verdict.place(fault);
                let _ = writeln!(text, "       {}:{line}:{column} {}", verdict.file(), fault.message);
                self.difference(fault, &mut text);
            }
        }
        self.sum(verdicts, &mut text);
        text
    }

    /// The last line; above it the specs with cases that failed, when there are others beside them.
    fn sum(&self, verdicts: &[Verdict], text: &mut String) {
        let specs = by_spec(verdicts);
        let failed: usize = specs.iter().map(|spec| spec.failed).sum();
        let mut total = if verdicts.len() == 1 { "1 case".to_owned() } else { format!("{} cases", verdicts.len()) };
        if specs.len() > 1 {
            let _ = write!(total, " in {} specs", specs.len());
            for Sum { spec, cases, failed } in specs.iter().filter(|spec| spec.failed > 0) {
                let _ = writeln!(text, "{spec}: {}", self.red().apply_to(format!("{failed} of {cases} failed")));
            }
        }
        let end = match failed {
            0 => self.green().apply_to("all passed".to_owned()),
            n => self.red().apply_to(format!("{n} failed")),
        };
        let _ = writeln!(text, "{total}: {end}");
    }

    /// What was expected with a `-`, what came with a `+`, and what is the same around it.
    fn difference(&self, fault: &Fault, text: &mut String) {
        let Some((expected, found)) = &fault.rows else { return };
        let lines = |all: &[String]| all.iter().map(|line| line.clone() + "\n").collect::<String>();
        let (expected, found) = (lines(expected), lines(found));
        let _ = writeln!(text, "       {} expected, {} found", self.red().apply_to("-"), self.green().apply_to("+"));
        let diff = TextDiff::from_lines(&expected, &found);
        let mut shown = 0;
        for (i, group) in diff.grouped_ops(2).iter().enumerate() {
            if i > 0 {
                text.push_str("         …\n");
            }
            for change in group.iter().flat_map(|op| diff.iter_inline_changes(op)) {
                shown += 1;
                if shown > LINES_MAX {
                    continue;
                }
                let (sign, style) = match change.tag() {
                    ChangeTag::Delete => ("-", self.red()),
                    ChangeTag::Insert => ("+", self.green()),
                    ChangeTag::Equal => (" ", Style::new().force_styling(self.is_coloured).dim()),
                };
                let _ = write!(text, "       {} ", style.apply_to(sign));
                for (is_emphasized, part) in change.iter_strings_lossy() {
                    let style = if is_emphasized { style.clone().underlined().bold() } else { style.clone() };
                    let _ = write!(text, "{}", style.apply_to(part.trim_end_matches('\n')));
                }
                text.push('\n');
            }
        }
        if shown > LINES_MAX {
            let _ = writeln!(text, "       … and {} more lines", shown - LINES_MAX);
        }
    }

    fn red(&self) -> Style {
        Style::new().force_styling(self.is_coloured).red()
    }

    fn green(&self) -> Style {
        Style::new().force_styling(self.is_coloured).green()
    }
}

/// The cases of a spec.
struct Sum<'a> {
    spec: &'a str,
    cases: usize,
    failed: usize,
}

/// Those of one spec stand together.
fn by_spec(verdicts: &[Verdict]) -> Vec<Sum<'_>> {
    let sum = |all: &[Verdict]| all.iter().filter(|v| !v.faults.is_empty()).count();
    let same = verdicts.chunk_by(|a, b| a.spec == b.spec);
    same.map(|all| Sum { spec: &all[0].spec, cases: all.len(), failed: sum(all) }).collect()
}

/// `{"cases": [{spec, name, file, line, passed, faults}], "specs": [{spec, passed, failed}], "passed": N, "failed": N}`
pub fn json(verdicts: &[Verdict]) -> Value {
    let case = |v: &Verdict| {
        let fault = |f: &Fault| {
            let (line, column) = v.place(f);
            let (expected, found) = f.rows.as_ref().map_or((None, None), |(e, f)| (Some(e), Some(f)));
            json!({ "line": line, "column": column, "message": f.message, "expected": expected, "found": found })
        };
        json!({
            "spec": v.spec, "name": v.name, "file": v.file(), "passed": v.faults.is_empty(),
            "faults": v.faults.iter().map(fault).collect::<Vec<_>>(),
        })
    };
    let specs = by_spec(verdicts);
    let failed: usize = specs.iter().map(|spec| spec.failed).sum();
    let spec = |s: &Sum<'_>| json!({ "spec": s.spec, "passed": s.cases - s.failed, "failed": s.failed });
    json!({
        "cases": verdicts.iter().map(case).collect::<Vec<_>>(), "specs": specs.iter().map(spec).collect::<Vec<_>>(),
        "passed": verdicts.len() - failed, "failed": failed,
    })
}
