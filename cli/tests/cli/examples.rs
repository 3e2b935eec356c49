//! The examples of the repository, each run as its first lines say.

use std::path::Path;
use std::process::Stdio;

use crate::support::{Ended, Folder, ended};

/// Runs an example in a folder of its own, where `examples` is the repository's.
fn run(folder: &Folder, name: &str, more: &[&str]) -> Ended {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let link = folder.path("examples");
    if !link.exists() {
        std::os::unix::fs::symlink(examples, link).unwrap();
    }
    let spec = format!("examples/{name}");
    let args: Vec<&str> = ["run", spec.as_str()].into_iter().chain(more.iter().copied()).collect();
    ended(folder.command(&args).stdin(Stdio::null()).output().unwrap())
}

#[test]
fn quickstart() {
    let out = run(&Folder::with(&[]), "quickstart.yaml", &[]).quietly();
    assert_eq!(out.lines().next(), Some("date                 origin  destination  hours"));
    assert_eq!(out.lines().count(), 84);
}

/// The quickstart that the README shows is the file that it tells to run.
#[test]
fn the_readme_shows_the_quickstart() {
    let spec = include_str!("../../../examples/quickstart.yaml");
    let shown: Vec<&str> = spec.lines().filter(|l| !l.starts_with('#')).collect();
    let shown = shown.join("\n");
    assert!(include_str!("../../../README.md").contains(&shown), "{shown}");
}

#[test]
fn filter() {
    let folder = Folder::with(&[]);
    run(&folder, "01-filter.yaml", &[]).quietly();
    let late = folder.read("out/late-flights.jsonl");
    assert_eq!(late.lines().count(), 985);
    assert_eq!(
        late.lines().next().unwrap(),
        r#"{"date":"2001-01-01T07:34:00","delay":62,"distance":802,"origin":"ORD","destination":"DFW"}"#
    );
}

#[test]
fn a_pipeline_for_each_airport() {
    let folder = Folder::with(&[]);
    let document = run(&folder, "17-airports.yaml", &["--input", r#"{"airports": ["ORD", "JFK"]}"#, "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&document.quietly()).unwrap();
    assert_eq!(document["final_output"], serde_json::json!({ "ORD": 89, "JFK": 20 }));
    assert_eq!(folder.read("out/late-JFK.jsonl").lines().count(), 20);
    run(&folder, "17-late.yaml", &[]).quietly();
    assert_eq!(folder.read("out/late-ORD.jsonl").lines().count(), 89);
}

#[test]
fn map() {
    insta::assert_snapshot!(run(&Folder::with(&[]), "02-map.yaml", &[]).quietly(), @"
    date                 origin  destination  hours_late    km
    2001-01-01T00:01:00  LAS     PHL                0.55  3501
    2001-01-01T05:42:00  LGA     DFW               -0.18  2235
    2001-01-01T06:06:00  SYR     PHL                0.07   366
    2001-01-01T06:22:00  TPA     MEM               -0.08  1055
    2001-01-01T06:34:00  SJC     MSP               -0.12  2536
    … and 19995 more rows
    ");
}

#[test]
fn route() {
    let folder = Folder::with(&[]);
    run(&folder, "03-route.yaml", &[]).quietly();
    assert_eq!(folder.read("out/late.jsonl").lines().count(), 3_970);
    assert!(folder.path("out/early.parquet").exists());
}

#[test]
fn dead_letters() {
    let folder = Folder::with(&[]);
    let ended = run(&folder, "04-dead-letters.yaml", &[]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), "warning: 2 rows rejected: `source` 1, `priced` 1\n"));
    assert_eq!(
        folder.read("out/orders.jsonl"),
        "{\"id\":1,\"price\":9.5}\n{\"id\":3,\"price\":12.0}\n{\"id\":5,\"price\":0.75}\n"
    );
    assert_eq!(folder.read("out/rejected.jsonl").lines().count(), 2);
}

#[test]
fn pipe() {
    let folder = Folder::with(&[]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/05-pipe.yaml");
    let out = folder.fed(&["run", &example.to_string_lossy()], "{\"n\":1}\n{\"n\":5}\n").quietly();
    assert_eq!(out, "{\"n\":5}\n");
}

#[test]
fn nexmark() {
    let ended = run(&Folder::with(&[]), "06-nexmark.yaml", &["--stats", "-o", "json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains(r#""rows_read":10000"#), "{}", ended.err);
}

#[test]
fn model_stage() {
    let out = run(&Folder::with(&[]), "07-model-stage.yaml", &["--mock"]).quietly();
    let ids: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap())
        .collect();
    assert!(ids.into_iter().eq(0..100));
}

#[test]
fn workflow() {
    let out =
        run(&Folder::with(&[]), "08-workflow.yaml", &["--mock", "--input", r#"{"topic":"night trains"}"#]).quietly();
    assert!(out.contains("mock to: weigh up: mock answer"), "{out}");
}

#[test]
fn chain() {
    let out = run(&Folder::with(&[]), "chain.json", &["--mock"]).quietly();
    assert!(out.contains("COMPLETED") && out.contains("validate_fixes"), "{out}");
}

#[test]
fn durable() {
    let folder = Folder::with(&[]);
    let input = r#"{"repository":"bourn","files":["a.rs","b.rs"],"strict":true}"#;
    let out = run(&folder, "10-durable.yaml", &["--mock", "--input", input, "-o", "json"]).quietly();
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["workflow_results"]["reviews"].as_array().unwrap().len(), 2);
    assert_eq!(document["final_output"]["reviewed"], 2);
    assert!(folder.path(".bourn/journal.db").exists());
}

#[test]
fn approval() {
    let folder = Folder::with(&[]);
    let waits = run(&folder, "11-approval.yaml", &["--id", "order-7", "--input", r#"{"total":1200}"#]);
    assert_eq!((waits.code, waits.err.as_str()), (Some(0), "1 run waits: `bourn inbox` says for what\n"));
    let out = folder.bourn(&["approve", "order-7/agreed", "--reject", "too dear"]).quietly();
    assert!(out.ends_with("\n1200 is refused\n"), "{out}");
}

#[test]
fn names() {
    let folder = Folder::with(&[]);
    let told = run(&folder, "12-names.yaml", &[]).refused(2);
    assert!(told.contains("there is no environment variable `SERVICE_KEY`"), "{told}");
    let mut command = folder.command(&["run", "examples/12-names.yaml"]);
    let out = ended(command.env("SERVICE_KEY", "s3cret").output().unwrap()).quietly();
    assert!(out.starts_with("{\"n\":0,\"price\":\"Basel price of 0\",\"stock\":\"Basel stock of 0\"}\n"), "{out}");
}

#[test]
fn documents_to_vectors() {
    let folder = Folder::with(&[]);
    run(&folder, "12-documents-to-vectors.yaml", &["--mock"]).quietly();
    let look = "source: { file: { path: out/vectors.parquet } }\nsink: { file: { path: out.jsonl } }\n";
    std::fs::write(folder.path("look.yaml"), look).unwrap();
    assert!(folder.bourn(&["plan", "look.yaml"]).quietly().contains("embedding FixedSizeList(256 x non-null Float32"));
    folder.bourn(&["run", "look.yaml"]).quietly();
    let rows = folder.read("out.jsonl");
    let row: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert_eq!((rows.lines().count(), row["embedding"].as_array().unwrap().len()), (8, 256));
}

#[test]
fn local_vectors() {
    let folder = Folder::with(&[]);
    run(&folder, "16-local-vectors.yaml", &["--mock"]).quietly();
    // The model as `./test` installs it, laid out as docs/models.md says.
    let servers = std::env::var("BOURN_SERVERS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/servers").to_owned());
    let package = glob::glob(&format!("{servers}/lib/python3*/site-packages/wordllama")).unwrap().next();
    let package = package.expect("`./test` installs the models that tests need").unwrap();
    std::fs::create_dir_all(folder.path("models/wordllama")).unwrap();
    for (from, to) in [
        ("weights/l2_supercat_256.safetensors", "model.safetensors"),
        ("tokenizers/l2_supercat_tokenizer_config.json", "tokenizer.json"),
    ] {
        std::fs::copy(package.join(from), folder.path("models/wordllama").join(to)).unwrap();
    }
    std::fs::write(folder.path("models/wordllama/config.json"), r#"{"normalize": false}"#).unwrap();
    run(&folder, "16-local-vectors.yaml", &[]).quietly();
    let look = "source: { file: { path: out/local-vectors.parquet } }\nsink: { file: { path: out.jsonl } }\n";
    std::fs::write(folder.path("look.yaml"), look).unwrap();
    folder.bourn(&["run", "look.yaml"]).quietly();
    let rows = folder.read("out.jsonl");
    let row: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert_eq!((rows.lines().count(), row["embedding"].as_array().unwrap().len()), (8, 256));
}

#[test]
fn every_example_is_run_here() {
    let examples = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")).unwrap();
    let specs = examples.map(|e| e.unwrap().file_name().into_string().unwrap());
    let tests = include_str!("examples.rs");
    let is_spec = |name: &String| {
        !name.contains(".test.") && Path::new(name).extension().is_some_and(|e| e == "yaml" || e == "json")
    };
    let forgotten: Vec<_> = specs.filter(is_spec).filter(|name| !tests.contains(&format!("{name}\""))).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

#[test]
fn order() {
    let folder = Folder::with(&[]);
    let sent = |input: &str| {
        let out = run(&folder, "14-order.yaml", &["--input", input]).quietly();
        out.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(sent(r#"{"total": 120, "country": "NO"}"#), "by post");
    assert_eq!(sent(r#"{"total": 120, "country": "SE"}"#), "by ship");
    assert_eq!(sent(r#"{"total": 1200, "country": "NO"}"#), "a person looks at it");
}

#[test]
fn hybrid() {
    let out = run(&Folder::with(&[]), "15-hybrid.yaml", &[]).quietly();
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 4);
    assert!(lines[2].starts_with("{\"title\":\"Flights\",\"lines\":4,"), "{out}");
    let input = r#"{"name": "a.txt", "text": "one two\nthree"}"#;
    let out = run(&Folder::with(&[]), "15-review.yaml", &["--input", input]).quietly();
    assert!(out.contains("\"three: 1 words\""), "{out}");
}

#[test]
fn swarm() {
    let args = ["--mock", "--input", "the service that sends receipts"];
    let out = run(&Folder::with(&[]), "13-swarm.yaml", &args).quietly();
    assert!(out.lines().last().unwrap_or_default().starts_with("mock answer "), "{out}");
}

#[test]
fn cache() {
    let folder = Folder::with(&[]);
    let ask = |who: &str| {
        let input = format!("{{\"ticker\": \"ACME\", \"who\": \"{who}\"}}");
        run(&folder, "18-cache.yaml", &["--mock", "--input", &input]).quietly()
    };
    let (mine, yours) = (ask("me"), ask("you"));
    let status = |text: &str| {
        text.lines().find(|line| line.starts_with("outlook  ")).unwrap().split_whitespace().nth(1).map(str::to_owned)
    };
    assert_eq!((status(&mine).as_deref(), status(&yours).as_deref()), (Some("COMPLETED"), Some("CACHED")), "{yours}");
    assert_eq!(mine.lines().last().unwrap().replace("For me", "For you"), yours.lines().last().unwrap());
}

#[test]
fn a_text_that_passes_gates_and_goes_to_a_file() {
    let folder = Folder::with(&[]);
    let input = r#"{"topic": "tides"}"#;
    let told = run(&folder, "19-gates.yaml", &["--mock", "--input", input, "--id", "one", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&told.out).unwrap_or_else(|e| panic!("{e}: {}", told.err));
    // The mock model gives the lowest score, and that gate only warns.
    assert_eq!((&document["status"], &document["degraded"]), (&"COMPLETED".into(), &serde_json::json!(["draft"])));
    let file: serde_json::Value = serde_json::from_str(&folder.read("out/one.json")).unwrap();
    assert!(file["text"].as_str().unwrap().ends_with("a paragraph about tides"), "{file}");
    assert_eq!(document["final_output"]["path"], "out/one.json");
}

#[test]
fn two_models_of_which_the_better_one_is_asked_more_often() {
    let folder = Folder::with(&[]);
    let told = run(&folder, "20-models.yaml", &["--mock", "--inputs", "examples/data/questions.jsonl", "-o", "json"]);
    let documents = told.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(documents.filter(|document| document["status"] == "COMPLETED").count(), 6, "{}", told.err);
    let insights = folder.bourn(&["insights", "models"]).quietly();
    assert!(insights.contains("rewards of who: cheap ") && insights.contains("; dear "), "{insights}");
}
