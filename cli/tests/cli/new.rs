//! `bourn new`: what it makes works as it is.

use std::path::Path;
use std::process::Command;

use crate::support::{Folder, ended};

fn clone() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string()
}

#[test]
fn a_new_pipeline_is_valid_passes_its_case_and_runs() {
    let folder = Folder::with(&[]);
    let told = folder.bourn(&["new", "pipeline", "specs/orders"]).quietly();
    assert!(told.starts_with("specs/orders.yaml runs as it is"), "{told}");
    folder.bourn(&["validate", "specs/orders.yaml"]).quietly();
    let tested = folder.bourn(&["test", "specs/orders.yaml"]);
    assert_eq!(tested.code, Some(0), "{}{}", tested.out, tested.err);
    assert!(folder.read("specs/orders.yaml").contains("name: orders\n"));
    let out = folder.bourn(&["run", "specs/orders.yaml"]).quietly();
    assert_eq!(out, "{\"id\":1,\"name\":\"Ann\",\"cents\":1250}\n");
}

/// Built with the crates that `examples/outside` is built with, so that nothing is downloaded here.
#[test]
fn a_new_stage_and_a_new_connector_pass_their_tests() {
    let folder = Folder::with(&[]);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
    for (what, name) in [("stage", "shout-it"), ("connector", "count_up")] {
        folder.bourn(&["new", what, name, "--bourn", &clone()]).quietly();
        let lock = std::fs::read_to_string(Path::new(&clone()).join("examples/outside/Cargo.lock")).unwrap();
        let (crate_name, place) = (format!("name = \"{name}\""), folder.path(name));
        std::fs::write(place.join("Cargo.lock"), lock.replace("name = \"outside\"", &crate_name)).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--offline", "--target-dir"]).arg(&target).current_dir(&place);
        let ended = ended(cargo.env_remove("CARGO_TARGET_DIR").output().unwrap());
        assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
        assert!(ended.out.contains("keeps_its_promises ... ok"), "{}", ended.out);
        let mut format = Command::new(env!("CARGO"));
        assert_eq!(
            super::support::ended(format.args(["fmt", "--check"]).current_dir(&place).output().unwrap()).code,
            Some(0)
        );
    }
}

#[test]
fn nothing_that_is_there_is_changed() {
    let folder = Folder::with(&[("a.yaml", "mine"), ("b", "mine")]);
    insta::assert_snapshot!(folder.bourn(&["new", "pipeline", "a"]).refused(2), @"error: a.yaml is there already; nothing was changed");
    insta::assert_snapshot!(folder.bourn(&["new", "stage", "b", "--bourn", &clone()]).refused(2), @"error: b is there already; nothing was changed");
    assert_eq!((folder.read("a.yaml"), folder.read("b")), ("mine".into(), "mine".into()));
    insta::assert_snapshot!(folder.bourn(&["new", "stage", "Bad Name"]).refused(2), @"error: `Bad Name` can't be the name of a stage: small letters, digits, `_` and `-`, a letter first");
    insta::assert_snapshot!(folder.bourn(&["new", "stage", "good"]).refused(2), @"error: a crate is built against a clone of Bourn: say where it is, `--bourn PATH`");
}
