//! A query of a file of SQLite.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::CallContext;
use bourn_engine::{Error, Kind, Result};
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params_from_iter};
use serde_json::{Map, Value, json};

use super::{Lookup, too_many};
use crate::answer::{Answer, Ask};
use crate::places::Document;

/// How long another program that writes is waited for; then the call may be tried again.
const BUSY: Duration = Duration::from_secs(1);

pub struct Database {
    path: String,
    query: String,
    params: Vec<Document>,
    most: usize,
}

impl Database {
    pub fn new(config: &Lookup) -> Result<Self> {
        Ok(Self {
            path: config.database.clone().unwrap_or_default(),
            query: config.query.clone(),
            params: config.params.iter().map(Document::read).collect::<Result<_>>()?,
            most: config.rows_max,
        })
    }
}

impl Ask for Database {
    async fn ask(&self, rows: &RecordBatch, row: usize, context: &CallContext) -> Result<Answer> {
        let params = self.params.iter().map(|param| bound(param.value(rows, row)?)).collect::<Result<Vec<_>>>()?;
        let (path, query, most) = (self.path.clone(), self.query.clone(), self.most);
        let answer = context.env.blocking(move || {
            let asked = asked(&path, &query, params, most);
            asked.map_err(|fault| fault.told(&path))
        });
        answer.await?.map(Answer::from)
    }
}

/// Why there is no answer.
enum Fault {
    Sqlite(rusqlite::Error),
    Other(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Fault {
    fn told(self, path: &str) -> Error {
        use ErrorCode as C;
        let error = match self {
            Self::Sqlite(error) => error,
            Self::Other(error) => return error,
        };
        let code = error.sqlite_error_code();
        let message = match &error {
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            other => other.to_string(),
        };
        let kind = match code {
            Some(C::DatabaseBusy | C::DatabaseLocked) => {
                let message = format!("{path}: another program has the database locked");
                return Error::new(Kind::Io, message).with_source(error).transient();
            }
            Some(C::CannotOpen) => Kind::NotFound,
            Some(C::PermissionDenied | C::ReadOnly | C::AuthorizationForStatementDenied) => Kind::Permission,
            Some(C::SystemIoFailure | C::DiskFull | C::DatabaseCorrupt | C::NotADatabase) => Kind::Io,
            _ => Kind::Validation,
        };
        Error::new(kind, format!("{path}: {message}")).with_source(error).permanent()
    }
}

/// Each statement is a transaction of its own.
fn asked(path: &str, query: &str, params: Vec<Sql>, most: usize) -> Result<Value, Fault> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    let mut statement = connection.prepare(query)?;
    let (has, wants) = (params.len(), statement.parameter_count());
    if has != wants {
        let message = format!("the query has {wants} parameters, and `params` {has}");
        return Err(Fault::Other(Error::validation(message)));
    }
    if statement.column_count() == 0 {
        let changed = statement.execute(params_from_iter(params))?;
        return Ok(json!({ "changed": changed }));
    }
    let is_json = |declared: Option<&str>| declared.is_some_and(|declared| declared.eq_ignore_ascii_case("json"));
    let columns = statement.columns();
    let columns: Vec<_> = columns.map(|column| (column.name().to_owned(), is_json(column.decl_type()))).collect();
    let mut found = statement.query(params_from_iter(params))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        if rows.len() == most {
            return Err(Fault::Other(too_many(most)));
        }
        rows.push(object(row, &columns)?);
    }
    Ok(Value::Array(rows))
}

fn object(row: &Row<'_>, columns: &[(String, bool)]) -> Result<Value, Fault> {
    let mut members = Map::with_capacity(columns.len());
    for (at, (name, is_json)) in columns.iter().enumerate() {
        let value = match row.get_ref(at)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            // JSON has no infinity.
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(text) => {
                let text = String::from_utf8_lossy(text).into_owned();
                let document = is_json.then(|| serde_json::from_str(&text).ok()).flatten();
                document.unwrap_or(Value::String(text))
            }
            ValueRef::Blob(bytes) => hex(bytes).into(),
        };
        members.insert(name.clone(), value);
    }
    Ok(Value::Object(members))
}

/// As Arrow writes bytes in JSON.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bound(value: Value) -> Result<Sql> {
    Ok(match value {
        Value::Null => Sql::Null,
        Value::Bool(is) => Sql::Integer(is.into()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Sql::Integer(number),
            (None, Some(real)) if number.is_f64() => Sql::Real(real),
            _ => return Err(Error::validation(format!("SQLite has no number as large as {number}"))),
        },
        Value::String(text) => Sql::Text(text),
        document => Sql::Text(document.to_string()),
    })
}
