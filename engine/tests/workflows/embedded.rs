//! Workflows that a program runs.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::Engine;
use bourn_engine::journal::Memory;
use bourn_engine::testing::simulation::Simulation;
use futures::{StreamExt, stream};
use serde_json::json;

use crate::kinds::{SEEN, registry};

const SPEC: &str = "\
steps:
  - { id: a, command: say, args: 'one ${input.n}' }
  - { id: b, command: say, args: '${a.results} two', with: { fail: '${.input.fail // \"\"}' } }
";

#[test]
fn a_run_gives_its_document_and_many_give_theirs_in_order() {
    let simulation = Simulation::new(1);
    let engine = Engine::new(registry()).with_env(simulation.env());
    let calls = || SEEN.with(|seen| seen.calls.load(SeqCst));
    let work = async move {
        let workflow = engine.workflow(SPEC, "work.yaml").await?;
        let one = workflow.run(&json!({ "n": 1 })).await?;
        assert_eq!((one.final_output, one.workflow_results.len()), (json!("one 1 two"), 2));
        let failed = workflow.run(&json!({ "n": 1, "fail": "permanent" })).await?;
        assert_eq!(failed.error_analysis.map(|error| error.instance), Some("/steps/b".to_owned()));
        let inputs = stream::iter((0..3_000).map(|n| json!({ "n": n })));
        let all: Vec<_> = workflow.run_all(inputs).await?.collect().await;
        let given: Vec<_> =
            all.into_iter().map(|document| document.map(|d| d.final_output)).collect::<Result<_, _>>()?;
        assert_eq!(given, (0..3_000).map(|n| json!(format!("one {n} two"))).collect::<Vec<_>>());
        // What is in the journal is not asked for again.
        let kept = workflow.with_journal(Arc::new(Memory::default()), 1);
        let before = calls();
        let first = kept.run_as("mine", &json!({ "n": 7 })).await?;
        let again = kept.run_as("mine", &json!({ "n": 7 })).await?;
        assert_eq!((first, calls() - before), (again, 2));
        let wrong = engine.workflow("steps: [{ id: a, commandd: say }]", "work.yaml").await.err().unwrap();
        assert!(wrong.message().contains("work.yaml:1:18"), "{wrong}");
        let pipeline = engine.workflow("source: { lines: [] }\nsink: { shelf: {} }", "pipe.yaml").await.err().unwrap();
        assert!(pipeline.message().contains("pipe.yaml is a pipeline"), "{pipeline}");
        Ok::<_, bourn_engine::Error>(())
    };
    simulation.run(work).done().unwrap();
}
