//! Rows out of nothing: a counter, and columns computed from it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSource, Capabilities, Chunk, ConnectContext, Connector, Replay, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::data::units::Rate;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use bourn_expr::Expression;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pace::Pace;

/// Generates rows: a counter `n` from 0, or columns computed from it.
///
/// The same configuration generates the same rows, so a job that was cut off goes on where it was.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// How many rows; without end if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many in a length of time: `1000/s`; as fast as they are taken if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The columns with their SQL expressions over `n`: `{ id: n, name: "'user ' || (n % 10)" }`; `n` alone if it is not
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<IndexMap<String, String>>,
    /// The most rows at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8192))]
    pub batch: Option<usize>,
}

fn counter() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

impl Generate {
    /// This many rows of a counter.
    pub fn rows(rows: u64) -> Self {
        Self { rows: Some(rows), ..Self::default() }
    }

    fn compile(&self) -> Result<Vec<(Field, Expression)>, Problems> {
        let columns = match &self.columns {
            Some(columns) => columns.clone(),
            None => [("n".to_owned(), "n".to_owned())].into(),
        };
        let (mut compiled, mut problems) = (Vec::new(), Vec::new());
        for (name, sql) in &columns {
            match Expression::compile(sql, &counter()) {
                Ok(expression) => compiled.push((expression.field(name), expression)),
                Err(problem) => problems.push(problem.under(name.as_str()).under("columns")),
            }
        }
        if columns.is_empty() {
            problems
                .push(Problem::new("there is no column").under("columns").help("leave `columns` out for `n` alone"));
        }
        if self.batch.is_some_and(|b| !(1..=ROWS_MAX).contains(&b)) {
            problems.push(Problem::new("`batch` is a number from 1 to 8192").under("batch"));
        }
        Problems::check(problems)?;
        Ok(compiled)
    }
}

impl Connector for Generate {
    const NAME: &'static str = "generate";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, self.rows.is_some())
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        let fields: Vec<_> = self.compile()?.into_iter().map(|(field, _)| field).collect();
        Ok(Arc::new(Schema::new(fields)))
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let compiled = self.compile().map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
        let Some((split, position)) = context.splits.into_iter().next() else {
            return Ok(BoxSource::new(Nothing));
        };
        Ok(BoxSource::new(Generator {
            env: context.env,
            pace: Pace::new(self.rate),
            expressions: compiled.into_iter().map(|(_, expression)| expression).collect(),
            schema: context.schema,
            split,
            next: position.map_or(Ok(0), |p| p.read::<RowPosition>().map(|p| p.row))?,
            total: self.rows,
            end: self.rows.unwrap_or(u64::MAX).min(i64::MAX as u64),
            most: self.batch.unwrap_or(ROWS_MAX),
        }))
    }
}

/// How many rows were generated.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct RowPosition {
    pub row: u64,
}

impl RowPosition {
    /// The rows that end here, of so many in all if there is an end.
    pub fn chunk(self, rows: RecordBatch, split: Split, total: Option<u64>) -> Result<Chunk> {
        let chunk = Chunk::new(rows, split, Position::of(&self)?);
        Ok(match total {
            Some(total) => chunk.with_progress(self.row, total),
            None => chunk,
        })
    }
}

/// A lane without a split.
pub(crate) struct Nothing;

impl Source for Nothing {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        Ok(None)
    }
}

struct Generator {
    env: Env,
    pace: Pace,
    expressions: Vec<Expression>,
    schema: SchemaRef,
    split: Split,
    next: u64,
    /// None when it is without end.
    total: Option<u64>,
    end: u64,
    most: usize,
}

impl Source for Generator {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let left = usize::try_from(self.end.saturating_sub(self.next)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let count = self.pace.admit(self.most.min(left), &self.env).await as u64;
        let numbers = Int64Array::from_iter_values((self.next..self.next + count).map(u64::cast_signed));
        let counted = RecordBatch::try_new(counter(), vec![Arc::new(numbers)])?;
        let columns: Result<Vec<ArrayRef>> = self.expressions.iter().map(|e| e.evaluate(&counted)).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns?)?;
        self.next += count;
        RowPosition { row: self.next }.chunk(batch, self.split.clone(), self.total).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunks, connect, open, read_all, rows};
    use serde_json::json;

    fn generate(config: serde_json::Value) -> Generate {
        serde_json::from_value(config).unwrap()
    }

    #[tokio::test]
    async fn columns_are_computed_from_the_counter() {
        let config = generate(json!({"rows": 3, "columns": {"id": "n + 1", "name": "'user ' || (n % 2)"}}));
        let expected = [
            json!({"id": 1, "name": "user 0"}),
            json!({"id": 2, "name": "user 1"}),
            json!({"id": 3, "name": "user 0"}),
        ];
        assert_eq!(rows(&read_all(&config).await.unwrap()), expected);
        let counted = rows(&read_all(&Generate::rows(2)).await.unwrap());
        assert_eq!(counted, [json!({"n": 0}), json!({"n": 1})]);
    }

    #[tokio::test]
    async fn it_goes_on_behind_any_position() {
        let config = generate(json!({"rows": 25, "batch": 10}));
        let whole = read_all(&config).await.unwrap();
        assert_eq!(whole.len(), 3);
        for (i, chunk) in whole.iter().enumerate() {
            let rest = chunks(open(&config, Some(&chunk.position)).await.unwrap()).await.unwrap();
            assert_eq!(rows(&rest), rows(&whole[i + 1..]));
        }
    }

    #[tokio::test]
    async fn all_faulty_columns_are_told_with_their_places() {
        let config = generate(json!({"rows": 1, "batch": 0, "columns": {"a": "m + 1", "b": "n", "c": "n +"}}));
        let Problems(problems) = config.schema(&connect()).await.unwrap_err();
        let paths: Vec<_> = problems.iter().map(|p| p.path.clone()).collect();
        assert_eq!(
            paths,
            [vec!["columns".into(), "a".into()], vec!["columns".into(), "c".into()], vec!["batch".into()]]
        );
    }

    #[tokio::test]
    async fn progress_is_told_in_rows_when_there_is_an_end() {
        let whole = read_all(&generate(json!({"rows": 25, "batch": 10}))).await.unwrap();
        let told: Vec<_> = whole.iter().map(|c| c.progress).collect();
        assert_eq!(told, [Some((10, 25)), Some((20, 25)), Some((25, 25))]);
        let endless = open(&Generate::default(), None).await.unwrap().read().await.unwrap();
        assert_eq!(endless.unwrap().progress, None);
    }

    #[test]
    fn it_is_finite_when_it_is_told_how_many_rows() {
        let finite = |g: Generate| g.capabilities().source.map(|s| s.finite);
        assert_eq!((finite(Generate::rows(1)), finite(Generate::default())), (Some(true), Some(false)));
    }
}
