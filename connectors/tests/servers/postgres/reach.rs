//! What `validate --connect` finds at a server, without changing anything there.

use bourn_engine::api::{Known, Side};
use bourn_engine::diagnostic::Problem;

use super::*;

async fn problem(postgres: &Postgres, like: &[Value]) -> Option<Problem> {
    let schema = batch(like).schema();
    postgres.reach(Side::Sink(&schema), &connect()).await.err().map(|Problems(mut p)| p.remove(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_is_told_the_table_or_column_that_is_missing() {
    let server = Server::start().await;
    let client = server.client().await;
    client.batch_execute("create table t (n bigint, name text, day date)").await.unwrap();
    let row = [json!({"n": 1, "name": "a"})];
    assert_eq!(problem(&table(&server, "t"), &row).await, None);
    let place = server.server.address();
    let missing = problem(&table(&server, "orders"), &row).await.unwrap();
    assert_eq!(missing.message, format!("postgres at {place}: relation \"orders\" does not exist"));
    assert_eq!(missing.path, ["table".into()]);
    let column = problem(&table(&server, "t"), &[json!({"n": 1, "total": 2})]).await.unwrap();
    assert_eq!(column.message, format!("postgres at {place}: column t.total does not exist"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_to_be_made_may_be_missing_and_is_not_made() {
    let server = Server::start().await;
    let client = server.client().await;
    let row = [json!({"n": 1, "name": "a"})];
    assert_eq!(problem(&upserted(table(&server, "fresh")), &row).await, None);
    let made: bool = client.query_one("select to_regclass('fresh') is not null", &[]).await.unwrap().get(0);
    assert!(!made);
    client.batch_execute("create table there (id bigint)").await.unwrap();
    let there = problem(&Postgres { create: true, ..table(&server, "there") }, &row).await.unwrap();
    assert!(there.message.ends_with("column t.n does not exist"), "{there:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_knows_no_columns_without_its_server_and_who_is_let_in_is_told_at_the_url() {
    let server = Server::start().await;
    let place = server.server.address();
    assert_eq!(table(&server, "t").known(&connect()).await, Ok(Known::Asks(format!("postgres at {place}"))));
    let stranger = Postgres::new(format!("postgres://me:wrong@{place}/postgres?sslmode=disable"), "t");
    let refused = problem(&stranger, &[json!({"n": 1})]).await.unwrap();
    assert!(refused.message.contains("password authentication failed"), "{refused:?}");
    assert_eq!(refused.path, ["url".into()]);
}
