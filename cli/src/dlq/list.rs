//! `bourn dlq list`: how many letters each stage, kind and reason has.

use std::collections::BTreeMap;

use bourn_engine::time::Timestamp;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::args::Which;
use super::choose::is_meant;
use super::office::Office;
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;
use bourn_engine::checkpoint::settled::Done;

/// What stands for what differs.
const DIFFERS: &str = "…";
/// How much of a reason stands in a table, in characters.
const REASON: usize = 96;

/// Letters that are alike.
struct Group {
    stage: String,
    kind: String,
    reason: String,
    open: u64,
    replayed: u64,
    discarded: u64,
    first: Timestamp,
    last: Timestamp,
}

/// Lists them, those of which there are most first.
///
/// # Errors
/// When they can't be read.
pub async fn list(office: &Office<'_>, which: &Which, all: bool, screen: &Screen) -> Result<Exit, Failure> {
    let (known, now) = (office.known()?, office.engine.env().wall());
    let mut groups: BTreeMap<[String; 3], Group> = BTreeMap::new();
    let is_whole = office
        .read(screen, |letter| {
            let is_settled = known.is_settled(&letter.id);
            if (is_settled && !all) || !is_meant(which, &letter, now) {
                return;
            }
            let key = [letter.stage.clone(), letter.kind.clone(), alike(&letter.reason)];
            let group = groups.entry(key).or_insert_with(|| Group {
                stage: letter.stage,
                kind: letter.kind,
                reason: letter.reason.clone(),
                open: 0,
                replayed: 0,
                discarded: 0,
                first: letter.time,
                last: letter.time,
            });
            if group.reason != letter.reason {
                group.reason = alike(&letter.reason);
            }
            match known.letters.get(&letter.id) {
                Some((Done::Replayed, _)) => group.replayed += 1,
                Some((Done::Discarded, _)) => group.discarded += 1,
                Some((Done::Begun, _)) | None => group.open += 1,
            }
            group.first = group.first.min(letter.time);
            group.last = group.last.max(letter.time);
        })
        .await?;
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.open + group.replayed + group.discarded));
    groups.truncate(which.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
    let text = match screen.form {
        Form::Json => json(office, &groups).to_string(),
        Form::Text if groups.is_empty() => "no dead letters".to_owned(),
        Form::Text => text(office, &groups, all),
    };
    answer::print(&office.shown(&text))?;
    Ok(if is_whole { Exit::Ok } else { Exit::Failed })
}

fn json(office: &Office<'_>, groups: &[Group]) -> Value {
    let one = |group: &Group| {
        json!({
            "stage": group.stage, "kind": group.kind, "reason": group.reason, "letters": group.open,
            "replayed": group.replayed, "discarded": group.discarded,
            "first": group.first.to_string(), "last": group.last.to_string(),
            "in_spec": office.graph.node(&group.stage).is_some(),
        })
    };
    groups.iter().map(one).collect()
}

fn text(office: &Office<'_>, groups: &[Group], all: bool) -> String {
    let mut table = Table::new();
    let mut header = vec!["stage", "kind", "letters"];
    if all {
        header.extend(["replayed", "discarded"]);
    }
    header.extend(["first", "last", "reason"]);
    table.load_style(presets::NOTHING).set_header(header);
    let right = |count: u64| Cell::new(count).set_alignment(CellAlignment::Right);
    for group in groups {
        let is_there = office.graph.node(&group.stage).is_some();
        let stage = if is_there { group.stage.clone() } else { format!("{} (gone)", group.stage) };
        let mut cells = vec![Cell::new(stage), Cell::new(&group.kind), right(group.open)];
        if all {
            cells.extend([right(group.replayed), right(group.discarded)]);
        }
        cells.extend([
            Cell::new(seconds(group.first)),
            Cell::new(seconds(group.last)),
            Cell::new(short(&group.reason)),
        ]);
        table.add_row(cells);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
    lines.join("\n")
}

/// A reason without what is of its row alone: the path of a URL, and a value that does not fit.
fn alike(reason: &str) -> String {
    let words: Vec<String> = reason.split(' ').map(without_path).collect();
    let text = words.join(" ");
    let Some(end) = text.find("` does not fit ") else { return text };
    match text[..end].rfind(": `") {
        Some(start) => format!("{}{DIFFERS}{}", &text[..start + 3], &text[end..]),
        None => text,
    }
}

/// A URL, or one whose beginning is said by a variable, without its path; any other word as it is.
fn without_path(word: &str) -> String {
    let host = match word.find("://") {
        Some(at) => at + 3,
        None if word.starts_with("${") => word.find('}').unwrap_or_default(),
        None => return word.to_owned(),
    };
    let colon = if word.ends_with(':') { ":" } else { "" };
    match word[host..].find('/') {
        Some(at) => format!("{}/{DIFFERS}{colon}", &word[..host + at]),
        None => word.to_owned(),
    }
}

/// The time without what is below a second.
fn seconds(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.').map_or(text.clone(), |(whole, _)| format!("{whole}Z"))
}

/// One line of a reason, cut where it is long.
fn short(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    match line.char_indices().nth(REASON) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_alike_that_differ_by_their_row_alone() {
        for (reason, expected) in [
            ("GET ${env.API}/customers/c1: 404 Not Found: gone", "GET ${env.API}/…: 404 Not Found: gone"),
            ("after 4 attempts: GET http://h:1/a/b?c: no answer", "after 4 attempts: GET http://h:1/…: no answer"),
            ("field `n`: `\"many\"` does not fit double", "field `n`: `…` does not fit double"),
            ("has 3 fields, and the header has 6", "has 3 fields, and the header has 6"),
            ("read a/b: torn", "read a/b: torn"),
        ] {
            assert_eq!(alike(reason), expected);
        }
    }
}
