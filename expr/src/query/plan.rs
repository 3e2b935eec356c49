//! From the text of a query to its steps.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::Problem;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchemaRef, Result as DfResult, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Distinct, Expr, FetchType, LogicalPlan, SkipType};
use datafusion_optimizer::analyzer::AnalyzerRule;
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion_physical_expr::expressions::{self, Column};
use datafusion_sql::planner::SqlToRel;
use datafusion_sql::sqlparser::ast::Statement;
use datafusion_sql::sqlparser::parser::Parser;

use super::aggregate::{Aggregation, Function};
use super::step::Step;
use crate::compile::{guarded, lower, options, parse};
use crate::functions::{Names, TABLE};
use crate::text::Text;
use crate::{check, errors};

/// The steps of a query, and the schema of its result.
///
/// # Errors
/// See [`super::Query::compile`].
pub fn query(sql: &str, input: &SchemaRef) -> Result<(Vec<Step>, SchemaRef), Problem> {
    let text = Text::read(sql)?;
    guarded(&text, || {
        let problem = |e| errors::planner(&text, input, &e);
        let ast = Statement::Query(parse(&text, sql, Parser::parse_query)?);
        check::query(&text, &ast)?;
        let names = Names::with_table(input.clone());
        let plan = SqlToRel::new_with_options(&names, options()).sql_statement_to_plan(ast).map_err(problem)?;
        let plan = TypeCoercion::new().analyze(plan, &ConfigOptions::default()).map_err(problem)?;
        let mut refused = None;
        plan.apply(|node| {
            node.apply_expressions(|e| {
                refused = refused.take().or(check::functions(&text, e).err());
                Ok(TreeNodeRecursion::Continue)
            })
        })
        .map_err(problem)?;
        if let Some(problem) = refused {
            return Err(problem);
        }
        let mut steps = Vec::new();
        let schema = add_steps(&plan, input, &mut steps).map_err(problem)?;
        Ok(in_one_text(schema, steps))
    })
}

/// Adds the steps of a plan behind those of its input; the schema of what leaves.
fn add_steps(plan: &LogicalPlan, input: &SchemaRef, steps: &mut Vec<Step>) -> DfResult<SchemaRef> {
    let below = match plan.inputs().as_slice() {
        [] => input.clone(),
        [below] => add_steps(below, input, steps)?,
        _ => return plan_err!("a query reads one table: no joins and no unions"),
    };
    let (step, schema) = match plan {
        LogicalPlan::TableScan(scan) if scan.projection.is_none() && scan.filters.is_empty() => return Ok(below),
        LogicalPlan::SubqueryAlias(_) => return Ok(below),
        LogicalPlan::EmptyRelation(_) => {
            return plan_err!("a query reads the rows of the batch: `select … from {TABLE}`");
        }
        LogicalPlan::Projection(projection) => {
            let columns = all(&projection.expr, projection.input.schema())?;
            let schema = schema_of(&columns, &below, &projection.schema)?;
            (Step::Project { columns, schema: schema.clone() }, schema)
        }
        LogicalPlan::Filter(filter) => {
            (Step::Filter(lower(filter.predicate.clone(), filter.input.schema().clone())?), below)
        }
        LogicalPlan::Distinct(Distinct::All(_)) => {
            comparable(below.fields().iter().map(|f| f.data_type().clone()))?;
            (Step::Distinct, below)
        }
        LogicalPlan::Sort(sort) => {
            let by = sort.expr.iter().map(|s| {
                let options = arrow::compute::SortOptions { descending: !s.asc, nulls_first: s.nulls_first };
                Ok((lower(s.expr.clone(), sort.input.schema().clone())?, options))
            });
            (Step::Sort { by: by.collect::<DfResult<_>>()?, fetch: sort.fetch }, below)
        }
        LogicalPlan::Limit(limit) => match (limit.get_skip_type()?, limit.get_fetch_type()?) {
            (SkipType::Literal(skip), FetchType::Literal(fetch)) => (Step::Limit { skip, fetch }, below),
            _ => return plan_err!("`limit` and `offset` take a number"),
        },
        LogicalPlan::Aggregate(aggregate) => {
            let columns = aggregate.input.schema();
            if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
                return plan_err!("grouping sets are not supported: group by columns or expressions");
            }
            let keys = all(&aggregate.group_expr, columns)?;
            comparable(keys.iter().map(|k| k.data_type(&below)).collect::<DfResult<Vec<_>>>()?)?;
            let functions = aggregate.aggr_expr.iter().map(|e| function(e, columns, &below));
            let functions = functions.collect::<DfResult<Vec<_>>>()?;
            let schema: SchemaRef =
                Arc::new(Schema::new(aggregate.schema.fields().iter().map(nullable).collect::<Vec<_>>()));
            (Step::Aggregate(Aggregation { keys, functions, schema: schema.clone() }), schema)
        }
        other => return plan_err!("`{}` is not supported in a query over a batch", name_of(other)),
    };
    steps.push(step);
    Ok(schema)
}

fn all(expressions: &[Expr], columns: &DFSchemaRef) -> DfResult<Vec<Arc<dyn PhysicalExpr>>> {
    expressions.iter().map(|e| lower(e.clone().unalias(), columns.clone())).collect()
}

/// Checks that groups can be told apart by values of these types.
fn comparable(types: impl IntoIterator<Item = DataType>) -> DfResult<()> {
    match types.into_iter().find(|t| !RowConverter::supports_fields(&[SortField::new(t.clone())])) {
        Some(other) => plan_err!("rows can't be compared by values of {}", sql_name(&other)),
        None => Ok(()),
    }
}

fn function(expression: &Expr, columns: &DFSchemaRef, below: &SchemaRef) -> DfResult<Function> {
    let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let lowered = LoweredAggregateBuilder::new(expression, columns, below, &props, &context).build()?;
    if !lowered.order_bys.is_empty() {
        return plan_err!("`order by` in an aggregate is not supported: sort in a `select` in brackets");
    }
    Ok(Function { aggregate: lowered.aggregate, filter: lowered.filter })
}

/// Whether a function can return null is not always declared truly, so computed values always may.
fn nullable(field: &Arc<Field>) -> Field {
    field.as_ref().clone().with_nullable(true)
}

/// The fields of computed columns. A bare column keeps its own, whose metadata says whether a text is a JSON document.
fn schema_of(columns: &[Arc<dyn PhysicalExpr>], below: &SchemaRef, names: &DFSchemaRef) -> DfResult<SchemaRef> {
    let field = |(column, named): (&Arc<dyn PhysicalExpr>, &Arc<Field>)| {
        Ok(match column.downcast_ref::<Column>() {
            Some(bare) => below.field(bare.index()).clone().with_name(named.name()),
            None => Field::new(named.name(), column.data_type(below)?, true),
        })
    };
    let fields = columns.iter().zip(names.fields()).map(field).collect::<DfResult<Vec<_>>>()?;
    Ok(Arc::new(Schema::new_with_metadata(fields, below.metadata().clone())))
}

/// Some functions answer in another form of text than they were asked in; downstream there is one.
fn in_one_text(schema: SchemaRef, mut steps: Vec<Step>) -> (Vec<Step>, SchemaRef) {
    if !schema.fields().iter().any(|f| f.data_type() == &DataType::Utf8View) {
        return (steps, schema);
    }
    let column = |(n, field): (usize, &Arc<Field>)| -> (Arc<dyn PhysicalExpr>, Field) {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), n));
        match field.data_type() {
            DataType::Utf8View => {
                let text = Arc::new(expressions::CastExpr::new(column, DataType::Utf8, None));
                (text, field.as_ref().clone().with_data_type(DataType::Utf8))
            }
            _ => (column, field.as_ref().clone()),
        }
    };
    let (columns, fields): (Vec<_>, Vec<_>) = schema.fields().iter().enumerate().map(column).unzip();
    let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    steps.push(Step::Project { columns, schema: schema.clone() });
    (steps, schema)
}

fn name_of(plan: &LogicalPlan) -> String {
    let shown = plan.display().to_string();
    shown.split([':', ' ']).next().unwrap_or_default().to_lowercase()
}
