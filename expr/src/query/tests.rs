//! Tests of queries.

use arrow::array::{Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use bourn_engine::data::columns::{is_json, json_field};

use super::*;

fn rows() -> RecordBatch {
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("Kind", DataType::Utf8, true),
        Field::new("x", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        json_field("doc"),
    ];
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        vec![
            Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5])),
            Arc::new(StringArray::from(vec![Some("b"), Some("a"), None, Some("b"), Some("a")])),
            Arc::new(Int64Array::from(vec![Some(10), Some(20), Some(30), None, Some(20)])),
            Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5, 3.5, 4.5])),
            Arc::new(StringArray::from(vec!["{}"; 5])),
        ],
    )
    .unwrap()
}

/// The rows of the result, each as `a,b,c`, under its names.
fn result(sql: &str) -> Vec<String> {
    let query = Query::compile(sql, &rows().schema()).unwrap_or_else(|p| panic!("{sql}: {p:?}"));
    let rows = query.run(&rows()).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    assert_eq!(rows.schema_ref(), query.schema(), "{sql}");
    let table = pretty_format_batches(&[rows]).unwrap().to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",");
    table.lines().filter(|l| l.starts_with('|')).map(cells).collect()
}

/// `message | marked part | help`
fn problem(sql: &str) -> String {
    let p = Query::compile(sql, &rows().schema()).expect_err(sql);
    let part = p.part.map_or("-".to_owned(), |r| sql[r].to_owned());
    [p.message, part, p.help.unwrap_or_default()].join(" | ")
}

#[test]
fn columns_are_chosen_made_and_filtered() {
    assert_eq!(
        result("select id, x * 2 as \"two x\", upper(Kind) k from input where x >= 20 and Kind = 'a'"),
        ["id,two x,k", "2,40,A", "5,40,A"]
    );
    assert_eq!(result("select * from input where false")[0], "id,Kind,x,f,doc");
    assert_eq!(result("select i.id, x from input as i where i.id = 4 and i.x is null").len(), 2);
    assert_eq!(result("select t.n + 1 as m from (select id as n from input where id < 3) as t"), ["m", "2", "3"]);
    assert_eq!(result("with t as (select max(x) as m from input) select m - 1 as n from t"), ["n", "29"]);
}

#[test]
fn groups_leave_in_the_order_in_which_they_first_occur() {
    assert_eq!(
        result("select Kind, count(*) as n, sum(x) as s, avg(f) as a, min(id) as lo from input group by Kind"),
        ["Kind,n,s,a,lo", "b,2,10,2.0,1", "a,2,40,3.0,2", ",1,30,2.5,3"]
    );
    assert_eq!(
        result("select Kind, sum(x) + 1 as s from input group by Kind having count(x) > 1 order by s desc"),
        ["Kind,s", "a,41"]
    );
    assert_eq!(
        result("select id % 2 as odd, count(*) filter (where x > 10) as n from input group by id % 2"),
        ["odd,n", "1,2", "0,1"]
    );
    assert_eq!(
        result("select sum(distinct x) as s, count(distinct Kind) as k, median(id) as m from input"),
        ["s,k,m", "60,2,3.0"]
    );
}

#[test]
fn an_aggregate_over_no_rows_is_one_row_and_no_group() {
    assert_eq!(result("select count(*) as n, sum(x) as s from input where false"), ["n,s", "0,"]);
    assert_eq!(result("select Kind, count(*) as n from input where false group by Kind"), ["Kind,n"]);
}

#[test]
fn rows_are_sorted_cut_and_told_apart() {
    assert_eq!(result("select id from input order by Kind nulls first, x desc, id"), ["id", "3", "2", "5", "4", "1"]);
    assert_eq!(result("select id from input order by Kind"), ["id", "2", "5", "1", "4", "3"]);
    assert_eq!(result("select id from input order by id desc limit 2 offset 1"), ["id", "4", "3"]);
    assert_eq!(result("select distinct Kind, x > 15 as large from input limit 3").len(), 4);
    assert_eq!(result("select distinct Kind from input"), ["Kind", "b", "a", ""]);
}

#[test]
fn text_is_one_type_and_a_bare_column_keeps_what_it_is() {
    let schema = rows().schema();
    let query =
        Query::compile("select doc, substr(Kind, 1) as s, max(Kind) as m from input group by doc, Kind", &schema);
    let schema = query.unwrap().schema().clone();
    assert_eq!((schema.field(1).data_type(), schema.field(2).data_type()), (&DataType::Utf8, &DataType::Utf8));
    assert!(is_json(schema.field(0)) && !is_json(schema.field(1)));
}

#[test]
fn a_sum_that_has_no_room_is_an_error_and_not_a_wrong_number() {
    let max = RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![i64::MAX, 1])) as _)]).unwrap();
    let query = Query::compile("select sum(x) as s from input", &max.schema()).unwrap();
    let error = query.run(&max).unwrap_err();
    assert_eq!(error.message(), "`select sum(x) as s from input`: overflow happened on the sum 9223372036854775808");
    assert!(query.run(&max.slice(0, 1)).is_ok());
    let error = Query::compile("select x + 1 from input", &max.schema()).unwrap().run(&max).unwrap_err();
    assert!(error.message().contains("overflow happened"), "{error}");
}

#[test]
fn what_is_not_supported_is_refused_with_its_reason() {
    for (sql, said) in [
        ("select idd from input", "unknown column `idd` | idd | did you mean `id`?"),
        ("select id from rows", "there is no table `rows` here: the rows of the batch are `input` | - | "),
        ("select 1", "a query reads the rows of the batch: `select … from input` | - | "),
        ("select * from input a join input b on a.id = b.id", "a query reads one table: no joins and no unions | - | "),
        (
            "select id from input union all select id from input",
            "a query reads one table: no joins and no unions | - | ",
        ),
        (
            "select row_number() over (order by id) from input",
            "`row_number(…) over (…)` is not supported: a batch has no order | row_number | ",
        ),
        (
            "select id from input where x = (select max(x) from input)",
            "a subquery can't stand in an expression here | - | one in `from` can: `select … from (select … from input) as t`",
        ),
        ("select summ(x) from input", "unknown function `summ` | summ | did you mean `sum`?"),
        ("select Kind, x from input group by Kind", ""),
        ("select now() from input", "`now` has no value that stays the same for a row | now | "),
        (
            "select array_agg(x order by id) from input",
            "`order by` in an aggregate is not supported: sort in a `select` in brackets | - | ",
        ),
        ("select count(*) from input group by rollup (Kind)", "unknown function `rollup` | rollup | "),
        ("select id from input; select 1", "the text ends before `;` | ; | "),
        ("delete from input", ""),
        ("  ", "the expression is empty | - | "),
    ] {
        let found = problem(sql);
        assert!(found.starts_with(said), "{sql}\n  {found}");
    }
}

proptest::proptest! {
    #[test]
    fn no_mix_of_sql_words_makes_it_panic(words in proptest::collection::vec(proptest::sample::select(WORDS), 1..14)) {
        let sql = format!("select {}", words.join(" "));
        let compiled = Query::compile(&sql, &rows().schema());
        if let Ok(query) = &compiled {
            let _any = query.run(&rows());
        }
        let panicked = compiled.err().is_some_and(|p| p.message.contains("panicked"));
        proptest::prop_assert!(!panicked, "{sql}");
    }
}

const WORDS: &[&str] = &[
    "id",
    "Kind",
    "x",
    "f",
    "*",
    ",",
    "1",
    "'a'",
    "null",
    "+",
    "=",
    "(",
    ")",
    "from",
    "input",
    "from input",
    "where",
    "group by",
    "order by",
    "having",
    "limit",
    "distinct",
    "as",
    "t",
    "sum(x)",
    "count(*)",
    "max(Kind)",
    "count(",
    "select",
    "(select x from input)",
    "over ()",
    "join",
    "union",
    "desc",
    "filter (where x > 1)",
    "with",
    "in",
    "1.5",
];
