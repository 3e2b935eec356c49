//! `route`: sends each row to the first port whose condition is true.

use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_expr::Predicate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::named::Named;
use crate::shape::filter::predicate;

/// Sends each row to the first port whose condition in SQL is true.
///
/// `route: { late: delay > 15, early: delay < 0 }` with the id `by_delay`: readers say `from: by_delay.late` and
/// `from: by_delay.early`; the other rows leave by the main port, `from: by_delay`. With `otherwise: drop` they are
/// dropped and counted as filtered. Conditions are asked in the order written, and a row that has found its port is asked
/// no more. Null is not true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Where rows go for which no condition is true: `main` (the port without a name) or `drop`.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// The ports, each with its condition.
    #[serde(flatten)]
    pub ports: Named,
}

/// Where rows go for which no condition is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// By the port without a name.
    #[default]
    Main,
    /// Nowhere; they are counted as filtered.
    Drop,
}

impl StageConfig for Route {
    const NAME: &'static str = "route";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut problems = Vec::new();
        if self.ports.is_empty() {
            let problem = Problem::new("there is no port to route to");
            problems.push(problem.help("name one with its condition, as in `route: { late: delay > 15 }`"));
        }
        for (port, condition) in self.ports.iter() {
            if !is_name(port) {
                let problem = Problem::new(format!("`{port}` can't be the name of a port"));
                problems.push(problem.help("letters, digits, `_` and `-`, a letter first").under(port));
            }
            problems.extend(Predicate::compile(condition, &inputs[0]).err().map(|p| p.under(port)));
        }
        Problems::check(problems)?;
        Ok(inputs[0].clone())
    }

    fn ports(&self) -> Vec<String> {
        self.ports.names().map(str::to_owned).collect()
    }

    fn cardinality(&self) -> Cardinality {
        match self.otherwise {
            Otherwise::Main => Cardinality::One,
            Otherwise::Drop => Cardinality::AtMostOne,
        }
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let conditions = self.ports.iter().map(|(_, sql)| predicate(sql, &context.inputs[0]));
        Ok(Operator::stage(FirstMatch { conditions: conditions.collect::<Result<_>>()?, otherwise: self.otherwise }))
    }
}

/// Readers say `stage.port`, so a port is named like a stage.
fn is_name(name: &str) -> bool {
    name.starts_with(char::is_alphabetic) && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}

struct FirstMatch {
    conditions: Vec<Predicate>,
    otherwise: Otherwise,
}

impl Stage for FirstMatch {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut rest = rows.clone();
        for (n, condition) in self.conditions.iter().enumerate() {
            let mask = condition.mask(&rest)?;
            match mask.true_count() {
                0 => {}
                all if all == rest.num_rows() => {
                    out.emit_to(n + 1, rest);
                    return Ok(Progress::Done);
                }
                _ => {
                    out.emit_to(n + 1, filter_record_batch(&rest, &mask)?);
                    rest = filter_record_batch(&rest, &not(&mask)?)?;
                }
            }
        }
        match self.otherwise {
            Otherwise::Main => out.emit(rest),
            Otherwise::Drop => out.filtered(rest.num_rows()),
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::Harness;
    use serde_json::{Value, json};

    fn flights() -> RecordBatch {
        rows![{"d": 20}, {"d": null}, {"d": -4}, {"d": 0}, {"d": 99}]
    }

    fn route(config: Value) -> Route {
        serde_json::from_value(config).unwrap()
    }

    fn delays(stage: &Harness, port: usize) -> Vec<Value> {
        stage.said.rows(port).iter().map(|row| row["d"].clone()).collect()
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(route(json!({"late": "d > 15", "early": "d < 0"})), flights()).check();
        conformance::stage(route(json!({"late": "d > 15", "otherwise": "drop"})), flights()).check();
    }

    #[test]
    fn a_row_leaves_by_the_first_port_that_fits() {
        let config = route(json!({"very_late": "d > 90", "late": "d > 15", "early": "d < 0"}));
        assert_eq!(config.ports(), ["very_late", "late", "early"]);
        let mut stage = Harness::new(&config, &[flights().schema()]).unwrap();
        stage.process(&flights()).unwrap();
        let found: Vec<_> = (0..4).map(|port| delays(&stage, port)).collect();
        assert_eq!(found, [vec![Value::Null, json!(0)], vec![json!(99)], vec![json!(20)], vec![json!(-4)]]);
        assert_eq!(stage.said.filtered, 0);
    }

    #[test]
    fn a_row_that_has_found_its_port_is_asked_no_more() {
        let mut stage =
            Harness::new(&route(json!({"zero": "d = 0", "big": "100 / d > 1"})), &[flights().schema()]).unwrap();
        stage.process(&flights()).unwrap();
        assert_eq!((delays(&stage, 1), delays(&stage, 2)), (vec![json!(0)], vec![json!(20)]));
    }

    #[test]
    fn rows_that_fit_nowhere_are_dropped_when_asked_and_counted() {
        let mut stage =
            Harness::new(&route(json!({"late": "d > 15", "otherwise": "drop"})), &[flights().schema()]).unwrap();
        stage.process(&flights()).unwrap();
        assert_eq!((stage.said.count(0), stage.said.count(1), stage.said.filtered), (0, 2, 3));
    }

    #[test]
    fn problems_stand_at_their_port() {
        let problems = |config| route(config).schema(&[flights().schema()]).unwrap_err().0;
        let found = problems(json!({"a.b": "d > 1", "late": "dd > 1"}));
        assert_eq!(found[0].message, "`a.b` can't be the name of a port");
        assert_eq!((found[1].message.as_str(), &found[1].path), ("unknown column `dd`", &vec!["late".into()]));
        assert_eq!(problems(json!({}))[0].message, "there is no port to route to");
    }
}
