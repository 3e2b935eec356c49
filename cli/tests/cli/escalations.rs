//! A person decides about a step that has failed.

use serde_json::json;

use crate::support::{Folder, json_of};

const SPEC: &str = "\
name: orders
steps:
  - { id: pay, process: [sh, -c, 'echo pay >> calls; echo no money >&2; exit 3'], on_failure: [escalate] }
  - { id: said, set: 'paid by ${pay.results}' }
";

#[test]
fn a_failure_waits_in_the_inbox_until_somebody_says_what_the_step_gives() {
    let folder = Folder::with(&[("orders.yaml", SPEC)]);
    let calls = || folder.read("calls").lines().count();
    let start = |id: &str| folder.bourn(&["run", "orders.yaml", "--id", id, "-o", "json"]);
    assert_eq!(json_of(&start("one").out)["status"], "WAITING");
    let inbox = json_of(&folder.bourn(&["inbox", "-o", "json"]).quietly());
    let asked = "`sh` ended with status 3: no money";
    assert_eq!((inbox[0]["task"].clone(), inbox[0]["decide"].clone()), (json!("one/pay"), json!(asked)));
    assert!(folder.bourn(&["inbox"]).quietly().contains(&format!("decision: {asked}")));
    let undecided = folder.bourn(&["approve", "one/pay"]).refused(2);
    assert!(
        undecided.contains("`--data` says what it gives instead, `--retry` tries it again, `--reject` lets it fail"),
        "{undecided}"
    );
    let decided = folder.bourn(&["approve", "one/pay", "--data", "\"a friend\"", "-o", "json"]);
    assert_eq!(json_of(&decided.out)["final_output"], "paid by a friend", "{}", decided.err);
    assert_eq!(calls(), 1, "what has failed is not done again");
    start("two");
    let refused = folder.bourn(&["approve", "two/pay", "--reject", "too late", "-o", "json"]);
    let document = json_of(&refused.out);
    assert_eq!(document["error_analysis"]["detail"], format!("{asked}; refused: too late"));
    assert_eq!((refused.code, calls()), (Some(1), 2));
    // Tried again, it is done again and asks again.
    let recovered = json_of(&folder.bourn(&["runs", "recover", "two", "-o", "json"]).out);
    assert_eq!((recovered["status"].clone(), calls()), (json!("WAITING"), 3));
    let again = folder.bourn(&["approve", "two/pay", "--data", "\"a bank\"", "-o", "json"]);
    assert_eq!(json_of(&again.out)["final_output"], "paid by a bank");
}

#[test]
fn what_somebody_decides_is_held_to_what_the_step_must_give() {
    let spec = SPEC.replace("escalate]", "escalate], output: { schema: { type: string, minLength: 3 } }");
    let folder = Folder::with(&[("orders.yaml", &spec)]);
    folder.bourn(&["run", "orders.yaml", "--id", "one"]);
    let refused = folder.bourn(&["approve", "one/pay", "--data", "7"]).refused(2);
    assert!(
        refused.contains("does not fit the `output.schema` of step `pay`: 7 is not of type \"string\""),
        "{refused}"
    );
    assert!(folder.bourn(&["inbox"]).quietly().contains("one/pay"), "it still waits");
    // Whoever goes round `approve` is told by the run.
    let signal = folder.bourn(&["signal", "one", "pay decided", "--data", "7", "-o", "json"]);
    let detail = json_of(&signal.out)["error_analysis"]["detail"].clone();
    let wrong = "what was decided: the results do not fit `output.schema`: 7 is not of type \"string\"";
    assert_eq!(detail, wrong, "{}", signal.err);
    folder.bourn(&["run", "orders.yaml", "--id", "two"]);
    let decided = folder.bourn(&["approve", "two/pay", "--data", "\"a friend\"", "-o", "json"]);
    assert_eq!(json_of(&decided.out)["final_output"], "paid by a friend", "{}", decided.err);
}
