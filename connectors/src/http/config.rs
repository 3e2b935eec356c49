//! What a spec says of `http`, and whether it may.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::limits::Retries;
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::diagnostic::{Problem, Problems};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Http;
use crate::codec::csv::Dialect;
use crate::codec::json::document::Pointer;

/// What is in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON document. A source finds its rows at `rows`: an array of them, or one; without `rows` the document is the rows,
    /// and JSON lines will do too. A sink sends an array.
    #[default]
    Json,
    /// One JSON object a line; a source reads them as they come, however many there are.
    JsonLines,
    /// A sink: one row a request, as an object.
    Object,
    /// A source: values between commas, or what `csv` says.
    Csv,
    /// A source: plain lines, with the columns `text`, `file` (the address) and `number`, from 1.
    Lines,
}

/// Where the next page is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pagination {
    /// Where the header `Link` with `rel="next"` says (RFC 8288), on the same host.
    NextLink,
    /// A value in the document goes into a parameter of the next request. The last page has none, or no rows; with `every` the
    /// next poll goes on behind it. A page with rows and the value that it was asked with would come for ever: the job fails, and
    /// with `every` the poll is over and a warning says so once.
    Cursor(Cursor),
    /// Pages have numbers. The last one has no rows.
    Page(Numbered),
}

/// A value in the document that the next request names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Where the value is in the document, as a JSON pointer: `/next`.
    pub from: String,
    /// The parameter of the URL that gets it.
    pub parameter: String,
}

/// Pages by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Numbered {
    /// The parameter of the URL that gets the number.
    pub parameter: String,
    /// The number of the first page; 1 if it is not said.
    #[serde(default = "one")]
    pub first: u64,
}

fn one() -> u64 {
    1
}

/// How many rows one request of a sink carries at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// Rows.
    #[schemars(range(min = 1, max = 8192))]
    pub rows: usize,
    /// Bytes before they are compressed; a larger row goes alone.
    pub bytes: Size,
}

impl Default for Batch {
    fn default() -> Self {
        Self { rows: 1_000, bytes: Size(1 << 20) }
    }
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Gzip.
    Gzip,
}

/// Half a minute for what begins, and for what goes on.
pub fn timeout() -> Interval {
    Interval(Duration::from_secs(30))
}

/// How often a connector tries, if it is not said: with the usual waits half a minute, for a server that is started anew. A stage
/// asks for single rows, and has less patience.
const ATTEMPTS: u32 = 8;

/// When a connector tries again: as [`Retries`], with more attempts where nothing else is said.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Returns(pub Retries);

impl Default for Returns {
    fn default() -> Self {
        Self(Retries { max_attempts: ATTEMPTS, ..Retries::default() })
    }
}

impl<'de> Deserialize<'de> for Returns {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut said = serde_json::Map::deserialize(d)?;
        said.entry("max_attempts").or_insert(ATTEMPTS.into());
        Retries::deserialize(Value::Object(said)).map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Returns {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Returns".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let mut schema = Retries::json_schema(generator);
        if let Some(default) = schema.pointer_mut("/properties/max_attempts/default") {
            *default = ATTEMPTS.into();
        }
        schema
    }
}

/// The most of a document that is held.
pub fn response_max() -> Size {
    Size(64 << 20)
}

/// A URL that can be requested. What is wrong with it is told without it: it may hold a secret.
pub fn url(text: &str, schemes: &[&str]) -> Result<Url, Problem> {
    let wrong = |why: String| Problem::new(why).under("url");
    let url = Url::parse(text).map_err(|e| wrong(format!("this is no URL: {e}")))?;
    if !schemes.contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
        let known: Vec<_> = schemes.iter().map(|s| format!("`{s}://`")).collect();
        return Err(wrong(format!("a URL here begins with {} and a host", known.join(" or "))));
    }
    Ok(url)
}

/// Headers, each with its name checked. A value is never shown.
pub fn headers<'a>(of: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<HeaderMap, Problems> {
    let (mut headers, mut problems) = (HeaderMap::new(), Vec::new());
    for (name, value) in of {
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            value.set_sensitive(true);
            headers.append(name, value);
        } else {
            let problem = Problem::new(format!("`{name}` is no HTTP header"));
            problems.push(problem.under(name.as_str()).under("headers"));
        }
    }
    Problems::check(problems).map(|()| headers)
}

/// What of the configuration is for a source, checked.
pub struct Reading {
    pub pointer: Pointer,
    pub cursor: Option<Pointer>,
    pub dialect: Arc<Dialect>,
}

impl Http {
    /// Checks what a source is told.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check_source(&self) -> Result<Reading, Problems> {
        let mut problems = Vec::new();
        problems.extend(url(&self.url, &["http", "https"]).err());
        problems.extend(headers(&self.headers).err().into_iter().flat_map(|p| p.0));
        let for_sinks = [
            ("batch", self.batch.is_some()),
            ("in_flight", self.in_flight.is_some()),
            ("compression", self.compression.is_some()),
        ];
        problems.extend(misplaced(&for_sinks, "sink"));
        if self.format == Format::Object {
            let problem = Problem::new("`object` is for a sink").under("format");
            problems.push(problem.help("`format: json` reads one object too"));
        }
        if self.csv.is_some() && self.format != Format::Csv {
            problems.push(Problem::new("`csv` is for the format CSV").under("csv").help("say `format: csv`"));
        }
        let mut pointer = |text: &str, keys: &[&str]| {
            Pointer::parse(text).unwrap_or_else(|why| {
                problems.push(keys.iter().rev().fold(Problem::new(why), |p, key| p.under(*key)));
                Pointer::default()
            })
        };
        let rows = pointer(self.rows.as_deref().unwrap_or_default(), &["rows"]);
        let cursor = match &self.pagination {
            Some(Pagination::Cursor(c)) => Some(pointer(&c.from, &["pagination", "cursor", "from"])),
            _ => None,
        };
        if self.format != Format::Json {
            let of_documents = [("rows", self.rows.is_some()), ("pagination", cursor.is_some())];
            for (key, _) in of_documents.iter().filter(|(_, said)| *said) {
                let problem = Problem::new("only a document has a pointer into it").under(*key);
                problems.push(problem.help("say `format: json`"));
            }
        }
        if self.body.is_some() && matches!(self.method, Some(bourn_http::Method::Get | bourn_http::Method::Head)) {
            problems.push(Problem::new("a GET or HEAD request has no body").help("remove `method`").under("body"));
        }
        let dialect = match self.csv.clone().unwrap_or_default().dialect(b',') {
            Ok(dialect) => dialect,
            Err(found) => {
                problems.extend(found.under("csv").0);
                Dialect::default()
            }
        };
        Problems::check(problems)?;
        Ok(Reading { pointer: rows, cursor, dialect: Arc::new(dialect) })
    }

    /// Checks what a sink is told, beside the columns.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check_sending(&self) -> Result<(), Problems> {
        let mut problems = Vec::new();
        problems.extend(url(&self.url, &["http", "https"]).err());
        problems.extend(headers(&self.headers).err().into_iter().flat_map(|p| p.0));
        let for_sources = [
            ("every", self.every.is_some()),
            ("schema", self.schema.is_some()),
            ("csv", self.csv.is_some()),
            ("rows", self.rows.is_some()),
            ("pagination", self.pagination.is_some()),
            ("body", self.body.is_some()),
        ];
        problems.extend(misplaced(&for_sources, "source"));
        if matches!(self.format, Format::Csv | Format::Lines) {
            let problem = Problem::new("this format is for a source").under("format");
            problems.push(problem.help("say `format: json`, `json_lines` or `object`"));
        }
        if matches!(self.method, Some(bourn_http::Method::Get | bourn_http::Method::Head)) {
            problems
                .push(Problem::new("a GET or HEAD request carries no rows").help("remove `method`").under("method"));
        }
        let batch = self.batch.unwrap_or_default();
        if batch.rows == 0 || batch.bytes.0 == 0 || self.in_flight == Some(0) {
            problems.push(Problem::new("a request needs room: `batch` and `in_flight` are at least 1").under("batch"));
        }
        Problems::check(problems)
    }
}

fn misplaced(keys: &[(&'static str, bool)], side: &str) -> Vec<Problem> {
    let said = keys.iter().filter(|(_, said)| *said);
    said.map(|(key, _)| Problem::new(format!("`{key}` is for a {side}")).under(*key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_tries_eight_times_also_where_only_its_waits_are_said() {
        for said in ["{}", r#"{"initial_interval": "1s"}"#] {
            assert_eq!(serde_json::from_str::<Returns>(said).unwrap().0.max_attempts, 8, "{said}");
        }
        assert_eq!(serde_json::from_str::<Returns>(r#"{"max_attempts": 2}"#).unwrap().0.max_attempts, 2);
        let schema = schemars::schema_for!(Returns);
        assert_eq!(schema.pointer("/properties/max_attempts/default"), Some(&8.into()));
    }
}
