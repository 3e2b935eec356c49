//! NATS `JetStream`: its server killed, its network cut, its jobs killed.

mod published;
mod reach;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, Context, stream};
use bourn_connectors::memory::{Collected, Memory};
use bourn_connectors::nats::{From, Nats, NatsFormat};
use bourn_engine::api::{ConnectContext, Connector, SinkContext};
use bourn_engine::data::secret::Secret;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::rows;
use bourn_engine::testing::conformance::{Target, sink, source};
use bourn_engine::{Kind, Result};
use futures::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::job::{self, Doomed, engine, start, until};
use crate::support::program::{Server, free_port, installed};
use crate::support::proxy::{Network, Proxy};

/// A server with a folder of its own.
struct Broker {
    server: Server,
    _folder: TempDir,
}

impl Broker {
    async fn start(more: &[&str]) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port().await);
        let stored = folder.path().to_string_lossy().into_owned();
        let arguments = ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", &stored, "-l", "/dev/null"];
        let arguments = arguments.iter().chain(more).map(ToString::to_string).collect();
        Self { server: Server::start(installed("nats-server"), arguments, port).await, _folder: folder }
    }

    fn url(&self) -> String {
        format!("nats://{}", self.server.address())
    }

    async fn context(&self) -> Context {
        jetstream::new(async_nats::connect(self.url()).await.unwrap())
    }

    /// A stream of `subjects`, kept in files.
    async fn stream(&self, name: &str, subjects: &str) -> Context {
        let context = self.context().await;
        let config = stream::Config { name: name.into(), subjects: vec![subjects.into()], ..Default::default() };
        context.create_stream(config).await.unwrap();
        context
    }
}

/// Publishes `{"n":…}` for each number.
async fn publish(context: &Context, subject: &str, numbers: std::ops::Range<i64>) {
    let mut acks = Vec::new();
    for n in numbers {
        acks.push(context.publish(subject.to_owned(), json!({ "n": n }).to_string().into()).await.unwrap());
        if acks.len() == 100 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    for ack in acks {
        ack.await.unwrap();
    }
}

/// What a stream holds under a subject.
async fn messages(context: &Context, stream: &str, subject: &str) -> Vec<Value> {
    let stream = context.get_stream(stream).await.unwrap();
    let config = pull::Config { ack_policy: AckPolicy::None, filter_subject: subject.into(), ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut values = Vec::new();
    loop {
        let mut fetched = consumer.fetch().max_messages(1_000).messages().await.unwrap();
        let before = values.len();
        while let Some(message) = fetched.next().await {
            values.push(serde_json::from_slice(&message.unwrap().payload).unwrap());
        }
        if values.len() == before {
            return values;
        }
    }
}

fn durable(servers: String) -> Nats {
    let ack_wait = "2s".parse().unwrap();
    let consumer = Some("worker".to_owned());
    Nats { stream: Some("S".into()), consumer, ack_wait, schema: n(), ..Nats::at(servers) }
}

fn n() -> Option<bourn_connectors::codec::types::Declared> {
    serde_json::from_value(json!({"n": "bigint"})).unwrap()
}

fn graph(nats: Nats) -> (Graph, Collected) {
    let (sink, collected) = Memory::collect();
    let mut graph = Graph::new("it");
    graph.source("messages", nats);
    graph.sink("rows", sink);
    (graph, collected)
}

fn numbers(collected: &Collected) -> BTreeSet<i64> {
    job::numbers(collected).into_iter().collect()
}

/// Waits until the server has every acknowledgement of the consumer `worker`.
async fn acknowledged(context: &Context) {
    let stream = context.get_stream("S").await.unwrap();
    until("every acknowledgement", || async {
        let info = stream.consumer_info("worker").await.unwrap();
        info.num_ack_pending == 0 && info.num_pending == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_a_source() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream("S", "s").await;
    publish(&context, "s", 0..3_000).await;
    let ack_wait = "1s".parse().unwrap();
    Box::pin(source(Nats { ack_wait, ..durable(broker.url()) }).rows(3_000).check(&Env::system())).await;
    let position = Nats { from: From::Position, consumer: None, schema: None, ..durable(broker.url()) };
    Box::pin(source(position).rows(3_000).chunks(1).check(&Env::system())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subjects_are_a_sink() {
    let broker = Broker::start(&[]).await;
    broker.stream("S", "s.>").await;
    let context = broker.context().await;
    let target = |n: usize| {
        let subject = format!("s.{n}");
        let context = context.clone();
        let nats = Nats { subject: Some(subject.clone()), in_flight: 2, ..Nats::at(broker.url()) };
        Target::new(nats).read_back(move || {
            let (context, subject) = (context.clone(), subject.clone());
            async move { Ok(messages(&context, "S", &subject).await) }
        })
    };
    Box::pin(sink(target).check(&Env::system())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_no_message() {
    let mut broker = Broker::start(&[]).await;
    let context = broker.stream("S", "s").await;
    publish(&context, "s", 0..20_000).await;
    let (graph, collected) = graph(durable(broker.url()));
    let job = start(graph).await;
    until("the first rows", || async { collected.count() > 0 }).await;
    broker.server.kill().await;
    broker.server.start_again().await;
    let context = broker.context().await;
    publish(&context, "s", 20_000..21_000).await;
    until("every number", || async { numbers(&collected).len() == 21_000 }).await;
    acknowledged(&context).await;
    job.stop();
    job.wait().await.unwrap();
    assert_eq!(numbers(&collected), (0..21_000).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_stalls_and_is_cut_loses_no_message() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream("S", "s").await;
    publish(&context, "s", 0..5_000).await;
    let proxy = Proxy::before(broker.server.address()).await;
    let (graph, collected) = graph(durable(format!("nats://{}", proxy.address())));
    let job = start(graph).await;
    until("the first rows", || async { collected.count() > 0 }).await;
    for (network, numbers_now) in [(Network::Stalls, 5_000..6_000), (Network::Cut, 6_000..7_000)] {
        proxy.set(network);
        publish(&context, "s", numbers_now.clone()).await;
        proxy.set(Network::Open);
        let all = usize::try_from(numbers_now.end).unwrap();
        until("every number", || async { numbers(&collected).len() == all }).await;
    }
    acknowledged(&context).await;
    job.stop();
    job.wait().await.unwrap();
    assert_eq!(numbers(&collected), (0..7_000).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_gets_again_what_was_not_acknowledged_and_nothing_else() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream("S", "s").await;
    publish(&context, "s", 0..20_000).await;
    let (first_graph, first) = graph(durable(broker.url()));
    let doomed = Doomed::start(first_graph);
    let stream = context.get_stream("S").await.unwrap();
    until("the first acknowledgement", || async {
        stream.consumer_info("worker").await.is_ok_and(|info| info.ack_floor.stream_sequence > 0)
    })
    .await;
    doomed.kill();
    publish(&context, "s", 20_000..20_500).await;
    let floor = i64::try_from(stream.consumer_info("worker").await.unwrap().ack_floor.stream_sequence).unwrap();
    let (second_graph, second) = graph(durable(broker.url()));
    let job = start(second_graph).await;
    until("every number", || async { numbers(&first).union(&numbers(&second)).count() == 20_500 }).await;
    acknowledged(&context).await;
    job.stop();
    job.wait().await.unwrap();
    assert!(numbers(&second).iter().all(|n| *n >= floor), "an acknowledged message came again");
    assert!(numbers(&first).contains(&(floor - 1)), "a message was acknowledged before its row was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_epoch_brings_no_message_again() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream("S", "s").await;
    publish(&context, "s", 0..500).await;
    let ack_wait = "1s".parse().unwrap();
    let (mut graph, collected) = graph(Nats { ack_wait, ..durable(broker.url()) });
    graph.options.epoch_every = Some(Duration::from_secs(5));
    let job = start(graph).await;
    acknowledged(&context).await;
    job.stop();
    job.wait().await.unwrap();
    assert_eq!(collected.count(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_no_rows_are_dead_letters_and_are_acknowledged() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream("S", "s").await;
    for payload in ["{\"n\":1}", "{\"n\":", "", "[1]", "{\"n\":\"x\"}", "{\"n\":2}"] {
        context.publish("s", payload.into()).await.unwrap().await.unwrap();
    }
    let (mut graph, collected) = graph(durable(broker.url()));
    let (dead, letters) = Memory::collect();
    graph.dead_letters("dead", dead);
    let job = start(graph).await;
    acknowledged(&context).await;
    job.stop();
    job.wait().await.unwrap();
    assert_eq!(numbers(&collected), [1, 2].into());
    let reasons: Vec<_> = letters.rows().unwrap().iter().map(|l| l["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons.iter().any(|r| r.contains("an empty message is no JSON object")), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_no_stream_can_take_are_rejected_alone() {
    let broker = Broker::start(&[]).await;
    let context = broker.context().await;
    let config = stream::Config {
        name: "S".into(),
        subjects: vec!["s.*".into()],
        max_message_size: 1_000,
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    let given = rows![
        {"to": "a", "text": "small"},
        {"to": "a", "text": "x".repeat(2_000)},
        {"to": "a", "text": "x".repeat(2 << 20)},
        {"to": "a b", "text": "no subject"},
        {"to": "b.c", "text": "of no stream"},
        {"to": null, "text": "nowhere"},
        {"to": "z", "text": null}
    ];
    let nats = Nats { subject: Some("s.${to}".into()), format: NatsFormat::Text, ..Nats::at(broker.url()) };
    let context_of = SinkContext::new(Env::system(), "it", given.schema());
    let mut sink = nats.sink(context_of).await.unwrap();
    let written = bourn_engine::api::Sink::write(&mut sink, &given).await.unwrap();
    let mut told: Vec<_> =
        written.rejected.iter().map(|r| (r.error.place().row.unwrap(), r.error.message().to_owned())).collect();
    told.sort();
    let rejected: Vec<_> = told.iter().map(|(row, _)| *row).collect();
    assert_eq!(rejected, [1, 2, 3, 4, 5, 6], "{told:?}");
    assert!(told[0].1.contains("message size exceeds maximum allowed"), "{told:?}");
    assert!(told[1].1.contains("max payload size exceeded"), "{told:?}");
    assert!(told[3].1.contains("no stream takes the subject `s.b.c`"), "{told:?}");
    assert_eq!(context.get_stream("S").await.unwrap().cached_info().state.messages, 1);
}

async fn problem(nats: &Nats) -> String {
    let context = ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 };
    let Problems(problems) = nats.schema(&context).await.unwrap_err();
    problems[0].message.clone()
}

async fn refused(nats: Nats) -> bourn_engine::Error {
    let (graph, _) = graph(nats);
    engine().run(graph).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_or_consumer_that_is_not_there_is_told() {
    let broker = Broker::start(&[]).await;
    let nats = || durable(broker.url());
    let error = refused(nats()).await;
    assert_eq!((error.kind(), error.message()), (Kind::NotFound, "there is no stream `S`"));
    assert_eq!(problem(&Nats { schema: None, ..nats() }).await, "there is no stream `S`");
    let context = broker.stream("S", "s").await;
    assert!(
        problem(&Nats { schema: None, ..nats() }).await.contains("has no messages, so its columns can't be inferred")
    );
    let config =
        pull::Config { durable_name: Some("worker".into()), ack_policy: AckPolicy::None, ..Default::default() };
    context.get_stream("S").await.unwrap().create_consumer(config).await.unwrap();
    assert!(refused(nats()).await.message().contains("none to pull from with explicit acknowledgements"));
    let gone = Nats { servers: "nats://127.0.0.1:1".into(), schema: None, ..nats() };
    assert_eq!(problem(&gone).await, "nats at nats://127.0.0.1:1: nobody answers there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_never_shown() {
    let broker = Broker::start(&["--user", "me", "--pass", "the-right-one"]).await;
    let address = broker.server.address();
    let in_the_url = Nats { schema: None, ..durable(format!("nats://me:hunter2@{address}")) };
    let apart = Nats {
        user: Some("me".into()),
        password: Some(Secret::new("hunter2")),
        schema: None,
        ..durable(format!("nats://{address}"))
    };
    for nats in [in_the_url, apart] {
        let told = problem(&nats).await;
        assert_eq!(told, format!("nats at nats://{address}: the server refuses the user, token or key"));
        let error = refused(Nats { schema: n(), ..nats }).await;
        assert_eq!(error.kind(), Kind::Permission);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_stream_has_dropped_are_an_error_and_no_gap() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream("S", "s").await;
    publish(&context, "s", 0..10).await;
    context.get_stream("S").await.unwrap().purge().sequence(6).await.unwrap();
    let nats = Nats { from: From::Position, consumer: None, ..durable(broker.url()) };
    let connect = ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 };
    let split = nats.splits(&connect).await.unwrap().remove(0);
    let schema = nats.schema(&connect).await.unwrap();
    let open = async |last: u64| -> Result<()> {
        let position = bourn_engine::data::position::Position::of(&last)?;
        let splits = vec![(split.clone(), Some(position))];
        let env = Env::system();
        nats.source(bourn_engine::api::SourceContext { env, id: "it".into(), splits, schema: Arc::clone(&schema) })
            .await
            .map(drop)
    };
    open(5).await.unwrap();
    let error = open(3).await.unwrap_err();
    assert!(error.message().contains("has dropped the messages from 4 to 5"), "{error}");
}
