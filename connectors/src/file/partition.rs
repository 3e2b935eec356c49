//! Folders that say values: `country=de/day=2024-01-01`, as Hive has them.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, UInt32Array};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef};
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::{Error, Result};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The folder of a null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What a name of a folder does not hold as it is: what ends a folder, means something to a shell or a pattern, or to Hive.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'\'')
    .add(b'*')
    .add(b'/')
    .add(b':')
    .add(b'=')
    .add(b'?')
    .add(b'\\')
    .add(b'{')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'}')
    .add(b'<')
    .add(b'>')
    .add(b'|')
    .add(b' ');

/// The name of the folder that says this value of a column.
pub fn folder(column: &str, value: Option<&str>) -> String {
    let column = utf8_percent_encode(column, ENCODED);
    match value {
        None => format!("{column}={NULL}"),
        // A text that looks like the null of others.
        Some(NULL) => format!("{column}=%5F{}", &NULL[1..]),
        Some(value) => format!("{column}={}", utf8_percent_encode(value, ENCODED)),
    }
}

/// The columns and values that the folders of a path say, from the outermost on.
pub fn values(path: &Path) -> Vec<(String, Option<String>)> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    let said = folders.filter_map(|component| match component {
        Component::Normal(name) => name.to_str()?.split_once('='),
        _ => None,
    });
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    said.filter(|(column, _)| !column.is_empty())
        .map(|(column, value)| (decode(column), (value != NULL).then(|| decode(value))))
        .collect()
}

/// The columns that the folders of all paths say, each with the narrowest type that all of its values have; none when
/// paths say different ones.
pub fn columns(paths: &[PathBuf]) -> Vec<Field> {
    let Some(first) = paths.first().map(|p| values(p)) else { return Vec::new() };
    let names: Vec<_> = first.into_iter().map(|(name, _)| name).collect();
    let mut types = vec![None; names.len()];
    for path in paths {
        let said = values(path);
        if said.len() != names.len() || said.iter().zip(&names).any(|((name, _), known)| name != known) {
            return Vec::new();
        }
        for (seen, (_, value)) in types.iter_mut().zip(&said) {
            let Some(value) = value else { continue };
            let found = type_of(value);
            *seen = Some(match seen.take() {
                Some(before) if before != found => DataType::Utf8,
                _ => found,
            });
        }
    }
    let field = |(name, seen): (String, Option<DataType>)| Field::new(name, seen.unwrap_or(DataType::Utf8), true);
    names.into_iter().zip(types).map(field).collect()
}

/// A number that is the same when it is written again is one: `007` is a text.
fn type_of(value: &str) -> DataType {
    if value.parse::<i64>().is_ok_and(|n| n.to_string() == value) {
        DataType::Int64
    } else if value.len() == "2000-01-01".len() && Date32Type::parse(value).is_some() {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

/// A column of `rows` times the value that the folders of `path` say.
///
/// # Errors
/// When they say none that fits.
pub fn column(path: &str, field: &FieldRef, rows: usize) -> Result<ArrayRef> {
    let said = values(Path::new(path)).into_iter().find(|(name, _)| name == field.name());
    let missing =
        || Error::validation(format!("{path}: no folder says `{}`, as that of the first file does", field.name()));
    let (_, value) = said.ok_or_else(missing)?;
    let text: ArrayRef = Arc::new(StringArray::from(vec![value.as_deref()]));
    let one = cast(&text, field.data_type())?;
    if let Some(value) = value.filter(|_| one.is_null(0)) {
        let message = format!("{path}: `{value}` does not fit {}", sql_name(field.data_type()));
        return Err(Error::validation(message).at_field(field.name()));
    }
    Ok(take(&one, &UInt32Array::from(vec![0; rows]), None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_comes_back_from_its_folder_and_none_leads_out_of_it(
            column in "\\PC{1,8}", value in proptest::option::of("\\PC{0,12}|[./\\x00-\\x20=%~*?-]{0,6}|__HIVE_DEFAULT_PARTITION__")
        ) {
            let name = folder(&column, value.as_deref());
            let path = Path::new("out").join(&name).join("part-0-00000.jsonl");
            prop_assert_eq!(path.components().count(), 3, "{}", name);
            prop_assert!(!name.contains(['/', '\0', '\\', '*', '?', '[']), "{}", name);
            prop_assert_eq!(values(&path), vec![(column, value)]);
        }
    }

    fn types(paths: &[&str]) -> Vec<(String, DataType)> {
        let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
        columns(&paths).into_iter().map(|f| (f.name().clone(), f.data_type().clone())).collect()
    }

    #[test]
    fn columns_have_the_narrowest_type_of_all_folders() {
        let found = types(&["x/n=1/d=2024-01-02/c=007/a.csv", "x/n=__HIVE_DEFAULT_PARTITION__/d=2024-01-03/c=1/a.csv"]);
        let expected = [("n", DataType::Int64), ("d", DataType::Date32), ("c", DataType::Utf8)];
        assert_eq!(found, expected.map(|(n, t)| (n.to_owned(), t)));
        assert_eq!(types(&["x/n=1/a.csv", "x/a.csv"]), []);
        assert_eq!(types(&["x/n=1/a.csv", "x/m=1/a.csv"]), []);
        // The name of a file says nothing, nor does a folder without a name before its sign.
        assert_eq!(types(&["x/=1/n=1.csv"]), []);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error_with_the_path() {
        let field = Arc::new(Field::new("n", DataType::Int64, true));
        assert_eq!(column("n=7/a.csv", &field, 3).unwrap().len(), 3);
        let error = column("n=x/a.csv", &field, 3).unwrap_err();
        assert_eq!(error.to_string(), "field `n`: n=x/a.csv: `x` does not fit bigint");
        let error = column("m=x/a.csv", &field, 3).unwrap_err();
        assert!(error.message().contains("no folder says `n`"), "{error}");
    }
}
