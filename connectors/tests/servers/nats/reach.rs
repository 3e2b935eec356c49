//! What `validate --connect` finds at a server, without changing anything there.

use bourn_engine::api::{Known, Side};

use super::*;

async fn told(nats: &Nats, side: Side<'_>) -> Option<String> {
    let context = ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 };
    nats.reach(side, &context).await.err().map(|Problems(p)| p[0].message.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_missing_is_told_to_a_source_and_to_a_sink() {
    let broker = Broker::start(&[]).await;
    let (source, place) = (durable(broker.url()), format!("nats at {}", broker.url()));
    let columns = rows![{"n": 1}].schema();
    let sink = |subject: &str| Nats { subject: Some(subject.into()), ..Nats::at(broker.url()) };
    assert_eq!(told(&source, Side::Source).await.unwrap(), format!("{place}: there is no stream `S`"));
    let missing = told(&sink("s"), Side::Sink(&columns)).await;
    assert_eq!(missing.unwrap(), format!("{place}: no stream takes the subject `s`"));
    let context = broker.stream("S", "s").await;
    assert_eq!(told(&source, Side::Source).await, None);
    assert_eq!(told(&sink("s"), Side::Sink(&columns)).await, None);
    // A subject of each row's own is not known yet.
    assert_eq!(told(&sink("s.${n}"), Side::Sink(&columns)).await, None);
    // No consumer was made and no message taken.
    assert_eq!(context.get_stream("S").await.unwrap().cached_info().state.consumer_count, 0);
}

#[tokio::test]
async fn the_columns_are_open_without_a_server_unless_they_are_declared() {
    let context = ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 };
    let nats = || durable("nats://me:hunter2@127.0.0.1:1".to_owned());
    let asks = Known::Asks("nats at nats://127.0.0.1:1".into());
    assert_eq!(Nats { schema: None, ..nats() }.known(&context).await, Ok(asks));
    let declared = nats().schema(&context).await.unwrap();
    assert_eq!(nats().known(&context).await, Ok(Known::Schema(declared)));
    assert!(Nats { consumer: None, ..nats() }.known(&context).await.is_err());
}
