//! `chunk`: a text becomes rows, each with a piece of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, UInt64Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};

use super::filter::as_error;
use crate::column;

/// Splits the text of a column into pieces, and makes a row of each; the other columns are repeated.
///
/// `chunk: { column: text, size: 1000 }`. A piece ends where the text does by itself, at the largest such place that fits: a
/// paragraph, a line, a sentence, a word; with `syntax: markdown` also at headings and blocks of code. The piece stands in
/// the column `chunk`, its place in the text, from 1, in `chunk_index`. A text that is null or blank leaves no row, and counts as
/// filtered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// The column with the text.
    pub column: String,
    /// The largest piece.
    #[schemars(range(min = 1))]
    pub size: usize,
    /// How much of the end of a piece stands at the beginning of the next one too.
    #[serde(default)]
    pub overlap: usize,
    /// What sizes count.
    #[serde(default)]
    pub unit: Unit,
    /// What the text is written in.
    #[serde(default)]
    pub syntax: Syntax,
    /// The column that gets the piece.
    #[serde(default = "output")]
    pub output: String,
}

/// What sizes count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Characters of Unicode.
    #[default]
    Characters,
    /// Tokens of a model, taken as four characters each, which is near for English.
    Tokens,
}

/// What a text is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Syntax {
    /// Nothing in particular.
    #[default]
    Plain,
    /// Markdown.
    Markdown,
}

fn output() -> String {
    "chunk".to_owned()
}

impl ChunkSizer for Unit {
    fn size(&self, chunk: &str) -> usize {
        match self {
            Self::Characters => chunk.chars().count(),
            Self::Tokens => chunk.chars().count().div_ceil(4),
        }
    }
}

impl Chunk {
    fn index(&self) -> String {
        format!("{}_index", self.output)
    }

    /// The schema of the output, and where the text is.
    fn planned(&self, input: &SchemaRef) -> Result<(SchemaRef, usize), Problem> {
        let (at, field) = column::find(input, &self.column).map_err(|p| p.under("column"))?;
        if !matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            let problem = Problem::new(format!("column `{}` is no text", self.column)).under("column");
            return Err(problem.label(format!("`{}` is {}", self.column, sql_name(field.data_type()))));
        }
        if self.size == 0 || self.overlap >= self.size {
            let problem = Problem::new(format!("an overlap of {} leaves nothing of {}", self.overlap, self.size));
            return Err(problem.help("the overlap is less than the size").under("overlap"));
        }
        if self.output.is_empty() || column::is_reserved(&self.output) {
            return Err(column::reserved(&self.output).under("output"));
        }
        let added = [Field::new(&self.output, DataType::Utf8, false), Field::new(self.index(), DataType::Int64, false)];
        if let Some(taken) = added.iter().find(|field| input.index_of(field.name()).is_ok()) {
            return Err(Problem::new(format!("there is a column `{}` already", taken.name())).under("output"));
        }
        let fields = input.fields().iter().cloned().chain(added.map(Arc::new));
        Ok((Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), input.metadata().clone())), at))
    }
}

impl StageConfig for Chunk {
    const NAME: &'static str = "chunk";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(self.planned(&inputs[0])?.0)
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let (schema, column) = self.planned(&context.inputs[0]).map_err(as_error)?;
        let config = ChunkConfig::new(self.size).with_sizer(self.unit).with_overlap(self.overlap)?;
        let splitter = match self.syntax {
            Syntax::Plain => Splitter::Plain(TextSplitter::new(config)),
            Syntax::Markdown => Splitter::Markdown(MarkdownSplitter::new(config)),
        };
        Ok(Operator::stage(Cut { schema, column, splitter, rows: None, next: 0 }))
    }
}

enum Splitter {
    Plain(TextSplitter<Unit>),
    Markdown(MarkdownSplitter<Unit>),
}

impl Splitter {
    fn pieces<'a>(&'a self, text: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Plain(splitter) => Box::new(splitter.chunks(text)),
            Self::Markdown(splitter) => Box::new(splitter.chunks(text)),
        }
    }
}

struct Cut {
    schema: SchemaRef,
    column: usize,
    splitter: Splitter,
    /// What is being cut, and the row that is next.
    rows: Option<RecordBatch>,
    next: usize,
}

/// So many pieces leave at once, or so many bytes, and those of one more text.
const PIECES: usize = 1_024;
const BYTES: usize = 1 << 20;

impl Stage for Cut {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        (self.rows, self.next) = (Some(rows.clone()), 0);
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(rows) = self.rows.take() else { return Ok(Progress::Done) };
        let rest = rows.slice(self.next, rows.num_rows() - self.next);
        let texts = cast(rest.column(self.column), &DataType::Utf8)?;
        let (mut places, mut pieces, mut numbers, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut done = 0;
        for (row, text) in texts.as_string::<i32>().iter().enumerate() {
            if pieces.len() >= PIECES || bytes >= BYTES {
                break;
            }
            let before = pieces.len();
            for (number, piece) in self.splitter.pieces(text.unwrap_or_default()).enumerate() {
                places.push(row as u64);
                numbers.push(i64::try_from(number + 1)?);
                bytes += piece.len();
                pieces.push(piece);
            }
            if pieces.len() == before {
                out.filtered(1);
            }
            done += 1;
        }
        if !pieces.is_empty() {
            let repeated = take_record_batch(&rest, &UInt64Array::from(places))?;
            let mut columns = repeated.columns().to_vec();
            columns.push(Arc::new(StringArray::from(pieces)) as ArrayRef);
            columns.push(Arc::new(Int64Array::from(numbers)));
            out.emit(RecordBatch::try_new(self.schema.clone(), columns)?);
        }
        self.next += done;
        if self.next == rows.num_rows() {
            return Ok(Progress::Done);
        }
        self.rows = Some(rows);
        Ok(Progress::More)
    }
}

#[cfg(test)]
mod tests {
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::simulation::Simulation;
    use serde_json::{Value, json};

    use super::*;
    use crate::column::told;

    fn chunk(config: Value) -> Chunk {
        serde_json::from_value(config).unwrap()
    }

    fn run(config: Value, rows: RecordBatch) -> Vec<Value> {
        let config = chunk(config);
        config.schema(&[rows.schema()]).unwrap();
        let simulation = Simulation::new(1);
        let (ended, rows) = simulation.run(crate::testing::run(simulation.env(), config, rows)).done();
        ended.unwrap();
        rows
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(
            chunk(json!({"column": "t", "size": 5})),
            rows![{"t": "one two"}, {"t": "three"}, {"t": "x"}],
        )
        .check();
    }

    #[test]
    fn a_text_becomes_rows_that_end_at_words_and_the_rest_is_repeated() {
        let cut = run(
            json!({"column": "t", "size": 8}),
            rows![{"id": 1, "t": "one two three"}, {"id": 2, "t": " "}, {"id": 3, "t": null}],
        );
        let row =
            |piece: &str, number: u64| json!({"id": 1, "t": "one two three", "chunk": piece, "chunk_index": number});
        assert_eq!(cut, [row("one two", 1), row("three", 2)]);
    }

    #[test]
    fn sizes_are_kept_in_characters_and_in_tokens_and_pieces_overlap() {
        let text = "Über den Wolken. ".repeat(50);
        for (unit, most) in [("characters", 40), ("tokens", 160)] {
            let cut = run(json!({"column": "t", "size": 40, "unit": unit, "output": "p"}), rows![{"t": text.clone()}]);
            let lengths: Vec<_> = cut.iter().map(|row| row["p"].as_str().unwrap().chars().count()).collect();
            assert!(lengths.iter().all(|n| *n <= most) && lengths[0] > most / 2, "{unit}: {lengths:?}");
        }
        let cut = run(json!({"column": "t", "size": 7, "overlap": 3}), rows![{"t": "one two six"}]);
        assert_eq!(cut.iter().map(|row| row["chunk"].as_str().unwrap()).collect::<Vec<_>>(), ["one two", "two six"]);
    }

    #[test]
    fn markdown_is_cut_at_its_headings() {
        let text = "# A\n\nfirst words here\n\n# B\n\nsecond words";
        let cut = run(json!({"column": "t", "size": 24, "syntax": "markdown"}), rows![{"t": text}]);
        let pieces: Vec<_> = cut.iter().map(|row| row["chunk"].as_str().unwrap()).collect();
        assert_eq!(pieces, ["# A\n\nfirst words here", "# B\n\nsecond words"]);
    }

    #[test]
    fn many_pieces_leave_in_parts_and_none_is_lost() {
        let text = "One.\n".repeat(600);
        let cut = run(json!({"column": "t", "size": 5}), rows![{"t": text.clone()}, {"t": text.clone()}, {"t": text}]);
        assert_eq!((cut.len(), cut[1_799]["chunk_index"].as_u64()), (1_800, Some(600)));
    }

    #[test]
    fn what_does_not_fit_is_told_at_its_place() {
        let schema = rows![{"t": "a", "n": 1, "chunk_index": 1}].schema();
        let of = |config: Value| told(chunk(config).schema(std::slice::from_ref(&schema)));
        assert_eq!(of(json!({"column": "n", "size": 5})), ["column | column `n` is no text | "]);
        assert_eq!(of(json!({"column": "t", "size": 5})), ["output | there is a column `chunk_index` already | "]);
        let overlap = of(json!({"column": "t", "size": 5, "overlap": 5, "output": "p"}));
        assert_eq!(overlap, ["overlap | an overlap of 5 leaves nothing of 5 | the overlap is less than the size"]);
    }
}
