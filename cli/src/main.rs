//! `bourn`, the command: reads a spec, plans it, runs it, and tells how it went.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod explain;
mod failure;
mod given;
mod list;
mod logs;
mod metrics_server;
mod new;
mod prepare;
mod report;
mod run;
mod screen;
mod signals;
mod tap;
mod test;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Args, Verb};
use failure::{Exit, Failure};
use screen::Screen;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::new(&args);
    logs::start(&screen);
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
        Verb::Run(run) => return run::run(run, screen),
        Verb::Test(test) => return test::run(test, screen),
        Verb::Tap(tap) => return tap::run(tap, screen),
        Verb::Validate(spec) => explain::validate(spec, args.output)?,
        Verb::Plan(plan) => answer::print(&explain::plan(plan, args.output)?)?,
        Verb::List { kind: None } => answer::print(&list::all(&prepare::registry(), args.output, answer::width()))?,
        Verb::List { kind: Some(kind) } => {
            answer::print(&list::one(&prepare::registry(), kind, args.output, answer::width())?)?;
        }
        Verb::New { what } => new::new(what)?,
        Verb::Schema => answer::print(&format!("{:#}", bourn_engine::spec::schema(&prepare::registry())))?,
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "bourn", &mut script);
            answer::print(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(Exit::Ok)
}
