//! SQL functions that DataFusion's own do not have: parts of JSON, URLs, CSV lines and gzip, and back.

mod csv;
mod gzip;
mod json;
#[cfg(test)]
mod tests;
mod url;

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion_common::{Result as DfResult, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// All of them.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let all = [json::FUNCTIONS, url::FUNCTIONS, csv::FUNCTIONS, gzip::FUNCTIONS].concat();
    all.into_iter().map(|f| Arc::new(ScalarUDF::from(Sql::of(f)))).collect()
}

/// A function: what it takes, what it returns, and what runs.
#[derive(Clone, Copy)]
struct Function {
    name: &'static str,
    /// How it is written, for the message when it is written otherwise.
    usage: &'static str,
    /// How many arguments it takes.
    count: RangeOf,
    /// The kinds of the arguments; the last one is that of all that follow.
    takes: &'static [Kind],
    returns: fn() -> DataType,
    /// Every argument has a value for each row.
    run: fn(&[ArrayRef]) -> DfResult<ArrayRef>,
}

/// At least and at most so many.
type RangeOf = (usize, usize);

/// The kind of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Text.
    Text,
    /// Text or bytes.
    Bytes,
    /// The name of a member, or the place of an element from 0.
    Key,
    /// A list of texts.
    Texts,
    /// Anything.
    Any,
}

impl Kind {
    fn fits(self, data_type: &DataType) -> bool {
        let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
        match self {
            Self::Text => is_text,
            Self::Bytes => {
                is_text || matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
            }
            Self::Key => is_text || data_type.is_integer(),
            Self::Texts => matches!(data_type, DataType::List(item) if Self::Text.fits(item.data_type())),
            Self::Any => true,
        }
    }
}

/// A function as DataFusion wants it.
struct Sql {
    function: Function,
    signature: Signature,
}

impl Sql {
    fn of(function: Function) -> Self {
        Self { function, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn count(&self) -> RangeInclusive<usize> {
        self.function.count.0..=self.function.count.1
    }
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

/// There is one function of a name.
impl PartialEq for Sql {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Sql {}

impl Hash for Sql {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Sql {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let takes = self.function.takes;
        let fits = |(n, t): (usize, &DataType)| takes[n.min(takes.len() - 1)].fits(t);
        if self.count().contains(&types.len()) && types.iter().enumerate().all(fits) {
            return Ok((self.function.returns)());
        }
        plan_err!("`{}` is written `{}`", self.function.name, self.function.usage)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<DfResult<Vec<_>>>()?;
        (self.function.run)(&arrays).map(ColumnarValue::Array)
    }
}

/// The argument as text.
fn texts(array: &ArrayRef) -> DfResult<StringArray> {
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// The argument as bytes; a text as its UTF-8.
fn bytes(array: &ArrayRef) -> DfResult<BinaryArray> {
    Ok(cast(array, &DataType::Binary)?.as_binary::<i32>().clone())
}

/// The value of a row, unless it is null.
fn at(array: &StringArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}
