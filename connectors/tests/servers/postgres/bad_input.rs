//! Databases that are not what a job was planned for.

use bourn_connectors::generate::Generate;
use bourn_connectors::postgres::Postgres;
use bourn_engine::Kind;
use bourn_engine::api::{Connector, Source};
use bourn_engine::data::secret::Secret;
use bourn_engine::diagnostic::Problem;
use bourn_engine::graph::Graph;

use super::{connect, open, table};
use crate::support::job::engine;
use crate::support::postgres::{PASSWORD, Postgres as Server};

async fn problem(postgres: &Postgres) -> Problem {
    postgres.schema(&connect()).await.unwrap_err().0.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_planned_is_told_with_the_way_out() {
    let server = Server::start().await;
    let client = server.client().await;
    client.batch_execute("create table t (a int, b point, c int); create table k (id int primary key, n int); insert into k values (1)").await.unwrap();
    let at = |name: &str| table(&server, name);
    assert!(problem(&at("none")).await.message.contains("relation \"none\" does not exist"));
    assert!(problem(&at("t")).await.message.contains("no primary key of one column"));
    let with = |c: &str| Postgres { cursor: Some(c.into()), ..at("t") };
    let point = problem(&with("a")).await;
    assert_eq!(point.message, "column `b` is a point, which has no place here");
    assert_eq!(point.help.as_deref(), Some("select it as what it shows: `\"b\"::text`"));
    let cursor = Postgres { cursor: Some("m".into()), ..at("k") };
    assert_eq!(problem(&cursor).await.message, "there is no column `m`");
    let nulls = Postgres { cursor: Some("n".into()), ..at("k") };
    assert!(problem(&nulls).await.message.contains("`n` has nulls"));
    let twice =
        Postgres { table: None, query: Some("select 1 as a, 2 as a".into()), cursor: Some("a".into()), ..at("k") };
    assert_eq!(problem(&twice).await.message, "two columns are named `a`");
    let gone = Postgres { url: Secret::new("postgres://me@127.0.0.1:1/x?sslmode=disable"), ..at("k") };
    assert!(problem(&gone).await.message.contains("postgres at 127.0.0.1:1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_or_database_is_told_and_nothing_secret_is_shown() {
    let server = Server::start().await;
    let address = server.server.address();
    let at = |url: String| Postgres { url: Secret::new(url), ..table(&server, "t") };
    let wrong = at(format!("postgres://me:hunter2@{address}/postgres?sslmode=disable"));
    let told = problem(&wrong).await.message;
    assert_eq!(told, format!("postgres at {address}: password authentication failed for user \"me\""));
    let apart = Postgres {
        password: Some(Secret::new("hunter2")),
        ..at(format!("postgres://me@{address}/postgres?sslmode=disable"))
    };
    assert_eq!(problem(&apart).await.message, told);
    let database = problem(&at(format!("postgres://me:{PASSWORD}@{address}/none?sslmode=disable"))).await.message;
    assert_eq!(database, format!("postgres at {address}: database \"none\" does not exist"));
    let encrypted = problem(&at(format!("postgres://me:{PASSWORD}@{address}/postgres?sslmode=require"))).await.message;
    assert!(encrypted.contains("TLS"), "{encrypted}");
    let garbled = problem(&at(format!("postgres//me:{PASSWORD}@{address}"))).await.message;
    for message in [told, database, encrypted, garbled, format!("{wrong:?}")] {
        assert!(!message.contains("hunter2") && !message.contains(PASSWORD), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changes_after_planning_ends_the_job_with_the_column() {
    let server = Server::start().await;
    let client = server.client().await;
    client
        .batch_execute("create table t (id int primary key, n int, m int); insert into t values (1, 2, 3)")
        .await
        .unwrap();
    let every = Some("10ms".parse().unwrap());
    let mut source = open(&Postgres { every, ..table(&server, "t") }).await.unwrap();
    let chunk = source.read().await.unwrap().unwrap();
    assert_eq!(chunk.records.num_rows(), 1);
    client
        .batch_execute("alter table t add column o text; alter table t alter n type text; insert into t values (2)")
        .await
        .unwrap();
    let error = source.read().await.unwrap_err();
    assert_eq!(error.message(), "column `n` was int when the job was planned, and is text now");
    client.batch_execute("alter table t drop column n; insert into t values (3)").await.unwrap();
    let error = source.read().await.unwrap_err();
    assert!(error.message().contains("column q.n does not exist"), "{error}");
    assert_eq!(error.class(), "permanent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_vanishes_ends_the_job_and_says_so() {
    let server = Server::start().await;
    let client = server.client().await;
    client.batch_execute("create database other").await.unwrap();
    let url = Server::url(server.server.address()).replace("/postgres?", "/other?");
    let target = Postgres { create: true, url: Secret::new(&url), ..table(&server, "t") };
    let mut graph = Graph::new("it");
    graph.source("numbers", Generate { rate: Some("1000/s".parse().unwrap()), ..Generate::default() });
    graph.sink("table", target);
    let engine = engine();
    let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
    client.batch_execute("drop database other with (force)").await.unwrap();
    let error = job.wait().await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.message().contains("database \"other\" does not exist"), "{error}");
}
