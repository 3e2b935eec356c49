//! Problems and errors as text: drawn for a terminal, one a line for a file, JSON for a program.

use std::fmt::Write;

use bourn_engine::Error;
use bourn_engine::diagnostic::{Diagnostic, Report};
use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::{Value, json};

use crate::args::Form;
use crate::failure::Failure;
use crate::screen::Screen;

/// What a failure says; empty for one that has nothing to say.
pub fn failure(failure: &Failure, screen: &Screen) -> String {
    match (failure, screen.form) {
        (Failure::Unread | Failure::Told(_), _) => String::new(),
        (Failure::Problems(problems), Form::Json) => problems_as_json(problems).to_string(),
        (Failure::Problems(problems), Form::Text) if screen.is_drawn => {
            drawn(problems, screen.width, GraphicalTheme::unicode())
        }
        (Failure::Problems(problems), Form::Text) => plain(problems),
        (Failure::Invalid(error) | Failure::Failed(error), Form::Json) => error_as_json(error).to_string(),
        (Failure::Invalid(error) | Failure::Failed(error), Form::Text) => error_as_text(error),
    }
}

/// `{"problems": [{file, line, column, message, …}]}`
pub fn problems_as_json(problems: &[Diagnostic]) -> Value {
    let one = |p: &Diagnostic| {
        let (line, column) = p.line_column();
        json!({
            "file": p.source.name(), "line": line, "column": column, "message": p.message, "label": p.label, "help": p.help,
        })
    };
    json!({ "problems": problems.iter().map(one).collect::<Vec<_>>() })
}

fn plain(problems: &[Diagnostic]) -> String {
    // What would stand under the marked place may be the only way out that is told.
    let line = |p: &Diagnostic| match (&p.help, &p.label) {
        (None, Some(label)) => format!("{p} ({label})"),
        _ => p.to_string(),
    };
    let lines: Vec<_> = problems.iter().map(line).collect();
    format!("{}\n{}", lines.join("\n"), count(problems))
}

fn drawn(problems: &[Diagnostic], width: usize, theme: GraphicalTheme) -> String {
    // Longer lines than this are hard to read, whatever the window allows.
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width.clamp(40, 160));
    let mut text = String::new();
    for problem in problems {
        if handler.render_report(&mut text, &Report(problem)).is_err() {
            // A place that can't be drawn is still told.
            let _ = writeln!(text, "{problem}");
        }
    }
    text + &count(problems)
}

fn count(problems: &[Diagnostic]) -> String {
    let mut files: Vec<&str> = problems.iter().map(|p| p.source.name()).collect();
    files.dedup();
    let total = if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
    match files[..] {
        [] => format!("spec: {total}"),
        [file] => format!("{file}: {total}"),
        _ => format!("{total} in {} files", files.len()),
    }
}

fn error_as_text(error: &Error) -> String {
    let mut text = format!("error: {error}");
    for cause in causes(error) {
        let _ = write!(text, "\n  caused by: {cause}");
    }
    text
}

fn error_as_json(error: &Error) -> Value {
    let place = error.place();
    json!({ "error": {
        "class": error.class(), "message": error.message(), "stage": place.stage, "input": place.input, "row": place.row,
        "field": place.field, "causes": causes(error),
    }})
}

/// The errors behind an error, as far as it does not repeat them itself.
pub fn causes(error: &Error) -> Vec<String> {
    let (mut causes, mut told) = (Vec::new(), error.message().to_owned());
    let mut cause = error.source().map(|s| s as &(dyn std::error::Error + 'static));
    while let Some(next) = cause {
        let text = next.to_string();
        if !told.contains(&text) {
            told.push_str(&text);
            causes.push(text);
        }
        cause = next.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use miette::NamedSource;

    use super::*;

    fn problem() -> Diagnostic {
        Diagnostic {
            message: "unknown key `depend_on`".into(),
            span: 8..17,
            label: Some("here".into()),
            help: Some("did you mean `depends_on`?".into()),
            source: Arc::new(NamedSource::new("bad.yaml", "id: one\ndepend_on: x\n".to_owned())),
        }
    }

    #[test]
    fn a_drawn_report_shows_the_line_and_the_way_out() {
        let text = drawn(&[problem()], 80, GraphicalTheme::unicode_nocolor());
        insta::assert_snapshot!(text, @"
          × unknown key `depend_on`
           ╭─[bad.yaml:2:1]
         1 │ id: one
         2 │ depend_on: x
           · ────┬────
           ·     ╰── here
           ╰────
          help: did you mean `depends_on`?
        bad.yaml: 1 problem
        ");
    }

    #[test]
    fn a_plain_report_is_one_line_a_problem() {
        insta::assert_snapshot!(plain(&[problem(), problem()]), @"
        bad.yaml:2:1 unknown key `depend_on` (did you mean `depends_on`?)
        bad.yaml:2:1 unknown key `depend_on` (did you mean `depends_on`?)
        bad.yaml: 2 problems
        ");
    }

    #[test]
    fn an_error_tells_its_causes_once() {
        let source = std::io::Error::other("the disk is full");
        let error = Error::validation("writing out.jsonl").with_source(source);
        assert_eq!(error_as_text(&error), "error: writing out.jsonl\n  caused by: the disk is full");
        let io = std::io::Error::other("the disk is full");
        assert_eq!(error_as_text(&Error::from(io).context("writing")), "error: writing: the disk is full");
    }
}
