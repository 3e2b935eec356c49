//! What a sink has published, each row once.

use super::*;

/// The numbers in a stream, and how many different ones.
async fn found(broker: &Broker) -> (usize, usize) {
    let found = messages(&broker.context().await, "S", "s.>").await;
    let distinct: BTreeSet<_> = found.iter().map(|v| v["n"].as_u64().unwrap()).collect();
    (found.len(), distinct.len())
}

/// A job that publishes the numbers below `rows` through `proxy`, each to a subject of its own.
fn numbered(rows: u64, proxy: &Proxy) -> Graph {
    let mut graph = Graph::new("it");
    graph.source("numbers", bourn_connectors::generate::Generate::rows(rows));
    let subject = Some("s.${n}".to_owned());
    graph.sink("subject", Nats { subject, ..Nats::at(format!("nats://{}", proxy.address())) });
    graph
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_publishes_each_row_once_whatever_happens_on_the_way() {
    let mut broker = Broker::start(&[]).await;
    broker.stream("S", "s.>").await;
    let proxy = Proxy::before(broker.server.address()).await;
    let job = start(numbered(30_000, &proxy)).await;
    let context = broker.context().await;
    let count = async |context: &Context| {
        let stream = context.get_stream("S").await.unwrap();
        stream.cached_info().state.messages
    };
    until("the first messages", || async { count(&context).await > 0 }).await;
    proxy.set(Network::Cut);
    proxy.set(Network::Open);
    let cut_at = count(&context).await;
    until("more messages", || async { count(&context).await > cut_at.max(1_000) }).await;
    broker.server.kill().await;
    broker.server.start_again().await;
    job.wait().await.unwrap();
    assert_eq!(found(&broker).await, (30_000, 30_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_without_a_word_is_published_again_under_its_id_and_is_there_once() {
    let broker = Broker::start(&[]).await;
    broker.stream("S", "s.>").await;
    let proxy = Proxy::before(broker.server.address()).await;
    // The server hears of the row, and the connection is gone before it can say so.
    proxy.set(Network::CutBehind(b" s.777 "));
    start(numbered(2_000, &proxy)).await.wait().await.unwrap();
    assert_eq!(found(&broker).await, (2_000, 2_000));
}
