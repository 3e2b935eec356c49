//! Steps that ask in SQL: a database, and what steps before them gave.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::Folder;

const SPEC: &str = "\
name: bill
input: { schema: { type: object, required: [who] } }
steps:
  - id: orders
    sql:
      database: shop.db
      query: select item, price from orders where who = ?1 order by id
      params: ['${input.who}']
  - id: sums
    sql: { rows: '${orders.results}', query: 'select count(*) as items, sum(price) as total from input' }
  - id: kept
    if: '${.orders.results != []}'
    command: sql
    with:
      database: shop.db
      query: insert into bills (who, total) values (?1, ?2) on conflict do nothing
      params: ['${input.who}', '${sums.results[0].total}']
  - { id: told, set: '${.sums.results[0].total // 0}' }
";

fn shop() -> Folder {
    let folder = Folder::with(&[("bill.yaml", SPEC)]);
    let tables = "CREATE TABLE orders (id INTEGER PRIMARY KEY, who TEXT, item TEXT, price REAL);
        CREATE TABLE bills (who TEXT PRIMARY KEY, total REAL);
        INSERT INTO orders (who, item, price) VALUES ('ada', 'pen', 2.5), ('bob', 'ink', 4), ('ada', 'ink', 4);";
    Connection::open(folder.path("shop.db")).unwrap().execute_batch(tables).unwrap();
    folder
}

#[test]
fn steps_ask_a_database_and_the_rows_that_they_have() {
    let folder = shop();
    let lines = ["ada", "bob", "eve'; drop table orders; --"].map(|who| json!({ "who": who }).to_string()).join("\n");
    let told = folder.fed(&["run", "bill.yaml", "--inputs", "-", "-o", "json"], &lines);
    let documents: Vec<Value> = told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |what: &str| documents.iter().map(|d| d["workflow_results"][what].clone()).collect::<Vec<_>>();
    assert_eq!(of("told"), [json!(6.5), json!(4.0), json!(0)], "{}", told.err);
    assert_eq!(of("orders")[0], json!([{"item": "pen", "price": 2.5}, {"item": "ink", "price": 4.0}]));
    assert_eq!(of("sums")[0], json!([{"items": 2, "total": 6.5}]));
    assert_eq!(of("kept"), [json!({"changed": 1}), json!({"changed": 1}), Value::Null]);
    let bills = Connection::open(folder.path("shop.db")).unwrap();
    let count: i64 = bills.query_row("SELECT count(*) FROM bills", (), |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
    // A replay asks no database: what that gave is in the history, and what was made of it is made again.
    std::fs::remove_file(folder.path("shop.db")).unwrap();
    let id = documents[0]["run_id"].as_str().unwrap();
    let again = folder.bourn(&["runs", "replay", id]).quietly();
    assert!(again.contains("same decisions: 4 steps"), "{again}");
}

#[test]
fn what_a_step_can_not_ask_is_told_with_its_place() {
    let folder = Folder::with(&[(
        "bad.yaml",
        "steps:\n  - { id: a, sql: select 1 }\n  - { id: b, sql: { database: x.db, query: 'select ${input.n}' } }\n",
    )]);
    let told = folder.bourn(&["validate", "bad.yaml"]).refused(2);
    assert!(told.contains("bad.yaml:2:5 it does not say what is asked (say `database: FILE`"), "{told}");
    assert!(told.contains("`${input.n}` would become a part of the query (write `?1` here"), "{told}");
    let folder = Folder::with(&[("none.yaml", "steps: [ { id: a, sql: { database: none.db, query: select 1 } } ]\n")]);
    let told = folder.bourn(&["run", "none.yaml", "--input", "{}", "-o", "json"]);
    let document: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((told.code, &document["error_analysis"]["instance"]), (Some(1), &json!("/steps/a")));
    assert!(!folder.path("none.db").exists());
}
