//! What the command answers about itself and about specs.

use serde_json::Value;

use crate::support::Folder;

#[test]
fn every_kind_is_listed_with_what_it_does() {
    let out = Folder::with(&[]).bourn(&["list"]).quietly();
    for kind in ["filter", "map", "route", "model", "file", "stdout", "generate"] {
        let line = out.lines().find(|line| line.split_whitespace().next() == Some(kind));
        assert!(line.is_some_and(|line| line.split_whitespace().count() > 3), "{kind} in {out}");
    }
    let json: Value = serde_json::from_str(&Folder::with(&[]).bourn(&["list", "-o", "json"]).quietly()).unwrap();
    assert!(json.as_array().unwrap().iter().any(|k| k["kind"] == "filter" && k["role"] == "stage"));
}

#[test]
fn one_kind_is_shown_with_its_fields_and_an_example() {
    insta::assert_snapshot!(Folder::with(&[]).bourn(&["list", "throttle"]).quietly(), @"
    throttle (stage)

    Lets no more rows through than this: `throttle: { rate: 1000/s }`.

    Rows keep their order and wait; what comes before is held up, nothing is dropped. The rate holds for each lane. It is
    kept over ten milliseconds and longer; time in which no row came is not made up for.

       field  type  default
       rate   text  required  Rows in a length of time.

    Example

      source:
        generate: {}
      stages:
        - id: slowly
          throttle: { rate: 10/s }
      sink:
        stdout: {}
    ");
    for (word, leads) in [
        ("functions", "docs/functions.md has their functions"),
        ("csv", "(`file` speaks of it)"),
        ("FILE", "(did you mean `file`?)"),
        ("nonsense", "(`bourn list` shows all)"),
    ] {
        let told = Folder::with(&[]).bourn(&["list", word]).refused(2);
        assert!(told.contains(leads), "{told}");
    }
    insta::assert_snapshot!(Folder::with(&[]).bourn(&["list", "thrtle"]).refused(2), @"error: there is no stage, source or sink `thrtle` (did you mean `throttle`?)");
}

/// What stands in backticks and begins like this.
fn snippets<'a>(text: &'a str, begin: &str) -> Vec<&'a str> {
    text.split('`').skip(1).step_by(2).filter(|snippet| snippet.starts_with(begin)).collect()
}

#[test]
fn what_the_documentation_shows_of_a_kind_can_be_planned() {
    // Columns that are called as in the documentation.
    let source = "memory: { rows: [ { id: 1, a: 1, old: 1, delay: 0.5, origin: x, text: x, word: x, tag: x, name: x, card: x, email: x, notes: x, items: [ 1 ], words: [ x ], user: { name: x, phone: x } } ] }";
    let folder = Folder::with(&[]);
    let kinds: Value = serde_json::from_str(&folder.bourn(&["list", "-o", "json"]).quietly()).unwrap();
    let mut planned = Vec::new();
    for kind in kinds.as_array().unwrap() {
        let name = kind["kind"].as_str().unwrap();
        let one: Value = serde_json::from_str(&folder.bourn(&["list", name, "-o", "json"]).quietly()).unwrap();
        // A stage and a connector may share a name.
        let of_role = one.as_array().unwrap().iter().find(|k| k["role"] == kind["role"]);
        let schema = &of_role.unwrap()["schema"];
        let mut shown: Vec<String> =
            snippets(schema["description"].as_str().unwrap_or_default(), &format!("{name}: {{"))
                .into_iter()
                .map(|snippet| snippet.replace('\n', " "))
                .collect();
        for (field, about) in schema["properties"].as_object().into_iter().flatten() {
            let values = snippets(about["description"].as_str().unwrap_or_default(), "{ ");
            shown
                .extend(values.into_iter().map(|value| format!("{name}: {{ {field}: {} }}", value.replace('\n', " "))));
        }
        // Planning a source of objects asks its server, and no test asks anybody outside of this machine.
        for snippet in shown.into_iter().filter(|_| name != "object_store") {
            let spec = if kind["role"] == "stage" {
                let readers = if name == "route" { "{ from: shown.late, blackhole: {} }" } else { "{ blackhole: {} }" };
                format!("source: {{ {source} }}\nstages: [ {{ id: shown, {snippet} }} ]\nsink: {readers}\n")
            } else {
                format!("source: {{ {snippet} }}\nsink: {{ blackhole: {{}} }}\n")
            };
            std::fs::write(folder.path("a.yaml"), &spec).unwrap();
            let ended = folder.bourn(&["plan", "a.yaml"]);
            assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{spec}");
            planned.push(name.to_owned());
        }
    }
    for name in ["generate", "memory", "http", "map", "process", "route", "set", "throttle"] {
        assert!(planned.iter().any(|p| p == name), "{name}: {planned:?}");
    }
}

#[test]
fn the_schema_of_specs_knows_every_kind() {
    let schema: Value = serde_json::from_str(&Folder::with(&[]).bourn(&["schema"]).quietly()).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for key in ["stage.filter", "connector.file"] {
        assert!(schema["$defs"][key].is_object(), "{key}");
    }
}

#[test]
fn a_plan_is_text_json_or_a_drawing() {
    let spec = "name: numbers\nsource: { generate: { rows: 3 } }\nstages: [ { id: even, filter: n % 2 = 0 } ]\nsink: { stdout: {} }\n";
    let folder = Folder::with(&[("a.yaml", spec)]);
    insta::assert_snapshot!(folder.bourn(&["plan", "a.yaml", "--graph", "mermaid"]).quietly(), @r#"
    flowchart LR
      n0(["source<br/>generate"])
      n1["even<br/>filter"]
      n2[("sink<br/>stdout")]
      n0 --> n1
      n1 --> n2
    "#);
    let text = folder.bourn(&["plan", "a.yaml"]).quietly();
    assert!(
        text.starts_with("pipeline (the spec has `source`)") && text.contains("delivery\n  source -> sink: "),
        "{text}"
    );
    let json: Value = serde_json::from_str(&folder.bourn(&["plan", "a.yaml", "-o", "json"]).quietly()).unwrap();
    assert_eq!((&json["mode"], &json["nodes"][1]["id"]), (&"pipeline".into(), &"even".into()));
    assert_eq!(json["nodes"][1]["columns"][0]["type"], "bigint");
}

#[test]
fn planning_changes_nothing() {
    let folder =
        Folder::with(&[("a.yaml", "source: { generate: { rows: 3 } }\nsink: { file: { path: out/a.jsonl } }\n")]);
    folder.bourn(&["plan", "a.yaml"]).quietly();
    folder.bourn(&["validate", "a.yaml"]).quietly();
    assert!(!folder.path("out").exists());
}

#[test]
fn a_wrong_command_line_is_invalid() {
    let folder = Folder::with(&[]);
    for args in
        [&["rnu"][..], &["run"], &["run", "a.yaml", "--metrics", "here"], &["run", "a.yaml", "--drain-timeout", "soon"]]
    {
        assert_eq!(folder.bourn(args).code, Some(2), "{args:?}");
    }
    assert!(folder.bourn(&["--version"]).quietly().starts_with("bourn "));
}
