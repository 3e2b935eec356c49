//! One journal, several processes: beside each other, and one after the other at another place.

use serde_json::Value;

use crate::support::{Folder, ended};

const CHAIN: &str = "\
name: three
steps:
  - { id: a, set: '${input.n}' }
  - { id: b, set: '${a.results}' }
  - { id: c, process: { command: [echo, '${b.results}'] }, if: '${.input.n % 100 == 0}' }
";

/// `BOURN_RUNS=10000` for more.
#[test]
fn processes_that_share_a_journal_are_never_told_that_it_is_busy() {
    let all: usize = std::env::var("BOURN_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1_000);
    let folder = Folder::with(&[("three.yaml", CHAIN)]);
    let (processes, each) = (4, all / 4);
    let jobs: Vec<_> = (0..processes)
        .map(|process| {
            let lines: Vec<String> = (0..each).map(|n| serde_json::json!({ "n": n }).to_string()).collect();
            std::fs::write(folder.path(&format!("{process}.jsonl")), lines.join("\n")).unwrap();
            folder
                .command(&["run", "three.yaml", "--inputs", &format!("{process}.jsonl"), "-o", "json"])
                .spawn()
                .unwrap()
        })
        .collect();
    for job in jobs {
        let ended = ended(job.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let lines: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), each);
        assert!(lines.iter().all(|document| document["status"] == "COMPLETED"));
    }
    let listed = folder.bourn(&["runs", "list", "--limit", "100000", "-o", "json"]).quietly();
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.iter().filter(|run| run["status"] == "COMPLETED").count(), processes * each);
    assert_eq!(folder.bourn(&["db", "check"]).code, Some(0));
}

const SLOW: &str = "\
name: slow
steps:
  - { id: paid, process: { command: [sh, -c, 'echo paid >> $LOG; echo done'] } }
  - { id: held, process: { command: [sh, -c, 'echo held >> $LOG; until test -e open || ! test -e $LOG; do sleep 0.05; done; echo ${paid.results}'] }, timeout: 1h }
";

#[test]
fn a_run_that_was_cut_off_goes_on_at_another_place_with_nothing_but_its_journal() {
    let (here, there) = (Folder::with(&[("slow.yaml", SLOW)]), Folder::with(&[("open", "")]));
    let log = here.path("log");
    let mut job = here.command(&["run", "slow.yaml", "--input", "{}", "--id", "a"]).env("LOG", &log).spawn().unwrap();
    while !std::fs::read_to_string(&log).is_ok_and(|log| log.contains("held")) {}
    job.kill().unwrap();
    job.wait().unwrap();
    for file in std::fs::read_dir(here.path(".bourn")).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, there.path(file.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let resumed =
        there.command(&["runs", "resume", "a", "--journal", "journal.db", "-o", "json"]).env("LOG", &log).output();
    let resumed = ended(resumed.unwrap());
    let document: Value = serde_json::from_str(&resumed.out).unwrap_or_else(|_| panic!("{}", resumed.err));
    assert_eq!(document["status"], "COMPLETED");
    assert!(document["final_output"].to_string().contains("done"), "{document:#}");
    // What was under way is asked again, and what was in the journal is not.
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "paid\nheld\nheld\n");
}
