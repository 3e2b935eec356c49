//! A text that may be an SQL expression: refused with its place, or worked, one row at a time as all at once.
#![no_main]

mod finding;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::record_batch::RecordBatch;
use bourn_engine::diagnostic::Problem;
use bourn_expr::{Expression, Predicate};
use libfuzzer_sys::fuzz_target;

static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
    let x = Arc::new(Field::new("x", DataType::Int64, true));
    let columns: [(&str, ArrayRef); 11] = [
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(-1)]))),
        ("n", Arc::new(Int32Array::from(vec![Some(0), Some(i32::MIN), None]))),
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("s", Arc::new(StringArray::from(vec![Some("12"), Some("é, b"), None]))),
        ("at", Arc::new(StringArray::from(vec!["2001-01-01T01:00:00+01:00", "2001-01-01T00:00:01.5Z", ""]))),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![Some(978_307_200_000_000), Some(i64::MIN), None]))),
        ("d", Arc::new(Date32Array::from(vec![Some(11_323), None, Some(i32::MAX)]))),
        ("m", Arc::new(Decimal128Array::from(vec![Some(150), None, Some(i128::MAX)]))),
        (
            "l",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
                Some(vec![Some(7), None]),
                None,
                Some(vec![]),
            ])),
        ),
        ("r", Arc::new(StructArray::from(vec![(x, Arc::new(Int64Array::from(vec![5, 6, 7])) as ArrayRef)]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)))
        .expect("the columns are of one length")
});

fuzz_target!(init: finding::only_what_escapes(), |bytes: &[u8]| finding::check(bytes, || {
    if let Ok(sql) = std::str::from_utf8(bytes) {
        work(sql);
    }
}));

fn work(sql: &str) {
    let schema = ROWS.schema();
    match Expression::compile(sql, &schema) {
        Ok(expression) => evaluate(&expression),
        Err(problem) => placed(sql, &problem),
    }
    match Predicate::compile(sql, &schema) {
        Ok(predicate) => drop(catch_unwind(AssertUnwindSafe(|| predicate.select(&ROWS)))),
        Err(problem) => placed(sql, &problem),
    }
    if let Err(problem) = Expression::cast("s", sql, &schema) {
        placed(sql, &problem);
    }
}

fn evaluate(expression: &Expression) {
    // A panic of a function is an error of its row: the runtime narrows it.
    let Ok(Ok(values)) = catch_unwind(AssertUnwindSafe(|| expression.evaluate(&ROWS))) else { return };
    assert_eq!((values.len(), values.data_type()), (ROWS.num_rows(), expression.data_type()));
    for row in 0..ROWS.num_rows() {
        let alone = expression.evaluate(&ROWS.slice(row, 1)).expect("what works in company works alone");
        assert_eq!(&alone, &values.slice(row, 1), "row {row}");
    }
}

fn placed(sql: &str, problem: &Problem) {
    assert!(problem.part.clone().is_none_or(|part| sql.get(part).is_some()), "not in the text: {problem:?}");
    assert_ne!(problem.message, "this can't be planned: the SQL library panicked");
}
