//! What Tab offers, asked for as the shells do.

use crate::support::{BOURN, Folder, ended};
use std::process::Command;

const SPEC: &str = "\
source: { memory: { rows: [ { n: 1 } ] } }
stages:
  - { id: by_size, route: { big: n > 2, small: n < 1 } }
  - { id: bigger, from: by_size.big, map: { n: n + 1 } }
sinks:
  out: { from: bigger, stdout: {} }
  rest: { from: [by_size, by_size.small], blackhole: {} }
";

/// What bash offers for this line, of which the last word is begun: by its script, and the function that it declares.
fn bash(folder: &Folder, line: &str) -> Vec<String> {
    let script = r#"
        source <("$BOURN" completions bash)
        read -ra COMP_WORDS <<<"$1"
        [[ $1 == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
        _clap_complete_bourn bourn "${COMP_WORDS[COMP_CWORD]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script, "bash", line]).current_dir(folder.path("")).env("BOURN", BOURN);
    let ended = ended(command.output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{line}");
    // Options can stand wherever another word is not begun.
    let is_option = |word: &str| word.starts_with("--") && line.ends_with(' ');
    ended.out.lines().filter(|word| !word.is_empty() && !is_option(word)).map(str::to_owned).collect()
}

fn folder() -> Folder {
    let folder = Folder::with(&[("a.yaml", SPEC), ("a.csv", "n\n"), ("broken.yaml", "source: {\n")]);
    std::fs::create_dir(folder.path("specs")).unwrap();
    folder
}

#[test]
fn kinds_verbs_and_modes_are_offered() {
    let folder = folder();
    assert_eq!(bash(&folder, "bourn list thr"), ["throttle"]);
    let kinds = bash(&folder, "bourn list ");
    for kind in ["file", "filter", "stdout"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind}: {kinds:?}");
    }
    assert_eq!(bash(&folder, "bourn val"), ["validate"]);
    assert_eq!(bash(&folder, "bourn plan a.yaml --mode pipe"), ["pipeline"]);
    assert_eq!(bash(&folder, "bourn schema --of "), ["specs", "tests", "results"]);
    assert!(bash(&folder, "bourn run a.yaml --wa").contains(&"--watch".to_owned()));
}

#[test]
fn the_places_of_the_spec_on_the_line_are_offered() {
    let folder = folder();
    let places = ["source", "by_size", "by_size.big", "by_size.small", "bigger", "out", "rest"];
    assert_eq!(bash(&folder, "bourn tap a.yaml "), places);
    assert_eq!(bash(&folder, "bourn tap --dry --mode pipeline a.yaml by_size."), ["by_size.big", "by_size.small"]);
    assert_eq!(bash(&folder, "bourn dlq replay a.yaml --stage bi"), ["bigger"]);
    // What has problems has no places to look at, and that is no trouble at the prompt.
    assert_eq!(bash(&folder, "bourn tap broken.yaml "), [""; 0]);
    assert_eq!(bash(&folder, "bourn tap nothing.yaml "), [""; 0]);
}

#[test]
fn specs_are_offered_and_the_folders_they_may_be_in() {
    let folder = folder();
    assert_eq!(bash(&folder, "bourn run "), ["a.yaml", "broken.yaml", "specs/", "-"]);
    assert_eq!(bash(&folder, "bourn run a."), ["a.yaml"]);
    assert!(bash(&folder, "bourn run a.yaml --inputs a.").contains(&"a.csv".to_owned()));
}

#[test]
fn each_shell_has_a_script_that_asks_this_binary() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Folder::with(&[]).bourn(&["completions", shell]).quietly();
        assert!(script.contains("BOURN_COMPLETE") && script.contains(BOURN), "{script}");
    }
}

#[test]
fn what_zsh_and_fish_show_beside_a_word_is_what_it_does() {
    let folder = folder();
    for (shell, index) in [("fish", None), ("zsh", Some("2"))] {
        let mut command = folder.command(&["--", "bourn", "list", "throt"]);
        command.env("BOURN_COMPLETE", shell).envs(index.map(|index| ("_CLAP_COMPLETE_INDEX", index)));
        let told = ended(command.output().unwrap()).quietly();
        assert!(told.starts_with("throttle") && told.contains("Lets no more rows through"), "{shell}: {told}");
    }
}
