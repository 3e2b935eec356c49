//! A job that was cut off, whose files lie elsewhere by now, or are called in another way.

use std::fs::{create_dir, read_to_string, rename, write};

use crate::support::{Ended, Folder};

const HELD: &str = "\
name: held
steps:
  - { id: before, process: { command: [sh, -c, 'echo ${input.n} >> calls; echo ${input.n}'] } }
  - { id: held, wait: { signal: go }, needs: before }
";

/// A folder with a job of two runs that wait in its folder `a`.
fn cut_off() -> Folder {
    let folder = Folder::with(&[]);
    create_dir(folder.path("a")).unwrap();
    for (name, text) in [("w.yaml", HELD), ("in.jsonl", "{\"n\": 1}\n{\"n\": 2}\n")] {
        write(folder.path(&format!("a/{name}")), text).unwrap();
    }
    assert_eq!(run(&folder, "a", &["--inputs", "in.jsonl"]).code, Some(0));
    assert_eq!(calls(&folder, "a"), ["1", "2"]);
    folder
}

fn run(folder: &Folder, within: &str, more: &[&str]) -> Ended {
    let args = [&["run", "w.yaml", "-o", "json"], more].concat();
    crate::support::ended(folder.command(&args).current_dir(folder.path(within)).output().unwrap())
}

fn calls(folder: &Folder, within: &str) -> Vec<String> {
    let all = read_to_string(folder.path(&format!("{within}/calls"))).unwrap();
    let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
    all.sort_unstable();
    all
}

fn ids(ended: &Ended) -> Vec<String> {
    let documents = ended.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut ids: Vec<String> = documents.map(|document| document["run_id"].to_string()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_job_goes_on_where_its_folder_was_moved_to() {
    let folder = cut_off();
    let before = ids(&run(&folder, "a", &["--inputs", "in.jsonl"]));
    rename(folder.path("a"), folder.path("b")).unwrap();
    let inputs = folder.path("b/in.jsonl");
    for inputs in ["in.jsonl", "./in.jsonl", "../b/in.jsonl", inputs.to_str().unwrap()] {
        let again = run(&folder, "b", &["--inputs", inputs]);
        assert_eq!(again.code, Some(0), "{}", again.err);
        assert!(again.err.contains("goes on with job 1: 0 of its runs have ended, 2 were under way"), "{}", again.err);
        assert_eq!(ids(&again), before, "what they are called does not change with the path of the inputs");
    }
    std::os::unix::fs::symlink("in.jsonl", folder.path("b/today.jsonl")).unwrap();
    assert_eq!(ids(&run(&folder, "b", &["--inputs", "today.jsonl"])), before);
    // Nor does it change what is done: effects are not repeated, and the other file is not the same inputs.
    assert_eq!(calls(&folder, "b"), ["1", "2"]);
    write(folder.path("b/other.jsonl"), "{\"n\": 3}\n").unwrap();
    let other = run(&folder, "b", &["--inputs", "other.jsonl"]);
    assert_eq!((other.code, other.err.as_str()), (Some(0), "1 run waits: `bourn inbox` says for what\n"));
}

#[test]
fn a_job_whose_inputs_are_gone_is_told_of() {
    let folder = cut_off();
    rename(folder.path("a/in.jsonl"), folder.path("a/later.jsonl")).unwrap();
    let anew = run(&folder, "a", &["--inputs", "later.jsonl"]);
    let old = folder.path("a/in.jsonl").canonicalize().unwrap_or_else(|_| folder.path("a/in.jsonl"));
    let told = format!("job 1 of this spec was cut off, and its inputs {} are not there any more", old.display());
    assert!(anew.err.contains(&told), "{}", anew.err);
}
