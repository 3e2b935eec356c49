//! A sink: one line of text per row, in a file.

use std::io::Write;
use std::path::PathBuf;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bourn_engine::Result;
use bourn_engine::api::{
    BoxSink, Capabilities, ConnectContext, Connector, Delivery, Receipt, Sink, SinkContext, Written,
};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::WriteFile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Notes each row as a line, its values with a tab between them.
///
/// In a spec: `note: { path: out/notes.txt }`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The file; one that is there is replaced.
    pub path: PathBuf,
}

impl Connector for Note {
    const NAME: &'static str = "note";

    // Rows are visible at once, so after a crash some may be there twice; the plan says so.
    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }

    // Asked at planning, with the schema of the rows to come; a type that can't be written is refused by name.
    async fn check_sink(&self, schema: &SchemaRef, _: &ConnectContext) -> Result<(), Problems> {
        let plain = |t: &DataType| t.is_integer() || t.is_floating() || matches!(t, DataType::Boolean | DataType::Utf8);
        let refused = schema.fields().iter().filter(|field| !plain(field.data_type()));
        let problem = |field: &FieldRef| Problem::new(format!("`{}` is no number, text or boolean", field.name()));
        Problems::check(refused.map(problem).collect())
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        // Files come from the context's world, so that a test can own them.
        Ok(BoxSink::new(Noting { file: context.env.files().create(&self.path)? }))
    }
}

struct Noting {
    file: Box<dyn WriteFile>,
}

impl Sink for Noting {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let options = FormatOptions::default();
        let columns = rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let mut lines = String::new();
        for row in 0..rows.num_rows() {
            let values: Vec<_> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines += &(values.join("\t") + "\n");
        }
        self.file.write_all(lines.as_bytes())?;
        Ok(Written::all())
    }

    // The epoch is safe once the file is on the disk; there is nothing to commit, so there is no receipt.
    async fn prepare(&mut self, _epoch: u64) -> Result<Option<Receipt>> {
        self.file.sync()?;
        Ok(None)
    }
}
