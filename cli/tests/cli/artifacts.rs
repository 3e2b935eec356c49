//! Files that steps leave, by reference.

use serde_json::json;

use crate::support::{Folder, json_of};

/// Of `hi`.
const HI: &str = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";

const SPEC: &str = "\
name: files
steps:
  - id: each
    for_each: { in: '${input.names}', as: name }
    process: { command: [sh, -c, 'mkdir -p out/folder && printf hi > out/$1.txt', sh, '${name}'] }
    writes: 'out/*'
  - id: within
    needs: each
    workflow:
      spec:
        steps:
          - { id: makes, process: [sh, -c, 'printf hi > inner.bin; test -p pipe || mkfifo pipe'], writes: [inner.bin, pipe, gone.txt] }
  - { id: told, set: '${each.artifacts[0].path} has ${each.artifacts[0].bytes} bytes: ${each.artifacts[0].sha256}' }
";

#[test]
fn files_that_steps_say_they_write_are_told_with_their_hashes() {
    let folder = Folder::with(&[("files.yaml", SPEC)]);
    let args = ["run", "files.yaml", "--id", "one", "--input", r#"{"names": ["a", "b"]}"#, "-o", "json"];
    let document = json_of(&folder.bourn(&args).quietly());
    let file = |step: &str, path: &str| json!({ "step": step, "path": path, "sha256": HI, "bytes": 2 });
    let all = [file("each", "out/a.txt"), file("each", "out/b.txt"), file("within", "inner.bin")];
    assert_eq!(document["state_artifacts"], json!(all), "no folder, no pipe, and nothing that is not there");
    assert_eq!(document["final_output"], format!("out/a.txt has 2 bytes: {HI}"));
    // They stand for what was there then.
    std::fs::write(folder.path("out/a.txt"), "other").unwrap();
    let later = json_of(&folder.bourn(&["runs", "result", "one", "-o", "json"]).quietly());
    assert_eq!(later["state_artifacts"], json!(all));
}

#[test]
fn a_step_that_failed_has_left_nothing() {
    let spec =
        "steps: [ { id: makes, process: [sh, -c, 'printf hi > a; exit 1'], writes: a, retry: { max_attempts: 1 } } ]";
    let folder = Folder::with(&[("failed.yaml", spec)]);
    let document = json_of(&folder.bourn(&["run", "failed.yaml", "-o", "json"]).out);
    assert_eq!((document["status"].clone(), document["state_artifacts"].clone()), (json!("FAILED"), json!([])));
}

#[test]
fn runs_that_write_the_same_file_at_once_leave_it_whole() {
    let spec = "steps:\n  - { id: a, set: '${input.n}' }\noutput_format: { file: out/all.json, format: map }\n";
    let inputs =
        (0..300).map(|n: u32| format!("{{\"n\": \"{}\"}}\n", n.to_string().repeat(50))).collect::<Vec<_>>().concat();
    let folder = Folder::with(&[("w.yaml", spec), ("in.jsonl", &inputs)]);
    std::fs::create_dir(folder.path("out")).unwrap();
    let ended = folder.bourn(&["run", "w.yaml", "--inputs", "in.jsonl"]);
    assert_eq!((ended.code, ended.out.lines().count()), (Some(0), 300), "{}", ended.err);
    let whole: serde_json::Value = serde_json::from_str(&folder.read("out/all.json")).unwrap();
    assert!(whole["a"].as_str().unwrap().len() >= 50);
    let left: Vec<_> = std::fs::read_dir(folder.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["all.json"]);
}
