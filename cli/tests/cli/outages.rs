//! What is said of a service that is down: a line when it goes, a line when it is back.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support::Folder;

/// A server that refuses its first requests, however they come, and then is well.
fn server(refuses: usize, answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            // The request is read as far as one piece of it: the answer says that the connection is over.
            let _ = stream.read(&mut vec![0; 65_536]);
            let (status, body) = if n < refuses { ("503 Service Unavailable", "") } else { ("200 OK", answer) };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    port
}

const POLICY: &str = "retry: { max_attempts: 8, initial_interval: 20ms, jitter: false }";

#[track_caller]
fn told_once(spec: &str, refuses: usize, answer: &'static str, id: &str) {
    let port = server(refuses, answer);
    let spec = spec.replace("PORT", &port.to_string()).replace("POLICY", POLICY);
    let folder = Folder::with(&[("a.yaml", &spec)]);
    let ended = folder.bourn(&["run", "a.yaml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let lines: Vec<_> = ended.err.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains(&format!("WARN `{id}`: ")) && lines[0].contains("503"), "{lines:#?}");
    assert!(lines[0].ends_with("; trying again"), "{lines:#?}");
    assert!(lines[1].contains(&format!("WARN `{id}`: works again, after ")), "{lines:#?}");
}

#[test]
fn a_service_that_a_stage_asks_in_vain_is_told_once_and_when_it_is_back() {
    let spec = "source: { generate: { rows: 1 } }\nstages:\n  - id: ask\n    http: { url: 'http://127.0.0.1:PORT/', limits: { POLICY } }\nsink: { blackhole: {} }\n";
    told_once(spec, 4, "{}", "ask");
}

#[test]
fn a_server_that_a_source_asks_in_vain_is_told_once_and_when_it_is_back() {
    let spec = "sources:\n  api: { http: { url: 'http://127.0.0.1:PORT/', schema: { n: bigint }, POLICY } }\n\
        sink: { from: api, blackhole: {} }\n";
    told_once(spec, 4, "[{\"n\":1}]", "api");
}

#[test]
fn a_server_that_a_sink_sends_to_in_vain_is_told_once_and_when_it_is_back() {
    let spec =
        "source: { generate: { rows: 1 } }\nsinks:\n  hook: { http: { url: 'http://127.0.0.1:PORT/', POLICY } }\n";
    told_once(spec, 4, "", "hook");
}
