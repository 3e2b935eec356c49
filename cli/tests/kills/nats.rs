//! NATS `JetStream` into a file: a message is acknowledged when its row is safe, not before.

use std::collections::BTreeSet;

use async_nats::jetstream::{self, Context, consumer, stream};
use bourn_engine::env::points;
use serde_json::json;
use tempfile::TempDir;

use crate::program::{Server, free_port, installed};
use crate::support::{Folder, until};

struct Broker {
    server: Server,
    context: Context,
    _folder: TempDir,
}

impl Broker {
    /// A server with a stream that holds so many messages.
    async fn with(messages: i64) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port().await);
        let stored = folder.path().to_string_lossy().into_owned();
        let arguments = ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", &stored, "-l", "/dev/null"];
        let arguments = arguments.map(ToString::to_string).to_vec();
        let server = Server::start(installed("nats-server"), arguments, port).await;
        let client = async_nats::connect(format!("nats://{}", server.address())).await.unwrap();
        let context = jetstream::new(client);
        let config = stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
        context.create_stream(config).await.unwrap();
        let broker = Self { server, context, _folder: folder };
        broker.publish(0..messages).await;
        broker
    }

    /// Publishes `{"n":…}` for each number; the number is one less than the place in the stream.
    async fn publish(&self, numbers: std::ops::Range<i64>) {
        let mut acks = Vec::new();
        for n in numbers {
            acks.push(self.context.publish("s", json!({ "n": n }).to_string().into()).await.unwrap());
            if acks.len() == 500 {
                for ack in acks.drain(..) {
                    ack.await.unwrap();
                }
            }
        }
        for ack in acks {
            ack.await.unwrap();
        }
    }

    /// What the server knows of the consumer; nothing before there is one.
    async fn consumer(&self) -> Option<consumer::Info> {
        self.context.get_stream("S").await.unwrap().consumer_info("worker").await.ok()
    }

    async fn all_acknowledged(&self) {
        until("every acknowledgement", || async {
            self.consumer().await.is_some_and(|info| info.num_ack_pending == 0 && info.num_pending == 0)
        })
        .await;
    }

    /// A job that reads by position.
    fn by_position(&self) -> String {
        let address = self.server.address();
        format!(
            "source: {{ nats: {{ servers: 'nats://{address}', stream: S, from: position, schema: {{ n: bigint }} }} }}\n\
             stages: [ {{ throttle: {{ rate: 20000/s }} }} ]\n\
             sinks:\n  lines: {{ file: {{ path: lines.jsonl }} }}\n\
             \x20 many: {{ file: {{ path: 'many-{{number}}.jsonl', rotate: {{ rows: 50 }} }} }}\n\
             checkpoint: {{ every: 10ms }}\n"
        )
    }

    fn spec(&self, every: &str, file: &str) -> String {
        let address = self.server.address();
        format!(
            "source: {{ nats: {{ servers: 'nats://{address}', stream: S, consumer: worker, ack_wait: 1s, \
             schema: {{ n: bigint }} }} }}\nsink: {{ file: {{ path: {file} }} }}\ncheckpoint: {{ every: {every} }}\n"
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_committed_when_the_job_was_killed_comes_again() {
    let (folder, broker) = (Folder::new(), Broker::with(1_000).await);
    let job = folder.start(&broker.spec("1h", "first.jsonl"));
    until("the rows", || async { folder.numbers("first.jsonl").len() == 1_000 }).await;
    job.kill();
    let info = broker.consumer().await.unwrap();
    assert_eq!((info.ack_floor.stream_sequence, info.num_ack_pending), (0, 1_000), "acknowledged before the commit");
    let job = folder.start(&broker.spec("50ms", "second.jsonl"));
    broker.all_acknowledged().await;
    job.kill();
    assert_eq!(folder.numbers("second.jsonl"), (0..1_000).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_that_is_acknowledged_is_in_the_file_of_the_job_that_was_killed() {
    let (folder, broker) = (Folder::new(), Broker::with(20_000).await);
    let (mut found, mut floor, mut total) = (BTreeSet::new(), 0, 20_000);
    for file in ["a.jsonl.gz", "b.jsonl.gz", "c.jsonl.gz"] {
        // What is compressed reaches the file at the end of an epoch, so a row that is too early acknowledged is lost.
        let job = folder.start(&broker.spec("20ms", file));
        let before = floor;
        until("an acknowledgement", || async {
            broker.consumer().await.is_some_and(|info| info.ack_floor.stream_sequence > before)
        })
        .await;
        job.kill();
        floor = broker.consumer().await.unwrap().ack_floor.stream_sequence;
        found.extend(folder.numbers(file));
        let acknowledged = (0..i64::try_from(floor).unwrap()).collect::<BTreeSet<_>>();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        // There is something left for the next one, however quick this one was.
        broker.publish(total..total + 500).await;
        total += 500;
    }
    let job = folder.start(&broker.spec("20ms", "d.jsonl.gz"));
    broker.all_acknowledged().await;
    job.kill();
    found.extend(folder.numbers("d.jsonl.gz"));
    assert_eq!(found, (0..total).collect());
}

/// The points of the protocol that a job comes to which does not end.
const POINTS: [&str; 20] = [
    points::PREPARE,
    points::PREPARED,
    points::STORE_MANIFEST,
    points::MANIFEST_STORED,
    points::CONTENT_WRITTEN,
    points::CONTENT_NAMED,
    points::COMMIT,
    points::FILE_PLACED,
    points::COMMITTED,
    points::SWEEP,
    points::MANIFESTS_SWEPT,
    points::SWEPT,
    points::ACKNOWLEDGE,
    points::ACKNOWLEDGED,
    points::RECOVER,
    points::COMMIT_AGAIN,
    points::COMMITTED_AGAIN,
    points::RECOVERED,
    points::PREPARED,
    points::MANIFEST_STORED,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_by_position_is_there_once_and_in_order_at_whichever_point_the_job_is_killed() {
    let (folder, broker) = (Folder::new(), Broker::with(0).await);
    let mut total = 0;
    for _ in 0..3 {
        for point in POINTS {
            // There is something to do for each.
            broker.publish(total..total + 1_000).await;
            total += 1_000;
            let at = format!("{point}:1");
            tokio::task::block_in_place(|| folder.start_to(&broker.by_position(), Some(&at)).wait_for_its_kill());
        }
    }
    let job = folder.start(&broker.by_position());
    let many = || folder.names("many-").iter().flat_map(|name| folder.lines(name)).collect::<Vec<_>>();
    let last = Some(total - 1);
    until("every row", || async {
        folder.lines("lines.jsonl").last() == last.as_ref() && many().last() == last.as_ref()
    })
    .await;
    job.kill();
    assert!(folder.lines("lines.jsonl").into_iter().eq(0..total));
    assert!(many().into_iter().eq(0..total));
}
