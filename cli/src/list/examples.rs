//! An example of every kind, as it stands in a spec. A test loads each of them.

/// The example of a kind.
pub fn of(kind: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(name, _)| *name == kind).map(|(_, example)| *example)
}

const EXAMPLES: &[(&str, &str)] = &[
    (
        "file",
        "sources:
  flights:
    file: { path: \"data/flights-*.parquet\" }
sinks:
  report:
    file: { path: out/report.jsonl }",
    ),
    ("stdin", "source:\n  stdin: { format: lines }\nsink:\n  console: {}"),
    ("stdout", "source:\n  generate: { rows: 10 }\nsink:\n  stdout: {}"),
    ("console", "source:\n  generate: { rows: 100 }\nsink:\n  console: { limit: 10 }"),
    ("blackhole", "source:\n  generate: { rows: 1000000 }\nsink:\n  blackhole: {}"),
    (
        "generate",
        "source:
  generate:
    rows: 1000
    rate: 100/s
    columns: { id: n, name: \"'user ' || n % 10\" }
sink:
  stdout: {}",
    ),
    ("nexmark", "source:\n  nexmark: { events: 1000000, rate: 50000/s, seed: 1 }\nsink:\n  blackhole: {}"),
];
