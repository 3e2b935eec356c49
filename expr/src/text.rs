//! A SQL text with its tokens and their places.

use std::ops::Range;

use bourn_engine::diagnostic::Problem;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use crate::dialect::Sql;
use crate::errors;

/// The most bytes of one expression.
const BYTES_MAX: usize = 1 << 20;
/// The most operators, keywords and brackets of one expression. They bound the depth of its tree, which is planned,
/// evaluated and dropped recursively: this keeps the stack from overflowing. A list such as `in (1, 2, …)` is not deep.
const OPERATORS_MAX: usize = 500;
/// The most `interval` and `position(` of one expression: the parser reads each twice when what follows fails, and all of
/// those inside as well.
const RETRIED_MAX: usize = 10;

/// A text and its tokens.
pub struct Text<'a> {
    sql: &'a str,
    /// Its tokens, white space and comments included.
    pub tokens: Vec<TokenWithSpan>,
    /// How many of them may make the tree one level deeper.
    pub operators: usize,
}

impl<'a> Text<'a> {
    /// Cuts a text into tokens.
    ///
    /// # Errors
    /// When it can't be cut, or is too large to be worked.
    pub fn read(sql: &'a str) -> Result<Self, Problem> {
        if sql.len() > BYTES_MAX {
            return Err(Problem::new(format!("the expression has {} bytes; {BYTES_MAX} is the most", sql.len())));
        }
        if sql.trim().is_empty() {
            return Err(Problem::new("the expression is empty"));
        }
        let tokens = Tokenizer::new(&Sql, sql)
            .tokenize_with_location()
            .map_err(|e| errors::unreadable(sql, &e.message, offset(sql, e.location)))?;
        let operators = tokens.iter().filter(|t| deepens(&t.token)).count();
        if operators > OPERATORS_MAX {
            let message = format!("the expression has {operators} operators and brackets; {OPERATORS_MAX} is the most");
            return Err(
                Problem::new(message).help("split it over several stages, or write `x in (…)` for many `x = …`")
            );
        }
        let retried = tokens.iter().filter(|t| is_retried(&t.token)).count();
        if retried > RETRIED_MAX {
            let message =
                format!("the expression says `interval` or `position` {retried} times; {RETRIED_MAX} is the most");
            return Err(Problem::new(message).help("split it over several stages"));
        }
        Ok(Self { sql, tokens, operators })
    }

    /// Where the first word that is `name` stands (a column, a function), whatever its case if it has no quotes.
    pub fn find(&self, name: &str) -> Option<Range<usize>> {
        self.tokens.iter().find_map(|t| match &t.token {
            Token::Word(w) if is(w, name) => Some(self.range(t)),
            _ => None,
        })
    }

    /// Whether the word at a place stands in quotes.
    pub fn is_quoted(&self, part: &Range<usize>) -> bool {
        self.sql[part.clone()].starts_with(['"', '`'])
    }

    /// Where a token stands, in bytes.
    pub fn range(&self, token: &TokenWithSpan) -> Range<usize> {
        let start = offset(self.sql, token.span.start);
        start..offset(self.sql, token.span.end).max(start)
    }
}

fn is(word: &Word, name: &str) -> bool {
    word.value == name || (word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name))
}

fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::EOF => false,
        _ => true,
    }
}

fn is_retried(token: &Token) -> bool {
    matches!(token, Token::Word(w) if matches!(w.keyword, Keyword::INTERVAL | Keyword::POSITION))
}

/// The byte of a line and column, both from 1, columns in characters; the end for a place behind it.
pub fn offset(sql: &str, at: Location) -> usize {
    let Some(line) = at.line.checked_sub(1) else { return sql.len() };
    let start = if line == 0 {
        0
    } else {
        let nth = usize::try_from(line - 1).unwrap_or(usize::MAX);
        sql.match_indices('\n').nth(nth).map_or(sql.len(), |(i, _)| i + 1)
    };
    let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
    sql[start..].char_indices().nth(column).map_or(sql.len(), |(i, _)| start + i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_at_their_bytes() {
        let sql = "'ü' = a and\n  Upper(\"Ü b\") = 'x'";
        let text = Text::read(sql).unwrap();
        let found = |name: &str| text.find(name).map(|r| &sql[r]);
        assert_eq!(found("a"), Some("a"));
        assert_eq!(found("upper"), Some("Upper"));
        assert_eq!(found("Ü b"), Some("\"Ü b\""));
        assert_eq!(found("ü B"), None);
        assert!(text.is_quoted(&text.find("Ü b").unwrap()));
    }

    #[test]
    fn a_text_that_would_be_too_deep_is_refused_and_a_long_list_is_not() {
        let deep = vec!["a"; 600].join(" + ");
        assert!(Text::read(&deep).err().unwrap().message.contains("599 operators"));
        let list = format!("a in ({})", vec!["1"; 5_000].join(", "));
        assert!(Text::read(&list).is_ok());
        assert!(Text::read(&" ".repeat(2 << 20)).is_err());
    }
}
