//! Arrow IPC, as a file with a footer or as a stream: messages to batches, batches to messages.

mod file;
mod message;
mod stream;
mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use bourn_engine::{Error, Result};

pub use file::{Batches, File};
pub use stream::Stream;
pub use write::{StreamEncoder, Writer, check};

use super::table::plain;

/// Runs `read`. What the arrow crate can't read is an error of the data, and so is a panic of its decoders, which a
/// broken file can bring about.
fn guard<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|e| match e {
            ArrowError::NotYetImplemented(what) => Error::unsupported(format!("this Arrow file needs {what}")),
            // Its own words, without the name of the error before them.
            ArrowError::IpcError(said) | ArrowError::ParseError(said) | ArrowError::InvalidArgumentError(said) => {
                broken(said)
            }
            other => broken(other),
        }),
        Err(_) => Err(broken("its decoder gave up")),
    }
}

fn broken(cause: impl std::fmt::Display) -> Error {
    Error::validation(format!("is no whole Arrow file: {cause}"))
}

/// The schema in a message or footer.
fn schema_of(found: arrow_ipc::Schema<'_>) -> Result<SchemaRef, ArrowError> {
    if found.endianness() != arrow_ipc::Endianness::Little {
        return Err(ArrowError::NotYetImplemented("the bytes of its numbers turned round".into()));
    }
    let Some(fields) = found.fields() else {
        return Err(ArrowError::IpcError("its schema has no fields".into()));
    };
    if fields.len() > super::table::COLUMNS_MAX {
        let (has, most) = (fields.len(), super::table::COLUMNS_MAX);
        return Err(ArrowError::IpcError(format!("it has {has} columns, and {most} are the most")));
    }
    Ok(Arc::new(arrow_ipc::convert::fb_to_schema(found)))
}

/// The schema as it is handed out.
fn handed_out(found: &Schema) -> SchemaRef {
    Arc::new(Schema::new(found.fields().iter().map(|f| plain(f)).collect::<Vec<_>>()))
}
