//! `--watch`: what is run again after a change, and what ends it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command};

use crate::support::Folder;

/// The command while it watches.
struct Watching {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Watching {
    fn start(folder: &Folder, args: &[&str]) -> Self {
        let mut child = folder.command(args).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, out: BufReader::new(out), err: BufReader::new(err) }
    }

    /// Reads on until this is written.
    fn writes(&mut self, line: &str) {
        wait_for(&mut self.out, line);
    }

    /// The same on stderr.
    fn says(&mut self, line: &str) {
        wait_for(&mut self.err, line);
    }

    /// Sends Ctrl-C; returns the exit code and what else was said.
    fn interrupt(self) -> (Option<i32>, String) {
        self.signal("INT")
    }

    fn signal(mut self, name: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        self.out.read_to_string(&mut String::new()).unwrap();
        self.err.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

/// A test that has failed leaves nobody behind who watches on.
impl Drop for Watching {
    fn drop(&mut self) {
        // One that has ended can't be ended.
        let _ended = self.child.kill();
    }
}

/// So many lines of something else are no sign that it is still to come.
const LINES_MAX: usize = 5_000;

#[track_caller]
fn wait_for(from: &mut impl BufRead, line: &str) {
    let mut others = Vec::new();
    for next in from.lines().take(LINES_MAX) {
        let next = next.unwrap();
        if next.contains(line) {
            return;
        }
        others.push(next);
    }
    others.drain(..others.len().saturating_sub(20));
    panic!("{line:?} did not come, but {others:#?}");
}

/// Writes this number again and again, for ever.
fn endless(number: u32) -> String {
    format!(
        "source: {{ generate: {{ rate: 100/s }} }}\nstages: [ {{ map: {{ v: \"{number}\" }} }} ]\nsink: {{ stdout: {{}} }}\n"
    )
}

#[test]
fn a_job_starts_again_with_what_the_spec_says_now() {
    let folder = Folder::with(&[("a.yaml", &endless(1))]);
    let mut bourn = Watching::start(&folder, &["run", "a.yaml", "--watch"]);
    bourn.says("watching a.yaml; Ctrl-C ends");
    bourn.writes("{\"v\":1}");
    std::fs::write(folder.path("other.txt"), "no part of it").unwrap();
    std::fs::write(folder.path("a.yaml"), endless(2)).unwrap();
    bourn.says("a.yaml has changed: starting again");
    bourn.writes("{\"v\":2}");
    // As editors do.
    std::fs::write(folder.path("a.yaml~"), endless(3)).unwrap();
    std::fs::rename(folder.path("a.yaml~"), folder.path("a.yaml")).unwrap();
    bourn.writes("{\"v\":3}");
    std::fs::write(folder.path("a.yaml"), endless(4).replace("generate", "genrate")).unwrap();
    bourn.says("did you mean `generate`?");
    std::fs::remove_file(folder.path("a.yaml")).unwrap();
    std::fs::write(folder.path("a.yaml"), endless(5)).unwrap();
    bourn.writes("{\"v\":5}");
    let (code, rest) = bourn.interrupt();
    assert_eq!(code, Some(0));
    assert!(!rest.contains("error") && !rest.contains("other.txt"), "{rest}");
}

#[test]
fn a_link_that_leads_elsewhere_is_a_change() {
    let folder = Folder::with(&[]);
    for (version, number) in [("one", 1), ("two", 2)] {
        std::fs::create_dir(folder.path(version)).unwrap();
        std::fs::write(folder.path(version).join("a.yaml"), endless(number)).unwrap();
    }
    // As configurations come into a container.
    std::os::unix::fs::symlink("one", folder.path("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", folder.path("a.yaml")).unwrap();
    let mut bourn = Watching::start(&folder, &["run", "a.yaml", "--watch"]);
    bourn.writes("{\"v\":1}");
    std::os::unix::fs::symlink("two", folder.path("..new")).unwrap();
    std::fs::rename(folder.path("..new"), folder.path("..data")).unwrap();
    bourn.writes("{\"v\":2}");
    // The file behind it is one of another folder.
    std::fs::write(folder.path("two/a.yaml"), endless(3)).unwrap();
    bourn.writes("{\"v\":3}");
    assert_eq!(bourn.interrupt().0, Some(0));
}

#[test]
fn a_job_that_has_ended_waits_for_the_next_change() {
    let spec = "steps: [ { id: told, command: /say, args: \"${input.n}\" } ]\n";
    let routing = "/say: { kind: set, args: value }\n";
    let folder = Folder::with(&[("a.yaml", spec), ("in.json", "{\"n\":1}"), ("routing.yaml", routing)]);
    let args = ["run", "a.yaml", "--input", "@in.json", "--routing", "routing.yaml", "--watch"];
    let mut bourn = Watching::start(&folder, &args);
    bourn.writes("1");
    for _ in 0..2 {
        bourn.says("watching a.yaml, routing.yaml, in.json; Ctrl-C ends");
    }
    std::fs::write(folder.path("in.json"), "{\"n\":12345}").unwrap();
    bourn.says("in.json has changed: starting again");
    bourn.writes("12345");
    bourn.says("watching");
    std::fs::write(folder.path("routing.yaml"), routing.replace("value", "valu")).unwrap();
    bourn.says("routing.yaml has changed: starting again");
    bourn.says("valu");
    bourn.says("watching");
    assert_eq!(bourn.interrupt().0, Some(0));
}

#[test]
fn a_job_that_does_not_drain_in_time_is_left_behind() {
    let slow = "source: { generate: {} }\nstages: [ { throttle: { rate: 5/s } } ]\nsink: { stdout: {} }\n";
    let folder = Folder::with(&[("a.yaml", slow)]);
    let mut bourn = Watching::start(&folder, &["run", "a.yaml", "--watch", "--drain-timeout", "100ms"]);
    bourn.writes("{\"n\":0}");
    std::fs::write(folder.path("a.yaml"), endless(2)).unwrap();
    bourn.says("error: the job did not drain within 100ms; see --drain-timeout");
    bourn.writes("{\"v\":2}");
    assert_eq!(bourn.interrupt().0, Some(0));
}

#[test]
fn what_can_not_be_read_again_is_refused() {
    let folder = Folder::with(&[("a.yaml", "source: { stdin: {} }\nsink: { stdout: {} }\n")]);
    for args in
        [&["run", "-", "--watch"][..], &["run", "a.yaml", "--watch", "--inputs", "-"], &["test", "-", "--watch"]]
    {
        assert_eq!(folder.bourn(args).refused(2), "error: --watch: - can't be read again; name a file\n");
    }
    assert!(folder.bourn(&["run", "nowhere/a.yaml", "--watch"]).err.contains("error: nowhere: can't be watched: "));
    let mut bourn = Watching::start(&folder, &["run", "a.yaml", "--watch"]);
    bourn.says("error: --watch: the source `source` reads stdin, which can't be read again");
    bourn.says("watching a.yaml");
    assert_eq!(bourn.interrupt(), (Some(0), String::new()));
}

#[test]
fn cases_are_run_again_after_each_change() {
    let spec = "source: { stdin: {} }\nsink: { stdout: {} }\n";
    let case = "tests: [ { name: one, given: [ { n: 1 } ], expect: [ { n: 2 } ] } ]\n";
    let folder = Folder::with(&[("a.yaml", spec), ("a.test.yaml", case)]);
    let mut bourn = Watching::start(&folder, &["test", "--watch"]);
    bourn.says("watching .; Ctrl-C ends");
    bourn.writes("1 case: 1 failed");
    std::fs::write(folder.path("a.test.yaml"), case.replace("n: 2", "n: 1")).unwrap();
    bourn.says("a.test.yaml has changed: starting again");
    bourn.writes("1 case: all passed");
    std::fs::create_dir_all(folder.path("new/er")).unwrap();
    std::fs::write(folder.path("new/er/b.yaml"), format!("{spec}{case}")).unwrap();
    bourn.says("new/er/b.yaml has changed: starting again");
    bourn.writes("2 cases in 2 specs: 1 failed");
    // No job is under way that would have to be stopped, so nobody listens for signals. What a shell starts in the background
    // ignores Ctrl-C from its beginning, and tests may be.
    assert_eq!(bourn.signal("TERM").0, None);
}
