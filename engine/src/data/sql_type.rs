//! The names that people know Arrow's types by: those that a spec declares columns with.

use arrow::datatypes::{DataType, Field};

/// The name that a spec declares a column of this type with: `bigint` for `Int64`. Types that SQL has no name for keep
/// Arrow's.
pub fn sql_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Null => "null",
        DataType::Boolean => "boolean",
        DataType::Int8 => "tinyint",
        DataType::Int16 => "smallint",
        DataType::Int32 => "int",
        DataType::Int64 => "bigint",
        DataType::UInt8 => "tinyint unsigned",
        DataType::UInt16 => "smallint unsigned",
        DataType::UInt32 => "int unsigned",
        DataType::UInt64 => "bigint unsigned",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => return format!("decimal({p}, {s})"),
        DataType::List(item) | DataType::LargeList(item) => return format!("{}[]", sql_name(item.data_type())),
        DataType::Struct(fields) => {
            let named = |f: &Field| format!("{} {}", f.name(), sql_name(f.data_type()));
            let fields: Vec<_> = fields.iter().map(|f| named(f)).collect();
            return format!("struct<{}>", fields.join(", "));
        }
        DataType::Dictionary(_, values) => return sql_name(values),
        other => return other.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::columns::MOMENT;

    #[test]
    fn types_are_named_as_in_sql() {
        assert_eq!(sql_name(&DataType::Int64), "bigint");
        assert_eq!(sql_name(&MOMENT), "timestamp");
        let list = DataType::new_list(DataType::Utf8, true);
        let object = DataType::Struct(vec![Field::new("tags", list, true)].into());
        assert_eq!(sql_name(&object), "struct<tags text[]>");
    }
}
