//! `bourn test`: runs the cases of specs in a world of their own, and shows what differs.

pub mod args;
mod case;
mod compare;
mod find;
mod folder;
mod given;
pub mod memory;
mod report;

use bourn_engine::Engine;
use bourn_engine::diagnostic::Problem;
use bourn_engine::spec::Document;
use futures::executor::block_on;

use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::report::diagnostics;
use crate::screen::Screen;
use crate::watch::Watch;
use args::Test;
use compare::Fault;
use find::Suite;
use report::Report;

/// How a case went.
pub struct Verdict {
    /// The spec.
    pub spec: String,
    /// The case.
    pub name: String,
    /// Where the case stands.
    document: Document,
    /// What is wrong; nothing when it passed.
    pub faults: Vec<Fault>,
}

impl Verdict {
    /// The file in which the case stands.
    fn file(&self) -> &str {
        self.document.name()
    }

    /// Line and column of what a fault is about.
    fn place(&self, fault: &Fault) -> (usize, usize) {
        self.document.diagnostic(&Problem { path: fault.path.clone(), ..Problem::new("") }).line_column()
    }
}

/// Runs the cases that the command line means, once or after each change.
///
/// # Errors
/// Every problem of specs and cases, and when there is no case to run; those are told only where changes are waited for.
pub fn run(args: &Test, screen: &Screen) -> Result<Exit, Failure> {
    if !args.watch {
        return once(args, screen);
    }
    find::watched(args)?;
    screen.tell(&format!("watching {}; Ctrl-C ends", args.paths.join(", ")));
    loop {
        let mut watch = Watch::begin(|| find::watched(args))?;
        match once(args, screen) {
            Ok(_) => {}
            Err(Failure::Unread) => return Ok(Exit::Ok),
            Err(failure) => screen.say(&diagnostics::failure(&failure, screen)),
        }
        let name = block_on(watch.changed());
        screen.tell(&format!("{name} has changed: starting again"));
    }
}

fn once(args: &Test, screen: &Screen) -> Result<Exit, Failure> {
    // Stages may want a runtime around them when they are made; nothing of a case runs on it.
    let runtime = prepare::runtime()?;
    let _inside = runtime.enter();
    let engine = Engine::new(prepare::registry());
    let suites = find::suites(args, &engine)?;
    let is_meant = |name: &str| args.filter.as_deref().is_none_or(|part| name.contains(part));
    let (mut verdicts, mut problems) = (Vec::new(), Vec::new());
    for Suite { loaded, cases } in &suites {
        for (document, case) in cases.iter().filter(|(_, case)| is_meant(&case.name)) {
            let bench = case::Bench { loaded, cases: document, registry: engine.registry() };
            match case::run(&bench, case) {
                Ok(faults) => verdicts.push(Verdict {
                    spec: loaded.document.name().to_owned(),
                    name: case.name.clone(),
                    document: document.clone(),
                    faults: faults.into_iter().map(|f| f.concealed(loaded.document.secrets())).collect(),
                }),
                Err(all) => problems.extend(all),
            }
        }
    }
    // What a spec is at fault of is told once, and not for each of its cases.
    problems.dedup_by(|a, b| a.span == b.span && a.message == b.message && a.source.name() == b.source.name());
    if !problems.is_empty() {
        return Err(Failure::Problems(problems));
    }
    if verdicts.is_empty() {
        return Err(none(args, &suites));
    }
    answer::print(&match screen.form {
        Form::Json => report::json(&verdicts).to_string(),
        Form::Text => Report::new(screen.colours_answers()).text(&verdicts),
    })?;
    Ok(if verdicts.iter().all(|v| v.faults.is_empty()) { Exit::Ok } else { Exit::Failed })
}

/// That nothing was run, which must not look like success.
fn none(args: &Test, suites: &[Suite]) -> Failure {
    let names: Vec<_> = suites.iter().flat_map(|s| &s.cases).map(|(_, case)| format!("`{}`", case.name)).collect();
    Failure::invalid(match &args.filter {
        Some(part) if !names.is_empty() => {
            format!("no case has {part:?} in its name; there are: {}", names.join(", "))
        }
        _ => match args.paths.first().map_or("NAME.yaml", String::as_str) {
            folder if find::is_folder(folder) => {
                format!("no cases: below {folder} no spec has `tests:`, and none has a file NAME.test.yaml beside it")
            }
            spec => format!(
                "no cases: write them below `tests:` in {spec}, or into a file {} beside it",
                find::beside_name(spec)
            ),
        },
    })
}
