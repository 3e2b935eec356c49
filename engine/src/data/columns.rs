//! The columns and schemas that the engine reserves: what it must know of a row.

use std::sync::{Arc, LazyLock};

use arrow_schema::extension::{ExtensionType, Json};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Names that start with this belong to the engine.
pub const RESERVED_PREFIX: &str = "_bourn_";
/// The id of the run that a workflow's row is; text.
pub const RUN_ID: &str = "_bourn_run_id";
/// The input of the run; JSON.
pub const INPUT: &str = "input";

/// The type of event times and other moments: microseconds in UTC.
pub const MOMENT: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// A text column whose values are JSON documents (Arrow's canonical extension `arrow.json`).
pub fn json_field(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true).with_extension_type(Json::default())
}

/// Whether a column's text values are JSON documents.
pub fn is_json(field: &Field) -> bool {
    field.extension_type_name() == Some(Json::NAME)
}

/// The columns of a dead letter: where and why it was rejected, and the row as it entered the stage.
pub static DEAD_LETTER: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("stage", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("split", DataType::Utf8, true),
        Field::new("position", DataType::Utf8, true),
        json_field("row"),
    ]))
});
