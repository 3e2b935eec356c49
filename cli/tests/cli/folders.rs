//! `bourn test` on folders: every spec with cases below one.

use serde_json::Value;

use crate::support::Folder;

/// A spec whose only case expects this of the row 2.
fn spec(expected: &str) -> String {
    format!(
        "\
source: {{ stdin: {{}} }}
stages: [{{ id: doubled, map: {{ n: n * 2 }} }}]
sink: {{ stdout: {{}} }}
tests: [{{ name: two and two, given: [{{ n: 2 }}], expect: [{{ n: {expected} }}] }}]
"
    )
}

/// Specs with cases and without, cases beside a spec, and files that are something else.
fn folder() -> Folder {
    let without = spec("4").split("tests:").next().unwrap().to_owned();
    let beside = "tests: [{ name: beside, given: [{ n: 1 }], expect: [{ n: 2 }] }]\n";
    let folder = Folder::with(&[
        ("b.yaml", spec("4").as_str()),
        ("a.yml", &spec("4")),
        ("without.yaml", &without),
        ("other.yaml", "image: {{ .Values.tests }}\n"),
        ("data.json", "[{ \"tests\": 1 }]"),
    ]);
    for (name, text) in [
        (
            "deep/er/c.json",
            r#"{"steps": [{"id": "a", "set": {"value": 1}}], "tests": [{"name": "one", "expect": {"output": 1}}]}"#,
        ),
        ("deep/d.yaml", &without),
        ("deep/d.test.yaml", beside),
        ("target/built.yaml", "tests: nothing\n"),
        (".hidden/h.yaml", "tests: nothing\n"),
    ] {
        std::fs::create_dir_all(folder.path(name).parent().unwrap()).unwrap();
        std::fs::write(folder.path(name), text).unwrap();
    }
    folder
}

#[test]
fn every_spec_with_cases_below_a_folder_is_tested_in_the_order_of_the_names() {
    let folder = folder();
    let told = folder.bourn(&["test"]).quietly();
    insta::assert_snapshot!(told, @"
    a.yml
      ok   two and two
    b.yaml
      ok   two and two
    deep/d.yaml
      ok   beside
    deep/er/c.json
      ok   one
    4 cases in 4 specs: all passed
    ");
    assert_eq!(folder.bourn(&["test", "."]).quietly(), told);
    assert!(
        folder.bourn(&["test", "deep", "deep/d.test.yaml"]).quietly().ends_with("2 cases in 2 specs: all passed\n")
    );
    assert!(folder.bourn(&["test", "deep/er"]).quietly().ends_with("\n1 case: all passed\n"));
}

#[test]
fn the_sum_says_which_specs_have_cases_that_failed() {
    let folder = folder();
    std::fs::write(folder.path("b.yaml"), spec("5")).unwrap();
    let ended = folder.bourn(&["test"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""));
    assert!(
        ended.out.ends_with("      ok   one\nb.yaml: 1 of 1 failed\n4 cases in 4 specs: 1 failed\n".trim_start()),
        "{}",
        ended.out
    );
    let json: Value = serde_json::from_str(&folder.bourn(&["test", "-o", "json"]).out).unwrap();
    assert_eq!(json["specs"][1], serde_json::json!({ "spec": "b.yaml", "passed": 0, "failed": 1 }));
}

#[test]
fn a_spec_that_looks_as_if_it_had_cases_is_not_passed_over() {
    let folder = folder();
    let [broken, unknown] = ["deep/broken.yaml", "b.yaml"].map(|name| folder.path(name));
    std::fs::write(broken, "tests:\n  - name: [\n").unwrap();
    std::fs::write(unknown, spec("4").replace("expect", "expct")).unwrap();
    let told = folder.bourn(&["test"]).refused(2);
    assert!(told.contains("b.yaml:4:") && told.contains("deep/broken.yaml:"), "{told}");
    assert!(told.ends_with("problems in 2 files\n"), "{told}");
}

#[test]
fn nothing_to_test_is_no_success() {
    let folder = Folder::with(&[("without.yaml", spec("4").split("tests:").next().unwrap())]);
    let told = folder.bourn(&["test"]).refused(2);
    assert_eq!(told, "error: no cases: below . no spec has `tests:`, and none has a file NAME.test.yaml beside it\n");
    let folder = Folder::with(&[("late.test.yaml", "tests: []\n")]);
    let told = folder.bourn(&["test", "."]).refused(2);
    assert_eq!(told, "error: late.test.yaml: there is no spec beside these cases: late.yaml, late.yml or late.json\n");
}
