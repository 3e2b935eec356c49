//! The JSON Schema that `bourn schema` prints, as an editor uses it: it accepts what runs and refuses slips.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::Folder;

fn validator(args: &[&str]) -> jsonschema::Validator {
    let schema = serde_json::from_str(&Folder::with(&[]).bourn(args).quietly()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// The specs in the folder of the examples and in those of the cookbook, or the cases beside them.
fn examples(folder: &Path, are_cases: bool, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_text = path.extension().is_some_and(|e| e == "yaml") || name == "chain.json";
        let is_meant = is_text && name.contains(".test.") == are_cases;
        if path.is_dir() && !["data", "outside", "target", "out"].contains(&name) {
            examples(&path, are_cases, found);
        } else if is_meant {
            found.push(path);
        }
    }
}

/// A spec as the tree that an editor sees.
fn tree(path: &Path) -> Value {
    // As in YAML 1.2, where `n` is a text.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(&std::fs::read_to_string(path).unwrap(), options).unwrap()
}

#[test]
fn the_schema_accepts_every_example() {
    let validator = validator(&["schema"]);
    let mut specs = Vec::new();
    examples(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), false, &mut specs);
    assert!(specs.len() >= 12, "{specs:?}");
    for path in specs {
        let faults: Vec<_> = validator.iter_errors(&tree(&path)).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", path.display());
    }
}

#[test]
fn the_schema_refuses_slips() {
    let good = json!({
        "source": { "file": { "path": "a.jsonl", "schema": { "id": "bigint" } } },
        "stages": [{ "id": "kept", "filter": "id > 1" }, { "id": "few", "throttle": { "rate": "10/s" } }],
        "sink": { "stdout": {} },
        "tests": [{ "name": "one", "given": [{ "id": 2 }], "expect": { "sink": { "rows": [], "unordered": true } } }],
    });
    let validator = validator(&["schema"]);
    assert!(validator.is_valid(&good));
    let slips = [
        ("/stages/0/filtr", json!("id > 1")),
        ("/stages/0/filter", json!({ "condition": "id > 1" })),
        ("/stages/1/throttle/rte", json!("10/s")),
        ("/stages/1/throttle/rate", json!(["10/s"])),
        ("/stages", json!({ "filter": "id > 1" })),
        ("/source/file/pth", json!("a")),
        ("/source/file/path", json!(5)),
        ("/source/filee", json!({})),
        ("/sinks", json!({ "out": { "nothing_like_this": {} } })),
        ("/on_error", json!("dead_leter")),
        ("/tests/0/givn", json!([])),
        ("/tests/0/name", json!(1)),
        ("/tests/0/script", json!([{ "advance": "1s", "wait": "2s" }])),
        ("/tests/0/fail", json!({ "sink": "twice" })),
        ("/tests/0/dead_letters", json!([{ "reson": "x" }])),
        ("/tests/0/mocks", json!({ "kept": { "anser": 1 } })),
        ("/nme", json!("x")),
    ];
    for (place, value) in slips {
        let (parent, key) = place.rsplit_once('/').unwrap();
        let mut bad = good.clone();
        bad.pointer_mut(parent).unwrap()[key] = value;
        assert!(!validator.is_valid(&bad), "{place}");
    }
}

#[test]
fn the_schema_of_cases_accepts_every_example() {
    let validator = validator(&["schema", "--of", "tests"]);
    let mut files = Vec::new();
    examples(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), true, &mut files);
    assert!(files.len() >= 7, "{files:?}");
    for path in files {
        let faults: Vec<_> = validator.iter_errors(&tree(&path)).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", path.display());
    }
    // The list alone is such a file, too.
    assert!(validator.is_valid(&json!([{ "name": "one", "given": [], "expect": [] }])));
}

#[test]
fn the_schema_of_cases_refuses_slips() {
    let validator = validator(&["schema", "--of", "tests"]);
    let case =
        json!({ "name": "one", "given": [{ "id": 2 }], "expect": { "sink": { "rows": [], "unordered": true } } });
    assert!(validator.is_valid(&json!({ "tests": [case] })));
    for slip in [
        json!({}),
        json!({ "test": [case] }),
        json!({ "tests": case }),
        json!({ "tests": [case], "source": { "stdin": {} } }),
        json!({ "tests": [{ "given": [] }] }),
    ] {
        assert!(!validator.is_valid(&slip), "{slip}");
    }
    for (key, value) in [
        ("givn", json!([])),
        ("name", json!(1)),
        ("clock", json!(5)),
        ("script", json!([{ "advance": "1s", "wait": "2s" }])),
        ("expect", json!({ "sink": { "rows": [], "unorderd": true } })),
        ("fail", json!({ "sink": "twice" })),
        ("mocks", json!({ "kept": { "anser": 1 } })),
    ] {
        let mut bad = case.clone();
        bad[key] = value;
        assert!(!validator.is_valid(&json!({ "tests": [bad] })), "{key}");
    }
}
