//! An expression: a value for each row of a batch.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::diagnostic::Problem;
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;

use crate::{compile, errors};

/// A compiled SQL expression. A clone is cheap, and any number of lanes may evaluate the same one.
#[derive(Clone, Debug)]
pub struct Expression {
    sql: Arc<str>,
    physical: Arc<dyn PhysicalExpr>,
    field: Field,
}

impl Expression {
    /// Compiles a text against the columns there are.
    ///
    /// # Errors
    /// When the text is no expression, or does not fit the columns; the problem points into the text where it can.
    pub fn compile(sql: &str, schema: &SchemaRef) -> Result<Self, Problem> {
        Self::new(sql, compile::expression(sql, schema)?, schema)
    }

    /// The values of a column as another type, which is given by its SQL name (`bigint`, `timestamp`).
    ///
    /// # Errors
    /// When there is no such type, or the column can't become one. The problem points into `to`.
    pub fn cast(column: &str, to: &str, schema: &SchemaRef) -> Result<Self, Problem> {
        Self::new(&format!("cast({} as {to})", compile::quote(column)), compile::cast(column, to, schema)?, schema)
    }

    fn new(sql: &str, physical: Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Result<Self, Problem> {
        let field = match physical.downcast_ref::<Column>() {
            // The whole field: whether a text is a JSON document stands in its metadata.
            Some(column) => schema.field(column.index()).clone(),
            // Whether a function can return null is not always declared truly, so computed values always may.
            None => Field::new("", physical.data_type(schema).map_err(|e| errors::problem(&e))?, true),
        };
        Ok(Self { sql: sql.into(), physical, field })
    }

    /// The text that it was compiled from.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The type of its values.
    pub fn data_type(&self) -> &DataType {
        self.field.data_type()
    }

    /// Whether a value may be null: what its field says for a bare column, yes for anything that is computed.
    pub fn nullable(&self) -> bool {
        self.field.is_nullable()
    }

    /// The field of a column called `name` with its values. A bare column keeps its metadata.
    pub fn field(&self, name: &str) -> Field {
        self.field.clone().with_name(name)
    }

    /// The names of the columns it reads, in the order of the schema.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<_> = collect_columns(&self.physical).into_iter().collect();
        columns.sort_by_key(Column::index);
        columns.into_iter().map(|c| c.name().to_owned()).collect()
    }

    /// One value for each row. The values of a bare column are shared, not copied.
    ///
    /// # Errors
    /// When the value of one row can't be had (a failing cast, a division by zero): none is returned then.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        self.columnar(rows)?.into_array(rows.num_rows()).map_err(|e| self.error(e))
    }

    /// As [`Expression::evaluate`], where a constant stays one value.
    pub(crate) fn columnar(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        self.physical.evaluate(rows).map_err(|e| self.error(e))
    }

    fn error(&self, error: datafusion_common::DataFusionError) -> bourn_engine::Error {
        let mut shown: String = self.sql.chars().take(80).collect();
        if shown.len() < self.sql.len() {
            shown.push('…');
        }
        errors::error(error).context(format!("`{shown}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::array::{ListArray, StructArray};
    use arrow::datatypes::{Float64Type, Int64Type, Schema};
    use bourn_engine::Kind;
    use bourn_engine::data::columns::{MOMENT, is_json, json_field};

    fn rows() -> RecordBatch {
        let x = Field::new("x", DataType::Int64, true);
        let fields = vec![
            Field::new("Delay", DataType::Int32, true),
            Field::new("k", DataType::Utf8, true),
            Field::new("at", DataType::Utf8, true),
            Field::new("t", MOMENT, false),
            Field::new("Cost Total $", DataType::Int64, false),
            Field::new("s", DataType::Struct(vec![x.clone()].into()), false),
            Field::new("l", DataType::new_list(DataType::Int64, true), true),
            json_field("doc"),
        ];
        let list = [Some(vec![Some(7)]), Some(vec![None, Some(8)])];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(90), None])),
            Arc::new(StringArray::from(vec!["12", "b"])),
            Arc::new(StringArray::from(vec!["2001-01-01T01:00:00+01:00", "2001-01-01T00:00:01.5Z"])),
            Arc::new(TimestampMicrosecondArray::from(vec![978_307_200_000_000, 978_307_200_000_000])),
            Arc::new(Int64Array::from(vec![i64::MAX, 1])),
            Arc::new(StructArray::from(vec![(Arc::new(x), Arc::new(Int64Array::from(vec![5, 6])) as ArrayRef)])),
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(list)),
            Arc::new(StringArray::from(vec!["{}", "[]"])),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn compiled(sql: &str) -> Expression {
        Expression::compile(sql, &rows().schema()).unwrap_or_else(|p| panic!("{sql}: {p:?}"))
    }

    /// Numbers, truths and texts alike as text.
    fn values(sql: &str) -> Vec<Option<String>> {
        let values = compiled(sql).evaluate(&rows()).unwrap_or_else(|e| panic!("{e:?}"));
        let text = arrow::compute::cast(&values, &DataType::Utf8).unwrap();
        text.as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect()
    }

    #[test]
    fn expressions_over_all_kinds_of_columns() {
        for (sql, first, second) in [
            ("Delay / 60.0", Some("1.5"), None),
            ("coalesce(Delay, 0) + 1", Some("91"), Some("1")),
            ("case when k like '1%' then 'one' end", Some("one"), None),
            ("UPPER(substr(k, 1, 1))", Some("1"), Some("B")),
            ("s.x + s['x']", Some("10"), Some("12")),
            ("l[1]", Some("7"), None),
            ("array_length(l)", Some("1"), Some("2")),
            ("try_cast(k as int)", Some("12"), None),
            ("extract(year from t)", Some("2001"), Some("2001")),
            ("\"Cost Total $\" - 1", Some("9223372036854775806"), Some("0")),
            ("Delay in (90, 91)", Some("true"), None),
            ("md5('a')", Some("0cc175b9c0f1b6a831c399e269772661"), Some("0cc175b9c0f1b6a831c399e269772661")),
        ] {
            assert_eq!(values(sql), [first.map(str::to_owned), second.map(str::to_owned)], "{sql}");
        }
    }

    #[test]
    fn text_in_rfc_3339_counts_as_a_moment() {
        for sql in ["at > t", "at > '2001-01-01T00:00:00Z'::timestamp", "t < at", "cast(at as timestamp) > t"] {
            assert_eq!(values(sql), [Some("false".to_owned()), Some("true".to_owned())], "{sql}");
        }
        assert_eq!(values("t = '2001-01-01T00:00:00Z'"), vec![Some("true".to_owned()); 2]);
        assert_eq!(compiled("at::timestamp").data_type(), &MOMENT);
    }

    #[test]
    fn a_bare_column_is_shared_and_keeps_its_metadata() {
        let rows = rows();
        assert!(Arc::ptr_eq(&compiled("doc").evaluate(&rows).unwrap(), rows.column(7)));
        assert!(is_json(&compiled("doc").field("renamed")) && !compiled("t").nullable());
        assert!(!is_json(&compiled("doc || ''").field("text")));
    }

    #[test]
    fn a_constant_has_a_value_for_each_row() {
        let values = compiled("1.5").evaluate(&rows()).unwrap();
        assert_eq!(values.as_primitive::<Float64Type>().values(), &[1.5, 1.5]);
        assert_eq!(compiled("'x'").evaluate(&rows().slice(0, 0)).unwrap().len(), 0);
    }

    #[test]
    fn text_comes_out_as_one_type() {
        for sql in ["'x'", "k || 'x'", "substr(k, 1)", "cast(Delay as varchar)", "split_part(k, 'x', 1)", "md5(k)"] {
            assert_eq!(compiled(sql).data_type(), &DataType::Utf8, "{sql}");
            assert_eq!(compiled(sql).evaluate(&rows()).unwrap().data_type(), &DataType::Utf8, "{sql}");
        }
    }

    #[test]
    fn the_columns_that_are_read_are_named_in_the_order_of_the_schema() {
        assert_eq!(compiled("t > at and Delay > 1 and t < at").columns(), ["Delay", "at", "t"]);
        assert!(compiled("1 + 1").columns().is_empty());
    }

    #[test]
    fn a_value_that_can_not_be_had_is_an_error_that_names_the_expression() {
        for (sql, said) in [
            ("cast(k as int)", "cannot cast string 'b' to value of int type"),
            ("\"Cost Total $\" + 1", "overflow happened on: 9223372036854775807 + 1"),
            ("Delay / 0", "divide by zero error"),
        ] {
            let e = compiled(sql).evaluate(&rows()).unwrap_err();
            assert_eq!((e.kind(), e.message()), (Kind::Validation, format!("`{sql}`: {said}").as_str()));
            assert!(e.source().is_some());
        }
    }

    #[test]
    fn a_column_is_cast_to_a_type_by_its_sql_name() {
        let schema = rows().schema();
        let cast = |column, to| Expression::cast(column, to, &schema);
        assert_eq!(cast("Cost Total $", "double").unwrap().data_type(), &DataType::Float64);
        assert_eq!(cast("at", "timestamp").unwrap().data_type(), &MOMENT);
        assert_eq!(cast("Delay", "text").unwrap().data_type(), &DataType::Utf8);
        assert_eq!(cast("Delay", "integr").unwrap_err().message, "unsupported SQL type integr");
        let problem = cast("Delay", "int int").unwrap_err();
        assert_eq!((problem.part, problem.message.as_str()), (Some(4..7), "the text ends before `int`"));
        assert!(cast("Delay", "").is_err());
    }
}
