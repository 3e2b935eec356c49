//! `bourn runs diagnose -o`, `bourn replay` and `bourn runs replay`: a run in a file, decided again where nothing else of it is.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::{Value, json};

use crate::mock_llm::Served;
use crate::support::{Ended, Folder, ended};

/// Asks a program, which leaves a trace, in every way in which steps are asked; the rest is decided.
const SPEC: &str = "\
name: parcels
input: { schema: { type: object, required: [weight] } }
steps:
  - { id: asked, process: { command: [sh, -c, 'echo ran >> trace; echo ${input.weight}'] } }
  - { id: heavy, if: '${.input.weight > 5}', command: set, args: { weight: '${asked.results}', zone: '${env.ZONE}' } }
  - { id: route, switch: [{ when: '${.input.weight > 20}', then: truck }, { then: [van, label] }] }
  - { id: truck, process: { command: [sh, -c, 'echo ran >> trace; echo truck'] } }
  - { id: van, process: { command: [sh, -c, 'echo ran >> trace; exit 3'] }, retry: { max_attempts: 1 }, default: on foot }
  - { id: label, workflow: { spec: label.yaml, input: { of: '${asked.results}' } } }
  - id: each
    for_each: { in: '${.input.parts // []}', as: part }
    command: /query
    args: 'what is in ${part}'
  - { id: told, needs: [van, truck, label, each], command: set, args: '${.each.results | length}' }
";
const LABEL: &str = "\
name: label
steps:
  - { id: text, process: { command: [sh, -c, 'echo ran >> trace; echo label of ${input.of}'] } }
  - { id: upper, command: set, args: '${.text.results | ascii_upcase}' }
output_format: map
";

fn folder() -> Folder {
    Folder::with(&[("parcels.yaml", SPEC), ("label.yaml", LABEL)])
}

fn bourn(folder: &Folder, args: &[&str], variables: &[(&str, &str)]) -> Ended {
    ended(folder.command(args).envs(variables.iter().copied()).output().unwrap())
}

/// The files of a bundle by name, in their order.
fn unpacked(folder: &Folder, name: &str) -> Vec<(String, String)> {
    let bytes = zstd::decode_all(std::fs::File::open(folder.path(name)).unwrap()).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let file = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let (mut entry, mut text) = (entry.unwrap(), String::new());
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    };
    archive.entries().unwrap().map(file).collect()
}

#[test]
fn a_bundle_is_decided_again_on_another_machine_and_nobody_is_asked() {
    let (here, there) = (folder(), Folder::with(&[]));
    let zone = [("ZONE", "north-7")];
    let input = r#"{"weight": 7, "parts": ["a", "b"]}"#;
    assert_eq!(bourn(&here, &["run", "parcels.yaml", "--mock", "--id", "p", "--input", input], &zone).code, Some(0));
    assert_eq!(here.read("trace").lines().count(), 3);
    let told = bourn(&here, &["runs", "diagnose", "p", "-o", "b.tar.zst"], &zone).quietly();
    let same = "same decisions: 12 steps and 3 decisions compared";
    assert!(told.contains("`bourn replay b.tar.zst` says") && told.contains(same), "{told}");
    let files = unpacked(&here, "b.tar.zst");
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "README.txt",
            "bundle.json",
            "run.json",
            "diagnosis.json",
            "document.json",
            "history.jsonl",
            "decisions.json",
            "metrics.json",
            "spec/specs.json",
            "spec/spec.yaml",
            "spec/included-1.yaml",
            "plan.txt",
            "plan.json",
            "environment.json"
        ]
    );
    let of = |name: &str| &files.iter().find(|(known, _)| known == name).unwrap().1;
    let environment: Value = serde_json::from_str(of("environment.json")).unwrap();
    assert_eq!(environment["variables"], json!([{ "name": "ZONE", "is_set": true }]));
    assert!(files.iter().all(|(_, text)| !text.contains("north-7")), "{files:#?}");
    let metrics: Value = serde_json::from_str(of("metrics.json")).unwrap();
    assert_eq!(metrics["records"]["each[1]"]["attempts"], 1);
    // The same again is the same bytes.
    bourn(&here, &["runs", "diagnose", "p", "-o", "c.tar.zst"], &zone).quietly();
    let bytes = |name: &str| std::fs::read(here.path(name)).unwrap();
    assert_eq!(bytes("b.tar.zst"), bytes("c.tar.zst"));
    // There is neither spec nor journal nor variable elsewhere.
    std::fs::copy(here.path("b.tar.zst"), there.path("b.tar.zst")).unwrap();
    assert_eq!(there.bourn(&["replay", "b.tar.zst"]).quietly(), format!("{same}\n"));
    let verdict: Value = serde_json::from_str(&there.bourn(&["replay", "b.tar.zst", "-o", "json"]).quietly()).unwrap();
    assert_eq!((&verdict["same"], &verdict["run_id"], &verdict["steps"]), (&json!(true), &json!("p"), &json!(12)));
    assert!(!there.path("trace").exists() && !there.path(".bourn").exists());
    assert_eq!(here.read("trace").lines().count(), 3);
    // The journal says the same.
    assert_eq!(bourn(&here, &["runs", "replay", "p"], &zone).quietly(), format!("{same}\n"));
    assert_eq!(here.read("trace").lines().count(), 3);
}

#[tokio::test]
async fn a_replay_asks_no_service() {
    let server = Served::with("rules: []", &[]);
    let address = server.address.clone();
    let variables = [("OPENAI_BASE_URL", format!("{address}/v1")), ("OPENAI_API_KEY", "any-key".to_owned())];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let spec = format!(
        "steps:\n  - {{ id: asked, model: {{ prompt: '${{input.q}}', model: gpt-5 }} }}\n  - {{ id: seen, http: {{ url: '{address}/v1/models' }}, default: none, needs: asked }}\n"
    );
    let folder = Folder::with(&[("s.yaml", &spec)]);
    assert_eq!(
        bourn(&folder, &["run", "s.yaml", "--id", "s", "--input", "{\"q\": \"why\"}"], &variables).code,
        Some(0)
    );
    bourn(&folder, &["runs", "diagnose", "s", "-o", "s.tar.zst"], &variables).quietly();
    let before = server.stats().await;
    assert_eq!(before["answered"], 1);
    // The service and the key are there, and nobody asks them.
    let live = bourn(&folder, &["runs", "replay", "s"], &variables).quietly();
    let bundle = bourn(&folder, &["replay", "s.tar.zst"], &variables).quietly();
    assert!(live.starts_with("same decisions: 2 steps") && live == bundle, "{live}{bundle}");
    let asks = spec.clone() + "  - { id: more, model: { prompt: more, model: gpt-5 } }\n";
    std::fs::write(folder.path("more.yaml"), asks).unwrap();
    let more = bourn(&folder, &["replay", "s.tar.zst", "--spec", "more.yaml"], &variables).quietly();
    assert!(more.ends_with("  not recorded: more\n"), "{more}");
    assert_eq!(server.stats().await, before);
}

#[test]
fn a_changed_spec_is_held_against_what_is_recorded() {
    let (folder, zone) = (folder(), [("ZONE", "north-7")]);
    assert_eq!(
        bourn(&folder, &["run", "parcels.yaml", "--mock", "--id", "p", "--input", "{\"weight\": 7}"], &zone).code,
        Some(0)
    );
    bourn(&folder, &["runs", "diagnose", "p", "-o", "b.tar.zst"], &zone).quietly();
    let traces = folder.read("trace").lines().count();
    let changed = SPEC.replace(".input.weight > 20", ".input.weight > 6");
    std::fs::write(folder.path("changed.yaml"), &changed).unwrap();
    for args in
        [&["runs", "replay", "p", "--spec", "changed.yaml"][..], &["replay", "b.tar.zst", "--spec", "changed.yaml"]]
    {
        let told = bourn(&folder, args, &zone);
        assert_eq!((told.code, told.err.as_str()), (Some(5), ""), "{}", told.out);
        let wanted = "\
other decisions, first at `route`; before it 2 steps and 1 decision compared
  recorded: COMPLETED, results: [\"van\",\"label\"]
  replayed: COMPLETED, results: [\"truck\"]
  not recorded: truck
";
        assert_eq!(told.out, wanted);
    }
    let more = SPEC.to_owned() + "  - { id: thanks, process: { command: [touch, thanked] }, needs: told }\n";
    std::fs::write(folder.path("more.yaml"), more).unwrap();
    let told = bourn(&folder, &["runs", "replay", "p", "--spec", "more.yaml"], &zone).quietly();
    assert!(told.starts_with("same decisions, as far as they are recorded: 10 steps"), "{told}");
    assert!(told.ends_with("  not recorded: thanks\n") && !folder.path("thanked").exists(), "{told}");
    std::fs::write(folder.path("wrong.yaml"), SPEC.replace("switch:", "swich:")).unwrap();
    assert!(bourn(&folder, &["runs", "replay", "p", "--spec", "wrong.yaml"], &zone).refused(2).contains("swich"));
    assert_eq!(folder.read("trace").lines().count(), traces);
}

#[test]
fn what_is_no_bundle_is_told() {
    let folder = Folder::with(&[("a.tar.zst", "nothing"), ("b.yaml", "steps: [{ id: a, command: set, args: 1 }]")]);
    assert!(
        folder
            .bourn(&["replay", "a.tar.zst"])
            .refused(2)
            .contains("a.tar.zst is no bundle of `bourn runs diagnose RUN -o")
    );
    assert!(folder.bourn(&["replay", "no.tar.zst"]).refused(2).contains("no.tar.zst"));
    folder.bourn(&["run", "b.yaml", "--id", "a"]).quietly();
    assert!(
        folder.bourn(&["runs", "diagnose", "a", "-o", "a.zip"]).refused(2).contains("a file that ends with `.tar.zst`")
    );
    assert!(folder.bourn(&["runs", "diagnose", "a", "--log", "x"]).refused(2).contains("logs go into a bundle"));
    // A bundle of another form.
    folder.bourn(&["runs", "diagnose", "a", "-o", "a.tar.zst"]).quietly();
    let mut packed = tar::Builder::new(zstd::Encoder::new(Vec::new(), 3).unwrap());
    for (name, text) in unpacked(&folder, "a.tar.zst") {
        let text = text.replace("bourn.bundle/v1", "bourn.bundle/v9");
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        packed.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    std::fs::write(folder.path("later.tar.zst"), packed.into_inner().unwrap().finish().unwrap()).unwrap();
    assert!(folder.bourn(&["replay", "later.tar.zst"]).refused(2).contains("of the form `bourn.bundle/v9`"));
}

/// Signs that encodings write differently.
const CANARY: &str = "c4nary/\"sec+ret";

/// Canaries wherever one can be: a variable, secrets of each kind, headers, a URL, an argument, what a service answers.
const CANARIES: &str = r#"
name: canaries
secrets: { T: { env: T_OF_MINE }, F: { file: secret.txt }, P: { command: [printf, c4nary-printed] } }
# the old one: c4nary-written
steps:
  - id: echo
    process:
      command: [sh, -c, 'printf "%s " "$0" "$1" "$2" "$A" "$SOME_API_KEY"; printf "%s" "$0" | base64', '${env.C}', '${secret.T}', '${secret.F} ${secret.P}']
      env: { A: c4nary-given }
  - id: post
    http:
      url: 'http://me:c4nary-user@127.0.0.1:1/?token=c4nary-query'
      headers: { Authorization: 'Bearer c4nary-written', X-Mine: c4nary-mine, X-More: 'a ${secret.T}' }
      query: { key: '${env.C}' }
    retry: { max_attempts: 1 }
    default: '${secret.T} c4nary-written'
  - { id: kept, command: set, args: { '${env.C}': 'of ${env.C}', read: '${echo.results}', post: '${post.error}' } }
"#;

#[test]
fn no_secret_is_in_a_bundle_and_it_can_still_be_decided() {
    let variables = [("C", CANARY), ("T_OF_MINE", "c4nary-of-mine"), ("SOME_API_KEY", "c4nary-some-key")];
    let folder = Folder::with(&[("c.yaml", CANARIES), ("secret.txt", "c4nary-in-a-file\n")]);
    let log = format!("asked {CANARY} with c4nary-of-mine, c4nary-printed and c4nary-written\n");
    std::fs::write(folder.path("run.log"), log).unwrap();
    let input = json!({ "c": CANARY, "list": [CANARY, "c4nary-mine"] }).to_string();
    let ran =
        bourn(&folder, &["run", "c.yaml", "--id", "c", "--input", &input, "--label", "by=c4nary-of-mine"], &variables);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("c4nary"), "the run has them: {}", ran.out);
    let told = bourn(&folder, &["runs", "diagnose", "c", "-o", "c.tar.zst", "--log", "run.log"], &variables).quietly();
    assert!(told.contains("same decisions: 3 steps and 1 decision compared"), "{told}");
    let files: BTreeMap<_, _> = unpacked(&folder, "c.tar.zst").into_iter().collect();
    let base64 = "YzRuYXJ5LyJzZWMrcmV0";
    for (name, text) in &files {
        for canary in ["c4nary", "canary/", base64, "c4nary%2F", "63346e617279"] {
            assert!(!text.contains(canary), "{name} has `{canary}`: {text}");
        }
    }
    assert!(files["logs/1-run.log"].contains("asked <env.C> with <secret.T>"), "{}", files["logs/1-run.log"]);
    assert!(files["history.jsonl"].contains("<secret.F>") && files["history.jsonl"].contains("<redacted."));
    let there = Folder::with(&[]);
    std::fs::copy(folder.path("c.tar.zst"), there.path("c.tar.zst")).unwrap();
    assert_eq!(there.bourn(&["replay", "c.tar.zst"]).quietly(), "same decisions: 3 steps and 1 decision compared\n");
    // What differs is shown without it, too.
    std::fs::write(folder.path("other.yaml"), CANARIES.replace("'of ${env.C}'", "'not of ${env.C}'")).unwrap();
    let told = bourn(&folder, &["runs", "replay", "c", "--spec", "other.yaml"], &variables);
    assert!(told.code == Some(5) && told.out.contains("not of <env.C>"), "{}{}", told.out, told.err);
    assert!(!told.out.contains("c4nary/") && !told.out.contains("c4nary-of-mine"), "{}", told.out);
    // Without the value nobody could look for it.
    let unknown = bourn(&folder, &["runs", "diagnose", "c", "-o", "d.tar.zst"], &variables[..1]).refused(2);
    assert!(unknown.contains("T_OF_MINE") && !folder.path("d.tar.zst").exists(), "{unknown}");
}

#[test]
fn a_value_that_no_mark_fits_is_said_again() {
    let spec = "steps: [{ id: a, process: { command: [echo, hi] }, retry: { max_attempts: '${env.TRIES}' } }]\n";
    let spec = spec.replace("'${env.TRIES}'", "2").replace("[echo, hi]", "[echo, hi], limits: { rate: '${env.RATE}' }");
    let folder = Folder::with(&[("n.yaml", &spec)]);
    let rate = [("RATE", "9999/s")];
    assert_eq!(bourn(&folder, &["run", "n.yaml", "--id", "n"], &rate).code, Some(0));
    bourn(&folder, &["runs", "diagnose", "n", "-o", "n.tar.zst"], &rate);
    let told = folder.bourn(&["replay", "n.tar.zst"]).refused(2);
    assert!(told.contains("<env.RATE>") || told.contains("${env.RATE}"), "{told}");
    let same = folder.bourn(&["replay", "n.tar.zst", "--env", "RATE=1/s"]).quietly();
    assert_eq!(same, "same decisions: 1 step and 0 decisions compared\n");
}
