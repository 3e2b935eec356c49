//! `bourn dlq`: rejected rows are looked at, run through the spec again, or let go.

pub mod args;

mod choose;
mod discard;
mod enter;
mod feed;
mod list;
mod office;
mod pretty;
mod replay;
mod show;
mod told;

use bourn_engine::env::Env;
use std::path::Path;

use crate::args::Spec;
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::run;
use crate::runs::args::JOURNAL;
use crate::screen::Screen;
use args::{Dlq, Replay};
use office::Office;

/// Does what the command line says.
///
/// # Errors
/// When the spec has problems or no dead letters, they can't be read, or the replay failed.
pub fn run(what: &Dlq, screen: &Screen) -> Result<Exit, Failure> {
    let runtime = prepare::runtime()?;
    let result = runtime.block_on(async {
        let engine = prepare::engine(Path::new(JOURNAL), Env::system());
        // The secrets of programs too: the letters may be behind one.
        let loaded = prepare::load_to_run(spec(what), &engine).await?;
        screen.hide(loaded.document.secrets());
        let office = Office::open(engine, &loaded, &spec(what).path)?;
        let done = match what {
            Dlq::List { which, all, .. } => list::list(&office, which, *all, screen).await,
            Dlq::Show { one, which, all, .. } => show::show(&office, (&one.ids, which), *all, screen).await,
            Dlq::Replay(args) => replay::replay(&office, args, screen).await,
            Dlq::Discard { one, which, all, yes, .. } => {
                discard::discard(&office, (&one.ids, which), (*all, *yes), screen).await
            }
        };
        done.map_err(|failure| run::concealed(failure, &loaded))
    });
    runtime.shutdown_background();
    result
}

fn spec(what: &Dlq) -> &Spec {
    match what {
        Dlq::List { spec, .. } | Dlq::Show { spec, .. } | Dlq::Discard { spec, .. } => spec,
        Dlq::Replay(replay) => {
            let Replay { spec, .. } = &**replay;
            spec
        }
    }
}

/// `1 letter`, `2 letters`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
