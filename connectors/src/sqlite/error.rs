//! What SQLite says, as errors of the engine.

use bourn_engine::{Error, Kind};
use rusqlite::ErrorCode;

/// The error of an operation on the file at `path`.
pub(super) fn told(error: rusqlite::Error, path: &str) -> Error {
    use ErrorCode as C;
    let kind = match error.sqlite_error_code() {
        Some(C::DatabaseBusy | C::DatabaseLocked) => {
            let message = format!("{path}: the database is locked by another program, or by another sink of this job");
            return Error::new(Kind::Io, message).with_source(error).transient();
        }
        Some(C::CannotOpen) => Kind::NotFound,
        Some(C::PermissionDenied | C::ReadOnly | C::AuthorizationForStatementDenied) => Kind::Permission,
        Some(C::ConstraintViolation | C::TypeMismatch | C::TooBig | C::ParameterOutOfRange) => Kind::Validation,
        Some(
            C::SystemIoFailure | C::DiskFull | C::DatabaseCorrupt | C::NotADatabase | C::FileLockingProtocolFailed,
        ) => Kind::Io,
        _ => Kind::Other,
    };
    // What SQLite says of a statement that it can't take repeats the statement; the first sentence is enough.
    let message = match &error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    Error::new(kind, format!("{path}: {message}")).with_source(error)
}

/// Whether a row is at fault, and the others are not.
pub(super) fn is_of_the_row(error: &rusqlite::Error) -> bool {
    use ErrorCode as C;
    matches!(error.sqlite_error_code(), Some(C::ConstraintViolation | C::TypeMismatch | C::TooBig))
}
