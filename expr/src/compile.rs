//! From a SQL text to a physical expression.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use bourn_engine::diagnostic::Problem;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result as DfResult, ToDFSchema};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::expressions::{self, BinaryExpr};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{CastKind, Expr as Ast, Ident};
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Token;

use crate::dialect::Sql;
use crate::functions::Names;
use crate::text::{Text, offset};
use crate::{check, errors};

/// How deep brackets and calls may be nested.
const DEPTH_MAX: usize = 100;
/// Address space for one level of the planner's recursion, which needs up to 110 KiB without optimisation; only what is
/// used becomes memory.
const STACK_PER_LEVEL: usize = 256 << 10;

/// Compiles one expression, which must be the whole text.
pub fn expression(sql: &str, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>, Problem> {
    let text = Text::read(sql)?;
    guarded(&text, || {
        let ast = parse(&text, sql, Parser::parse_expr)?;
        check::syntax(&text, &ast)?;
        plan(&text, ast, schema)
    })
}

/// Compiles the cast of a column to a type given by its SQL name.
pub fn cast(column: &str, to: &str, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>, Problem> {
    let text = Text::read(to)?;
    guarded(&text, || {
        let ast = Ast::Cast {
            kind: CastKind::Cast,
            expr: Box::new(Ast::Identifier(Ident::with_quote('"', column))),
            data_type: parse(&text, to, Parser::parse_data_type)?,
            array: false,
            format: None,
        };
        plan(&text, ast, schema)
    })
    .map_err(|p| p.help("types are `bigint`, `double`, `boolean`, `text`, `date`, `timestamp`, `decimal(p, s)`, …"))
}

/// Runs `work` with room for its recursion. The library is large and the text is anything: a panic in there is a problem
/// of the text, not the end of the process.
pub fn guarded<T>(text: &Text<'_>, work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    // A tree is not deeper than it has operators.
    let stack = (text.operators + 8) * STACK_PER_LEVEL;
    stacker::grow(stack, || catch_unwind(AssertUnwindSafe(work)))
        .unwrap_or_else(|_| Err(Problem::new("this can't be planned: the SQL library panicked")))
}

/// A name as it is written in a SQL text.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub fn parse<T>(
    text: &Text<'_>,
    sql: &str,
    read: fn(&mut Parser<'static>) -> Result<T, ParserError>,
) -> Result<T, Problem> {
    let mut parser = Parser::new(&Sql).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(text.tokens.clone());
    let ast = read(&mut parser).map_err(|e| errors::parser(sql, &e))?;
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Ok(ast),
        token => {
            let problem = Problem::new(format!("the text ends before `{token}`"));
            let start = offset(sql, next.span.start);
            Err(problem.part(start..offset(sql, next.span.end).max(start)).label("not understood"))
        }
    }
}

fn plan(text: &Text<'_>, ast: Ast, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>, Problem> {
    let problem = |e| errors::planner(text, schema, &e);
    let columns = schema.as_ref().clone().to_dfschema().map_err(problem)?;
    let names = Names::new();
    let logical = SqlToRel::new_with_options(&names, options())
        .sql_to_expr(ast, &columns, &mut PlannerContext::new())
        .map_err(problem)?;
    check::functions(text, &logical)?;
    let physical = lower(logical, Arc::new(columns)).map_err(problem)?;
    // Some functions answer in another form of text than they were asked in; downstream there is one.
    match physical.data_type(schema).map_err(problem)? {
        DataType::Utf8View if physical.downcast_ref::<expressions::Column>().is_none() => {
            expressions::cast(physical, schema, DataType::Utf8).map_err(problem)
        }
        _ => Ok(physical),
    }
}

/// How SQL is read: names keep their case, and text is one type.
pub fn options() -> ParserOptions {
    ParserOptions::new().with_enable_ident_normalization(false).with_map_string_types_to_utf8view(false)
}

/// What runs, of an expression over these columns.
pub fn lower(logical: datafusion_expr::Expr, columns: Arc<DFSchema>) -> DfResult<Arc<dyn PhysicalExpr>> {
    let context = SimplifyContext::builder().with_schema(columns.clone()).build();
    let simplifier = ExprSimplifier::new(context);
    let logical = simplifier.simplify(simplifier.coerce(logical, &columns)?)?;
    let physical =
        create_physical_expr(&logical, &columns, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    Ok(physical.transform_up(check_overflow)?.data)
}

/// Arithmetic that fails instead of wrapping around.
#[expect(clippy::unnecessary_wraps, reason = "what a walk over the tree asks for")]
fn check_overflow(node: Arc<dyn PhysicalExpr>) -> DfResult<Transformed<Arc<dyn PhysicalExpr>>> {
    Ok(match node.downcast_ref::<BinaryExpr>() {
        Some(binary) => Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true))),
        None => Transformed::no(node),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    fn schema() -> SchemaRef {
        let columns = [("Delay", DataType::Int32), ("origin", DataType::Utf8), ("big", DataType::Int64)];
        let fields: Vec<_> = columns.into_iter().map(|(name, t)| Field::new(name, t, true)).collect();
        Arc::new(Schema::new(fields))
    }

    /// `message | marked part | label | help`
    fn problem(sql: &str) -> String {
        let p = expression(sql, &schema()).expect_err(sql);
        let part = p.part.map_or("-".to_owned(), |r| sql[r].to_owned());
        [p.message, part, p.label.unwrap_or_default(), p.help.unwrap_or_default()].join(" | ")
    }

    #[test]
    fn a_problem_points_into_the_text_and_offers_the_way_out() {
        let there_is = "there is: Delay, origin, big";
        for (sql, said) in [
            ("1 < delay", format!("unknown column `delay` | delay | {there_is} | did you mean `Delay`?")),
            ("upper(orign)", format!("unknown column `orign` | orign | {there_is} | did you mean `origin`?")),
            ("big > other.x", format!("unknown column `other` | other | {there_is} | ")),
            (
                "origin = \"JFK\"",
                format!("unknown column `JFK` | \"JFK\" | {there_is} | a text stands in single quotes: `'JFK'`"),
            ),
            ("uper(origin)", "unknown function `uper` | uper |  | did you mean `upper`?".into()),
            ("big >", "expected an expression, found the end |  |  | ".into()),
            ("big = 'x", "unterminated string literal | ' |  | ".into()),
            ("big > > 1", "expected an expression, found > | > |  | ".into()),
            ("big as b", "the text ends before `as` | as | not understood | ".into()),
            ("  ", "the expression is empty | - |  | ".into()),
            (
                "origin + 1",
                "cannot coerce arithmetic expression text + bigint to valid types | - |  | `origin` is text: \
                 `cast(origin as double)`, or a type in the `schema` of its source"
                    .into(),
            ),
            ("origin ~ '('", "not a regular expression: unclosed group | - |  | ".into()),
            ("origin collate x", "the expression uses a part of SQL that is not supported here | - |  | ".into()),
        ] {
            assert_eq!(problem(sql), said);
        }
    }

    #[test]
    fn what_looks_at_more_than_one_row_is_refused() {
        for (sql, what) in [
            ("big > (select 1)", "a subquery can't stand here | select"),
            ("big in (select 1)", "a subquery can't stand here | select"),
            ("exists (select 1)", "a subquery can't stand here | select"),
            ("1 + Max(big)", "the aggregate `max` can't stand here | Max"),
            ("row_number() over ()", "`row_number(…) over (…)` can't stand here | row_number"),
        ] {
            assert!(problem(sql).starts_with(&format!("an expression sees one row at a time: {what}")), "{sql}");
        }
    }

    #[test]
    fn a_function_that_would_read_clock_or_dice_is_refused() {
        for sql in ["now()", "current_date", "current_timestamp", "current_time", "random()", "uuid()"] {
            let name = sql.trim_end_matches("()");
            let said = problem(&format!("{sql} is null"));
            assert!(
                said.starts_with(&format!("`{name}` has no value that stays the same for a row | {name}")),
                "{said}"
            );
        }
    }

    #[test]
    fn a_deep_text_is_compiled_and_a_deeper_one_refused_without_an_overflow() {
        for sql in [
            vec!["big"; 490].join(" + "),
            vec!["big = 1"; 240].join(" and "),
            format!("origin{}", "::text".repeat(240)),
            format!("{}origin{}", "upper(".repeat(60), ")".repeat(60)),
            format!("big in ({})", vec!["1"; 5_000].join(", ")),
        ] {
            assert!(expression(&sql, &schema()).is_ok(), "{}", &sql[..40]);
        }
        for open in ["(", "upper(", "[", "case when true then ", "array<", "not ", "- ", "interval ", "position("] {
            for n in [9, 120, 10_000, 200_000] {
                assert!(expression(&open.repeat(n), &schema()).is_err(), "{open} {n}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in "\\PC{0,60}") {
            let _any = expression(&sql, &schema());
            let _any = cast("big", &sql, &schema());
        }

        #[test]
        fn no_mix_of_sql_words_makes_it_panic(words in prop::collection::vec(prop::sample::select(WORDS), 1..12)) {
            let sql = words.join(" ");
            let compiled = expression(&sql, &schema());
            let panicked = compiled.err().is_some_and(|p| p.message.contains("panicked"));
            prop_assert!(!panicked, "{sql}");
        }
    }

    const WORDS: &[&str] = &[
        "Delay",
        "origin",
        "big",
        "1",
        "0",
        "-1",
        "1.5",
        "'a'",
        "''",
        "'2001-01-01'",
        "null",
        "true",
        "+",
        "-",
        "*",
        "/",
        "%",
        "=",
        "<",
        ">=",
        "and",
        "or",
        "not",
        "is",
        "in",
        "between",
        "like",
        "(",
        ")",
        ",",
        "[",
        "]",
        "::",
        "int",
        "text",
        "timestamp",
        "interval",
        "'1 hour'",
        "case",
        "when",
        "then",
        "else",
        "end",
        "cast",
        "as",
        "upper(",
        "substr(",
        "coalesce(",
        "date_trunc(",
        "repeat(",
        "extract",
        "year",
        "from",
        "||",
        "~",
        ".",
        "distinct",
        "$1",
        "*",
    ];
}
