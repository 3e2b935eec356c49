//! `bourn dlq show`: whole letters.

use bourn_engine::checkpoint::settled::{Done, Known};
use bourn_engine::data::letter::Letter;
use serde_json::{Value, json};

use super::args::Which;
use super::choose::{Among, Chosen, chosen};
use super::office::Office;
use super::pretty::pretty;
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;

/// Shows those that are chosen.
///
/// # Errors
/// When they can't be read, or an id is none.
pub async fn show(
    office: &Office<'_>,
    which: (&[String], &Which),
    all: bool,
    screen: &Screen,
) -> Result<Exit, Failure> {
    // Whoever names a letter wants to see it, whatever has become of it.
    let among = if all || !which.0.is_empty() { Among::All } else { Among::Open };
    let Chosen { letters, is_whole, known } = chosen(office, which, among, screen).await?;
    let text = match screen.form {
        Form::Json => letters.iter().map(|letter| document(letter, &known)).collect::<Value>().to_string(),
        Form::Text if letters.is_empty() => "no dead letters".to_owned(),
        Form::Text => letters.iter().map(|letter| text(letter, &known)).collect::<Vec<_>>().join("\n\n"),
    };
    answer::print(&office.shown(&text))?;
    Ok(if is_whole { Exit::Ok } else { Exit::Failed })
}

/// What has become of a letter.
fn state(letter: &Letter, known: &Known) -> &'static str {
    match known.letters.get(&letter.id) {
        None => "open",
        Some((Done::Begun, _)) => "open, a replay was cut off",
        Some((Done::Replayed, _)) => "replayed",
        Some((Done::Discarded, _)) => "discarded",
    }
}

fn document(letter: &Letter, known: &Known) -> Value {
    let Letter { id, stage, reason, kind, time, split, position, row } = letter;
    // A row that is no JSON is shown as the text it is.
    let row = serde_json::from_str(row).unwrap_or_else(|_| Value::from(row.as_str()));
    json!({
        "id": id, "state": state(letter, known), "stage": stage, "kind": kind, "reason": reason, "time": time.to_string(),
        "split": split, "position": position, "row": row,
    })
}

fn text(letter: &Letter, known: &Known) -> String {
    let Letter { id, stage, reason, kind, time, split, position, row } = letter;
    let state = match state(letter, known) {
        "open" => String::new(),
        state => format!(" ({state})"),
    };
    let mut lines = vec![format!("{id}{state}"), format!("  stage     {stage}"), format!("  time      {time}")];
    lines.push(format!("  kind      {kind}"));
    lines.push(format!("  reason    {}", reason.replace('\n', "\n            ")));
    lines.extend(split.as_ref().map(|split| format!("  split     {split}")));
    lines.extend(position.as_ref().map(|position| format!("  position  {position}")));
    lines.push(format!("  row       {}", pretty(row).replace('\n', "\n            ")));
    lines.join("\n")
}
