//! `bourn`, the command: reads a spec, plans it, runs it, and tells how it went.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod checkpoints;
mod commands;
mod complete;
mod copied;
mod db;
mod dlq;
mod explain;
mod failure;
mod given;
mod list;
mod logs;
mod memory;
mod metrics_server;
mod mock_llm;
mod models;
mod monitoring;
mod new;
mod prepare;
mod report;
mod run;
mod runs;
mod screen;
mod signals;
mod tap;
mod test;
mod torture;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Files, Verb};
use failure::{Exit, Failure};
use screen::Screen;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    complete::answer_shell();
    let args = Args::parse();
    let screen = Screen::new(&args);
    logs::start(&screen, matches!(args.verb, Verb::Test(_)));
    let exit = dispatch(&args, &screen).unwrap_or_else(|failure| {
        let text = report::diagnostics::failure(&failure, &screen);
        if !text.is_empty() {
            screen.say(&text);
        }
        failure.exit()
    });
    ExitCode::from(exit as u8)
}

fn dispatch(args: &Args, screen: &Screen) -> Result<Exit, Failure> {
    match &args.verb {
        Verb::Run { run, watch: false } => return run::run(run, screen),
        Verb::Run { run, watch: true } => return run::watched::run(run, screen),
        Verb::Test(test) => return test::run(test, screen),
        Verb::Tap(tap) => return tap::run(tap, screen),
        Verb::Validate(spec) => explain::validate(spec, args.output.form())?,
        Verb::Torture(torture) => return torture::run(torture, screen),
        Verb::Checkpoints { what } => return checkpoints::run(what, screen),
        Verb::Dlq { what } => return dlq::run(what, screen),
        Verb::Runs { what } => return runs::run(what, screen),
        Verb::Replay(replay) => return runs::replay::bundle(replay, screen),
        Verb::Db { what } => return db::run(what, screen),
        Verb::Memory { what } => return memory::run(what, screen),
        Verb::Inbox(inbox) => return runs::signal::inbox(inbox, screen),
        Verb::Approve(approve) => return runs::signal::approve(approve, screen),
        Verb::Signal(signal) => return runs::signal::signal(signal, screen),
        Verb::Plan(plan) => answer::print(&explain::plan(plan, args.output.form())?)?,
        Verb::List { kind: None } => {
            answer::print(&list::all(&prepare::registry(), args.output.form(), answer::width()))?;
        }
        Verb::List { kind: Some(kind) } => {
            answer::print(&list::one(&prepare::registry(), kind, args.output.form(), answer::width())?)?;
        }
        Verb::New { what } => new::new(what)?,
        Verb::Schema { of } => answer::print(&format!(
            "{:#}",
            match of {
                Files::Specs => bourn_engine::spec::schema(&prepare::registry()),
                Files::Tests => bourn_engine::spec::cases_schema(),
                Files::Results => bourn_engine::workflow::result::schema(),
            }
        ))?,
        Verb::Commands { routing } => {
            answer::print(&commands::list(&prepare::registry(), routing.as_deref(), args.output.form())?)?;
        }
        Verb::Insights(insights) => return runs::insights::insights(insights, screen),
        Verb::Models => answer::print(&models::list(args.output.form(), answer::width()))?,
        Verb::MockLlm(args) => return mock_llm::run(args),
        Verb::Completions { shell } => answer::print(&complete::script(*shell)?)?,
    }
    Ok(Exit::Ok)
}
