//! What a run holds, while another process runs it.

use serde_json::{Value, json};

use crate::support::{Folder, ended};

/// Three requests wait until there is a file; their rate allows two at once.
const SPEC: &str = "\
name: holds
rate_limits: { slow: 20/s }
steps:
  - { id: first, set: '${input.text}' }
  - id: held
    for_each: { in: '${input.list}' }
    process: { command: [sh, -c, 'until test -e open; do sleep 0.05; done; echo done'], limits: { rate: slow } }
    needs: first
";

fn resources(folder: &Folder) -> Value {
    let shown = folder.bourn(&["runs", "show", "a", "-o", "json"]);
    let parts: Value = serde_json::from_str(&shown.out).unwrap_or_default();
    parts["resource_state"].clone()
}

#[test]
fn who_looks_at_a_run_sees_what_it_holds_as_the_process_that_runs_it_says() {
    let folder = Folder::with(&[("holds.yaml", SPEC)]);
    let input = json!({ "text": "x".repeat(1_000), "list": [1, 2, 3] }).to_string();
    let run = folder.command(&["run", "holds.yaml", "--id", "a", "--input", &input, "-o", "json"]).spawn().unwrap();
    let held = json!(["held[0]", "held[1]", "held[2]"]);
    let live = loop {
        let live = resources(&folder);
        if live["allocated_tools"] == held {
            break live;
        }
    };
    assert_eq!((&live["live"], &live["parallel_capacity"]), (&json!(true), &json!(10)), "{live:#}");
    // Its input and what the first step gave.
    let bytes = |state: &Value| state["memory_usage"]["row_bytes"].as_u64().unwrap();
    assert!((2_000..4_000).contains(&bytes(&live)), "{live:#}");
    assert!(live["memory_usage"]["buffer_bytes"].is_u64(), "{live:#}");
    let bucket = &live["rate_limits"]["slow"]["buckets"]["requests"];
    assert_eq!((&bucket["capacity"], &bucket["per_minute"]), (&json!(2.0), &json!(1_200.0)), "{live:#}");
    let level = bucket["level"].as_f64().unwrap();
    assert!((0.0..=2.0).contains(&level), "{live:#}");
    std::fs::write(folder.path("open"), "").unwrap();
    let ended = ended(run.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let over = resources(&folder);
    assert_eq!(
        (&over["live"], &over["allocated_tools"], &over["rate_limits"]),
        (&json!(false), &json!([]), &json!({}))
    );
    assert!(bytes(&over) > bytes(&live));
}
