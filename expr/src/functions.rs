//! The names that a text may use beside columns: functions and types.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::logical_plan::builder::LogicalTableSource;
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

use crate::types::Types;

/// Built once for the process, at the first expression. It is a table of constants, not state: two engines that share it
/// can't see each other through it.
static FUNCTIONS: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let plain = datafusion_functions::all_default_functions();
    let nested = datafusion_functions_nested::all_default_nested_functions();
    let mut functions = HashMap::new();
    for function in plain.into_iter().chain(nested).chain(crate::formats::all()) {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            functions.insert(name.to_owned(), function.clone());
        }
    }
    functions
});

static PLANNERS: LazyLock<[Arc<dyn ExprPlanner>; 6]> = LazyLock::new(|| {
    [
        Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
        Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
        Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
        Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
        Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
    ]
});

static OPTIONS: LazyLock<ConfigOptions> = LazyLock::new(ConfigOptions::default);

/// Whether there is a function of this name, in lower case.
pub fn is_function(name: &str) -> bool {
    FUNCTIONS.contains_key(name)
}

/// The names of all functions.
pub fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.keys().map(String::as_str)
}

/// Built once for the process, as [`FUNCTIONS`].
static AGGREGATES: LazyLock<HashMap<String, Arc<AggregateUDF>>> = LazyLock::new(|| {
    let mut aggregates = HashMap::new();
    for function in datafusion_functions_aggregate::all_default_aggregate_functions() {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            aggregates.insert(name.to_owned(), function.clone());
        }
    }
    aggregates
});

/// The names of all aggregates.
pub fn aggregates() -> impl Iterator<Item = &'static str> {
    AGGREGATES.keys().map(String::as_str)
}

/// The table that a query reads.
pub const TABLE: &str = "input";

/// What the planner of SQL asks for names.
pub struct Names {
    /// The columns of [`TABLE`] in a query; none in an expression, which knows no aggregates either.
    table: Option<SchemaRef>,
}

impl Names {
    /// The names in an expression over one row.
    pub fn new() -> Self {
        Self { table: None }
    }

    /// The names in a query over a batch.
    pub fn with_table(schema: SchemaRef) -> Self {
        Self { table: Some(schema) }
    }
}

impl ContextProvider for Names {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match &self.table {
            Some(schema) if name.schema().is_none() && name.table() == TABLE => {
                Ok(Arc::new(LogicalTableSource::new(schema.clone())))
            }
            Some(_) => plan_err!("there is no table `{name}` here: the rows of the batch are `{TABLE}`"),
            None => plan_err!("there is no table `{name}` here: an expression sees the columns of its input"),
        }
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &*PLANNERS
    }
    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        FUNCTIONS.get(name).cloned()
    }
    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }
    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.table.as_ref().and_then(|_| AGGREGATES.get(name).cloned())
    }
    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }
    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        &OPTIONS
    }
    fn udf_names(&self) -> Vec<String> {
        FUNCTIONS.keys().cloned().collect()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udaf_names(&self) -> Vec<String> {
        self.table.iter().flat_map(|_| AGGREGATES.keys().cloned()).collect()
    }
    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
