//! The SQL that an expression is written in: sqlparser's generic dialect without statements.

use std::any::TypeId;

use datafusion_sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion_sql::sqlparser::keywords::Keyword;

/// The dialect. What it does not mention is as in sqlparser's defaults; `dialect_of` tests in the parser see the generic one.
#[derive(Debug)]
pub struct Sql;

impl Dialect for Sql {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    /// `"Cost Total $"`, and `` `Cost Total $` `` for those who are used to that.
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        matches!(ch, '"' | '`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || matches!(ch, '_' | '$')
    }

    /// All of them: otherwise the parser reads `case …` that fails a second time, with `case` as a column, and likewise
    /// every `case` inside, so a slip in the tenth level costs a thousand readings and its message is lost. The price:
    /// a column called `interval` must be quoted.
    fn is_reserved_for_identifier(&self, _keyword: Keyword) -> bool {
        true
    }

    /// `{a: 1}`
    fn supports_dictionary_syntax(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    /// `extract(week from t)`, `extract('week' from t)`
    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    /// `E'\n'`
    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    /// `bigint[]`
    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    /// `bigint unsigned`
    fn supports_data_type_signed_suffix(&self) -> bool {
        true
    }

    /// `interval '1' hour`
    fn supports_interval_options(&self) -> bool {
        true
    }

    /// So that `count(*) filter (…)` and `lag(…) over (…)` are read, and refused with their reason.
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
}
