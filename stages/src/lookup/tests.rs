//! Statements over rows that are given, and over a database, and what can't be asked.

use bourn_engine::Kind;
use bourn_engine::api::CallContext;
use bourn_engine::env::Env;
use bourn_engine::rows;
use bourn_engine::testing::conformance;
use bourn_engine::testing::harness::Harness;
use serde_json::json;

use super::*;

fn lookup(config: Value) -> Lookup {
    serde_json::from_value(config).unwrap()
}

fn of_orders(query: &str) -> Lookup {
    lookup(json!({ "rows": "${orders}", "query": query }))
}

fn orders() -> RecordBatch {
    rows![
        {"id": 1, "orders": [{"who": "a", "total": 2.5}, {"who": "b", "total": 1}, {"who": "a", "total": 4}]},
        {"id": 2, "orders": []},
    ]
}

fn given(config: &Lookup, rows: &RecordBatch) -> (Vec<Value>, Vec<String>) {
    let mut stage = Harness::new(config, &[rows.schema()]).unwrap();
    stage.process(rows).unwrap();
    let rejected = stage.said.rejected.iter().map(|r| r.error.message().to_owned()).collect();
    (stage.said.rows(0).iter().map(|row| row["result"].clone()).collect(), rejected)
}

#[test]
fn rows_that_are_given_are_a_table() {
    let groups = of_orders("select who, sum(total) as total from input group by who order by who");
    conformance::stage(groups.clone(), orders()).check();
    let (found, rejected) = given(&groups, &orders());
    assert_eq!(found, [json!([{"who": "a", "total": 6.5}, {"who": "b", "total": 1.0}]), json!([])]);
    assert_eq!(rejected, [""; 0]);
}

#[test]
fn what_is_no_table_or_too_much_is_told_of_its_row() {
    let (found, rejected) = given(&of_orders("select whom from input"), &orders());
    assert_eq!(
        (found, rejected),
        (vec![json!([])], vec!["the query: unknown column `whom` (did you mean `who`?)".into()])
    );
    let told = |rows: Value| given::ask("select * from input", &rows, 9).unwrap_err().message().to_owned();
    assert!(told(json!([{"a": 1}, {"a": {"b": 2}}])).starts_with("the rows are not alike: "));
    assert_eq!(told(json!([{"a": 1}, 2])), "`rows` is no list of objects: it has 2");
    assert_eq!(told(json!({"a": 1})), "`rows` is no list of objects");
    let few = Lookup { rows_max: 2, ..of_orders("select * from input") };
    assert_eq!(given(&few, &orders()).1, ["the query gives more than 2 rows (`rows_max`)"]);
}

#[test]
fn what_can_not_be_asked_is_told() {
    let told = |config: Value| {
        let problems = lookup(config).schema(&[orders().schema()]).unwrap_err().0;
        problems.into_iter().map(|p| format!("{:?} {}", p.path, p.message)).collect::<Vec<_>>().join("\n")
    };
    assert!(told(json!({"query": "select 1"})).contains("it does not say what is asked"));
    assert!(told(json!({"query": " ", "database": "a.db"})).contains("there is nothing to ask"));
    assert!(told(json!({"query": "select 1", "database": "a.db", "rows": "${orders}"})).contains("either a database"));
    assert!(told(json!({"query": "select 1", "params": [1], "rows": "${orders}"})).contains("has no `params`"));
    assert!(told(json!({"query": "select 1", "params": ["${idd}"], "database": "a.db"})).contains("idd"));
    let injected = told(json!({"query": "select * from t where id = ${id}", "database": "a.db"}));
    assert!(injected.contains("`${id}` would become a part of the query"), "{injected}");
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use bourn_engine::api::{Call, Reply};
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::answer::PerRow;

    fn shop() -> (TempDir, String) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.db").display().to_string();
        let tables =
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, who TEXT, total REAL, paid BOOLEAN, more JSON, raw BLOB);
            INSERT INTO orders VALUES (1, 'a', 2.5, 1, '{\"x\": [1]}', x'00ff'), (2, 'b', 1, NULL, NULL, NULL);";
        Connection::open(&path).unwrap().execute_batch(tables).unwrap();
        (folder, path)
    }

    async fn ask(config: &Lookup, rows: &RecordBatch) -> Result<Vec<Value>> {
        let ask = super::super::database::Database::new(config)?;
        let call = PerRow::new(ask, &rows.schema(), "result")?;
        let Reply { rows, rejected, .. } = call.call(rows.clone(), &CallContext::of(Env::system(), "orders")).await?;
        match rejected.into_iter().next() {
            Some(rejected) => Err(rejected.error),
            None => (0..rows.num_rows())
                .map(|row| Ok(bourn_engine::data::json::row_value(&rows, row)?["result"].clone()))
                .collect(),
        }
    }

    #[tokio::test]
    async fn a_database_is_asked_for_each_row_with_what_it_has() {
        let (_folder, path) = shop();
        let by_id =
            lookup(json!({"database": path, "query": "select * from orders where id = ?1", "params": ["${id}"]}));
        let found = ask(&by_id, &rows![{"id": 1}, {"id": 2}, {"id": 3}]).await.unwrap();
        let first = json!([{"id": 1, "who": "a", "total": 2.5, "paid": 1, "more": {"x": [1]}, "raw": "00ff"}]);
        let second = json!([{"id": 2, "who": "b", "total": 1.0, "paid": null, "more": null, "raw": null}]);
        assert_eq!(found, [first, second, json!([])]);
        // What a row has is a value, whatever it looks like.
        let by_name =
            lookup(json!({"database": path, "query": "select id from orders where who = ?", "params": ["${who}"]}));
        let found = ask(&by_name, &rows![{"who": "a' or '1' = '1"}, {"who": "b"}]).await.unwrap();
        assert_eq!(found, [json!([]), json!([{"id": 2}])]);
    }

    #[tokio::test]
    async fn what_changes_a_database_says_how_much() {
        let (_folder, path) = shop();
        let add = lookup(json!({
            "database": path, "query": "insert into orders (id, who, total, paid, more) values (?1, ?2, ?3, ?4, ?5)",
            "params": ["${id}", "new ${id}", 0.5, true, ["${id}"]],
        }));
        assert_eq!(
            ask(&add, &rows![{"id": 7}, {"id": 8}]).await.unwrap(),
            [json!({"changed": 1}), json!({"changed": 1})]
        );
        let all = lookup(json!({"database": path, "query": "select who, paid, more from orders where id > 6"}));
        let expected = json!([{"who": "new 7", "paid": 1, "more": [7]}, {"who": "new 8", "paid": 1, "more": [8]}]);
        assert_eq!(ask(&all, &rows![{"id": 0}]).await.unwrap(), [expected]);
        let twice = ask(&add, &rows![{"id": 7}]).await.unwrap_err();
        assert_eq!(twice.kind(), Kind::Validation);
        assert!(twice.message().contains("UNIQUE constraint failed"), "{twice}");
    }

    #[tokio::test]
    async fn what_a_database_can_not_answer_is_told() {
        let (_folder, path) = shop();
        let told = async |config: Value| ask(&lookup(config), &rows![{"id": 1}]).await.unwrap_err();
        let none = told(json!({"database": "nowhere/none.db", "query": "select 1"})).await;
        assert_eq!(none.kind(), Kind::NotFound, "{none}");
        let syntax = told(json!({"database": path, "query": "selec 1"})).await;
        assert!(syntax.message().contains("near \"selec\": syntax error"), "{syntax}");
        let few = told(json!({"database": path, "query": "select ?1, ?2", "params": [1]})).await;
        assert!(few.message().contains("the query has 2 parameters, and `params` 1"), "{few}");
        let many = told(json!({"database": path, "query": "select * from orders", "rows_max": 1})).await;
        assert!(many.message().contains("more than 1 rows"), "{many}");
        let two = told(json!({"database": path, "query": "delete from orders; delete from orders"})).await;
        assert!(two.message().contains("Multiple statements"), "{two}");
        let large = told(json!({"database": path, "query": "select ?1", "params": [u64::MAX]})).await;
        assert!(large.message().contains("no number as large"), "{large}");
        // Another program writes.
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let busy = told(json!({"database": path, "query": "select id from orders"})).await;
        assert_eq!((busy.kind(), busy.class()), (Kind::Io, "transient"), "{busy}");
    }
}
