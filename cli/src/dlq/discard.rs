//! `bourn dlq discard`: letters that nobody wants any more.

use std::io::{self, BufRead as _, IsTerminal as _};

use bourn_engine::checkpoint::settled::Done;
use serde_json::json;

use super::args::Which;
use super::choose::{Among, Chosen, chosen};
use super::counted;
use super::office::Office;
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;

/// Notes those that are chosen as discarded, after a question.
///
/// # Errors
/// When none is chosen, they can't be read, the answer is no, or it can't be noted.
pub async fn discard(
    office: &Office<'_>,
    which: (&[String], &Which),
    (all, yes): (bool, bool),
    screen: &Screen,
) -> Result<Exit, Failure> {
    if which.0.is_empty() && which.1.is_any() && !all {
        return Err(Failure::invalid(
            "say which: ids, `--stage`, `--reason`, `--since`, `--until`, `--limit`, or `--all`",
        ));
    }
    let _lock = office.lock()?;
    let Chosen { letters, is_whole, .. } = chosen(office, which, Among::Open, screen).await?;
    if !letters.is_empty() && !yes && !is_meant(letters.len(), screen)? {
        screen.say("nothing was discarded");
        return Ok(Exit::Failed);
    }
    let ids: Vec<String> = letters.into_iter().map(|letter| letter.id).collect();
    let count = ids.len();
    if count > 0 {
        office.settled.add(Done::Discarded, ids).map_err(Failure::Failed)?;
    }
    answer::print(&match screen.form {
        Form::Json => json!({ "discarded": count }).to_string(),
        Form::Text => format!("discarded {}", counted(count, "letter")),
    })?;
    Ok(if is_whole { Exit::Ok } else { Exit::Failed })
}

/// Asks the person at the terminal.
fn is_meant(count: usize, screen: &Screen) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::invalid("nobody is at the terminal who could be asked: say `--yes`"));
    }
    screen.say(&format!("discard {}? They can't be replayed any more. [y/N]", counted(count, "letter")));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|e| Failure::Failed(e.into()))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
