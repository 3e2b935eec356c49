//! What a CSV file looks like: what a spec says of it, and that checked.

use bourn_engine::diagnostic::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What CSV looks like; each has its usual value if it is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Csv {
    /// Whether the first row names the columns: true if it is not said. Without one a source takes the columns of `schema` in their
    /// order, or names them `column_1`, `column_2` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// What stands between two values, one character of ASCII: a comma, or a tab where the path ends in `.tsv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// What values with delimiters, quotes or line ends in them stand between, one character of ASCII: `"`. An empty text
    /// is none: then no value is quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// The text of a null, or several such texts, of which a sink writes the first: the empty one. A text in quotes is
    /// never null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Nulls>,
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Nulls {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// A dialect that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Whether the first record names the columns.
    pub header: bool,
    /// Between two values.
    pub delimiter: u8,
    /// Around a value.
    pub quote: Option<u8>,
    /// What is null where it is not quoted.
    pub nulls: Vec<String>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { header: true, delimiter: b',', quote: Some(b'"'), nulls: vec![String::new()] }
    }
}

impl Csv {
    /// The dialect, with `delimiter` where none is said.
    ///
    /// # Errors
    /// When a character is none, or stands for two things.
    pub fn dialect(&self, delimiter: u8) -> Result<Dialect, Problems> {
        let mut problems = Vec::new();
        let mut dialect = Dialect { delimiter, ..Dialect::default() };
        dialect.header = self.header.unwrap_or(dialect.header);
        if let Some(text) = &self.delimiter {
            match character(if text == "\\t" { "\t" } else { text }) {
                Ok(byte) => dialect.delimiter = byte,
                Err(problem) => problems.push(problem.under("delimiter").help("such as `;`, `|` or `\"\\t\"`")),
            }
        }
        if let Some(text) = &self.quote {
            match character(text) {
                _ if text.is_empty() => dialect.quote = None,
                Ok(byte) => dialect.quote = Some(byte),
                Err(problem) => problems.push(problem.under("quote").help("such as `'`, or an empty text for none")),
            }
        }
        if dialect.quote == Some(dialect.delimiter) {
            problems.push(Problem::new("the delimiter and the quote are the same character").under("quote"));
        }
        match &self.nulls {
            None => {}
            Some(Nulls::One(text)) => dialect.nulls = vec![text.clone()],
            Some(Nulls::Many(texts)) => dialect.nulls.clone_from(texts),
        }
        Problems::check(problems)?;
        Ok(dialect)
    }

    /// The same for what is written.
    ///
    /// # Errors
    /// As [`dialect`](Self::dialect), and when there is no quote.
    pub fn for_sink(&self, delimiter: u8) -> Result<Dialect, Problems> {
        let dialect = self.dialect(delimiter)?;
        if dialect.quote.is_none() {
            let problem = Problem::new("a sink needs a quote, for texts with a delimiter or a line end").under("quote");
            return Err(problem.help("leave `quote` out, or choose another one").into());
        }
        Ok(dialect)
    }
}

fn character(text: &str) -> Result<u8, Problem> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(*byte),
        _ => Err(Problem::new(format!("{text:?} is no single character of ASCII"))),
    }
}
