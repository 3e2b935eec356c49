//! What an expression over one row may not say: subqueries, aggregates, windows, and functions that read clock or dice.

use std::ops::ControlFlow;

use bourn_engine::diagnostic::{Problem, did_you_mean};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::{Expr, Volatility};
use datafusion_sql::sqlparser::ast::{Expr as Ast, Function, FunctionArguments, Statement, visit_expressions};

use crate::functions::{aggregates, is_function, names};
use crate::text::Text;

/// Aggregates and window functions that people know, so that the message can say what is wrong with them here.
#[rustfmt::skip]
const OVER_MANY_ROWS: [&str; 32] = [
    "any_value", "approx_distinct", "approx_median", "approx_percentile_cont", "array_agg", "avg", "bit_and", "bit_or",
    "bool_and", "bool_or", "corr", "count", "dense_rank", "first_value", "grouping", "lag", "last_value", "lead", "max",
    "mean", "median", "min", "nth_value", "ntile", "percentile_cont", "rank", "row_number", "stddev", "string_agg", "sum",
    "var", "variance",
];

/// Checks what the syntax alone shows.
pub fn syntax(text: &Text<'_>, ast: &Ast) -> Result<(), Problem> {
    let found = visit_expressions(ast, |e| {
        let problem = match e {
            Ast::Subquery(_) | Ast::InSubquery { .. } | Ast::Exists { .. } => Some(subquery(text)),
            Ast::Function(function) => function_problem(text, function),
            Ast::Value(v) if matches!(v.value, datafusion_sql::sqlparser::ast::Value::Placeholder(_)) => {
                Some(Problem::new(format!("`{}` stands for no value", v.value)).help("name a column"))
            }
            _ => None,
        };
        problem.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    });
    match found {
        ControlFlow::Break(problem) => Err(problem),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Checks what the syntax of a query over a batch shows: it has aggregates, and no subqueries in expressions nor windows.
pub fn query(text: &Text<'_>, ast: &Statement) -> Result<(), Problem> {
    let found = visit_expressions(ast, |e| {
        let problem = match e {
            Ast::Subquery(_) | Ast::InSubquery { .. } | Ast::Exists { .. } => {
                let problem = Problem::new("a subquery can't stand in an expression here");
                Some(problem.help("one in `from` can: `select … from (select … from input) as t`"))
            }
            Ast::Function(function) if function.over.is_some() => {
                let name = function.name.to_string().to_lowercase();
                Some(marked(
                    text,
                    &name,
                    Problem::new(format!("`{name}(…) over (…)` is not supported: a batch has no order")),
                ))
            }
            Ast::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                let known = is_function(&name) || aggregates().any(|n| n == name);
                let is_unknown = !known && function.args != FunctionArguments::None;
                is_unknown.then(|| unknown_function(text, &name, names().chain(aggregates())))
            }
            Ast::Value(v) if matches!(v.value, datafusion_sql::sqlparser::ast::Value::Placeholder(_)) => {
                Some(Problem::new(format!("`{}` stands for no value", v.value)).help("name a column"))
            }
            _ => None,
        };
        problem.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    });
    match found {
        ControlFlow::Break(problem) => Err(problem),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn unknown_function(text: &Text<'_>, name: &str, known: impl Iterator<Item = &'static str>) -> Problem {
    let problem = Problem::new(format!("unknown function `{name}`"));
    let problem = match did_you_mean(name, known) {
        Some(help) => problem.help(help),
        None => problem,
    };
    marked(text, name, problem)
}

fn subquery(text: &Text<'_>) -> Problem {
    marked(text, "select", Problem::new("an expression sees one row at a time: a subquery can't stand here"))
}

fn function_problem(text: &Text<'_>, function: &Function) -> Option<Problem> {
    let name = function.name.to_string().to_lowercase();
    let problem = if matches!(function.args, FunctionArguments::Subquery(_)) {
        return Some(subquery(text));
    } else if function.over.is_some() {
        Problem::new(format!("an expression sees one row at a time: `{name}(…) over (…)` can't stand here"))
    } else if is_function(&name) || function.args == FunctionArguments::None {
        return None;
    } else if OVER_MANY_ROWS.contains(&name.as_str()) {
        Problem::new(format!("an expression sees one row at a time: the aggregate `{name}` can't stand here"))
    } else {
        return Some(unknown_function(text, &name, names()));
    };
    Some(marked(text, &name, problem))
}

/// Refuses functions whose value depends on more than their arguments: at planning they would become a constant, and a
/// row that is worked again after a failure would get another value.
pub fn functions(text: &Text<'_>, expr: &Expr) -> Result<(), Problem> {
    let mut refused = None;
    let walked = expr.apply(|e| {
        if let Expr::ScalarFunction(call) = e
            && call.func.signature().volatility != Volatility::Immutable
        {
            // `current_timestamp` is planned as `now`.
            let names = std::iter::once(call.func.name()).chain(call.func.aliases().iter().map(String::as_str));
            let (name, part) = names
                .clone()
                .find_map(|name| text.find(name).map(|part| (name, Some(part))))
                .unwrap_or((call.func.name(), None));
            let mut problem = Problem::new(format!("`{name}` has no value that stays the same for a row"))
                .help("a row that is worked again must give the same result: let the source add a column for it");
            problem.part = part;
            refused = Some(problem);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself can't fail");
    refused.map_or(Ok(()), Err)
}

fn marked(text: &Text<'_>, word: &str, problem: Problem) -> Problem {
    match text.find(word) {
        Some(part) => problem.part(part),
        None => problem,
    }
}
