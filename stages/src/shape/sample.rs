//! `sample`: keeps a part of the rows.

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::state::{StateVisitor, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::keys::Keys;

/// Keeps a part of the rows, the same ones on every run.
///
/// `sample: { fraction: 0.1 }` keeps about a tenth: a row is kept by a hash of its values and of `seed`, so it does not
/// matter in which order, in which batch or on which lane it comes, and rows that are equal in every column are kept
/// or left together. With `by: [user]` the hash is that of these columns alone: about a tenth of the users is kept,
/// each with all rows. Two samples of one seed are part of each other: what `fraction: 0.1` keeps, `fraction: 0.2` keeps.
///
/// `sample: { every: 100 }` keeps the first row and then each hundredth, in the order in which they arrive. That takes
/// one lane; where several files or inputs are read side by side, their order is not the same on every run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The part to keep, above 0 and up to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// Keep one row of so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub every: Option<u64>,
    /// With `fraction`: the columns whose values are kept or left as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// With `fraction`: another seed keeps other rows.
    #[serde(default)]
    pub seed: u64,
}

impl Sample {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match (self.fraction, self.every) {
            (None, None) => {
                let problem = Problem::new("this says neither which fraction nor every how many rows to keep");
                problems.push(problem.help("write `fraction: 0.1` or `every: 10`"));
            }
            (Some(_), Some(_)) => {
                problems.push(Problem::new("`fraction` and `every` exclude each other").under("every"));
            }
            (Some(fraction), None) if !(fraction > 0.0 && fraction <= 1.0) => {
                let problem = Problem::new(format!("a fraction is above 0 and up to 1, and this is {fraction}"));
                problems.push(problem.under("fraction"));
            }
            (None, Some(0)) => problems.push(Problem::new("every row is `every: 1`; 0 has no meaning").under("every")),
            _ => {}
        }
        if self.every.is_some() && !self.by.is_empty() {
            let problem = Problem::new("`every` counts rows and does not look at columns").under("by");
            problems.push(problem.help("`fraction` with `by` keeps whole groups"));
        }
        problems
    }
}

impl StageConfig for Sample {
    const NAME: &'static str = "sample";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut problems = self.problems();
        if self.every.is_none() {
            problems.extend(Keys::new(&inputs[0], &self.by, "by").err().into_iter().flat_map(|p| p.0));
        }
        Problems::check(problems)?;
        Ok(inputs[0].clone())
    }

    fn distribution(&self) -> Distribution {
        if self.every.is_some() { Distribution::Single } else { Distribution::Any }
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::AtMostOne
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        if let Some(every) = self.every {
            return Ok(Operator::stage(Count { every: every.max(1), seen: Value::new(0) }));
        }
        let keys = Keys::new(&context.inputs[0], &self.by, "by")
            .map_err(|Problems(mut p)| super::filter::as_error(p.swap_remove(0)))?;
        Ok(Operator::stage(Draw { keys, seed: self.seed, below: below(self.fraction.unwrap_or(1.0)) }))
    }
}

/// The hashes that are kept: those below this, or all.
fn below(fraction: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction below 1 fits")]
    let below = (fraction * 2f64.powi(64)) as u64;
    (fraction < 1.0).then_some(below)
}

struct Draw {
    keys: Keys,
    seed: u64,
    below: Option<u64>,
}

impl Stage for Draw {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let Some(below) = self.below else {
            out.emit(rows.clone());
            return Ok(Progress::Done);
        };
        let keys = self.keys.of(rows)?;
        let kept = keys.iter().map(|key| xxh3_64_with_seed(key.data(), self.seed) < below);
        emit(rows, &kept.collect::<Vec<_>>().into(), out)
    }
}

struct Count {
    every: u64,
    seen: Value<u64>,
}

impl Stage for Count {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let (every, mut seen) = (self.every, *self.seen.get());
        let kept = (0..rows.num_rows()).map(|_| {
            let kept = seen == 0;
            seen = (seen + 1) % every;
            kept
        });
        let kept = kept.collect::<Vec<_>>().into();
        self.seen.set(seen);
        emit(rows, &kept, out)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("seen", &mut self.seen)
    }
}

/// Sends on the rows that are kept, and counts the others.
pub(super) fn emit(rows: &RecordBatch, kept: &BooleanArray, out: &mut Output) -> Result<Progress> {
    out.filtered(rows.num_rows() - kept.true_count());
    out.emit(if kept.true_count() == rows.num_rows() { rows.clone() } else { filter_record_batch(rows, kept)? });
    Ok(Progress::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::told;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::{Harness, batch};
    use serde_json::json;

    fn sample(config: serde_json::Value) -> Sample {
        serde_json::from_value(config).unwrap()
    }

    fn numbers(count: i64) -> RecordBatch {
        batch(&(0..count).map(|n| json!({"n": n, "user": format!("u{}", n % 50)})).collect::<Vec<_>>())
    }

    fn kept(config: serde_json::Value, rows: &RecordBatch) -> Vec<i64> {
        let mut stage = Harness::new(&sample(config), &[rows.schema()]).unwrap();
        stage.process(rows).unwrap();
        let rows = stage.said.rows(0);
        rows.iter().map(|r| r["n"].as_i64().unwrap()).collect()
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        for config in [json!({"fraction": 0.5}), json!({"fraction": 0.3, "by": ["user"]}), json!({"every": 3})] {
            conformance::stage(sample(config), numbers(40)).check();
        }
    }

    #[test]
    fn about_the_fraction_is_kept_and_the_same_rows_whatever_their_order() {
        let rows = numbers(8_000);
        let first = kept(json!({"fraction": 0.1}), &rows);
        assert!((700..900).contains(&first.len()), "{}", first.len());
        let back = arrow::array::UInt64Array::from_iter_values((0..8_000).rev());
        let mut turned = kept(json!({"fraction": 0.1}), &arrow::compute::take_record_batch(&rows, &back).unwrap());
        turned.reverse();
        assert_eq!(turned, first);
        let larger = kept(json!({"fraction": 0.2}), &rows);
        assert!(first.iter().all(|n| larger.contains(n)));
        assert_ne!(kept(json!({"fraction": 0.1, "seed": 1}), &rows), first);
        assert_eq!(kept(json!({"fraction": 1}), &rows).len(), 8_000);
    }

    #[test]
    fn a_sample_stays_the_same_from_one_version_to_the_next() {
        assert_eq!(kept(json!({"fraction": 0.1, "seed": 7}), &numbers(60)), SEED_7);
    }
    const SEED_7: &[i64] = &[13, 16, 27, 34];

    #[test]
    fn whole_groups_are_kept() {
        let users = kept(json!({"fraction": 0.2, "by": ["user"]}), &numbers(5_000));
        let groups: std::collections::BTreeSet<_> = users.iter().map(|n| n % 50).collect();
        assert!((3..20).contains(&groups.len()), "{groups:?}");
        assert_eq!(users.len(), groups.len() * 100);
    }

    #[test]
    fn every_nth_row_is_kept_from_the_first_on_across_batches() {
        let mut stage = Harness::new(&sample(json!({"every": 4})), &[numbers(1).schema()]).unwrap();
        let rows = numbers(11);
        stage.process(&rows.slice(0, 3)).unwrap();
        stage.process(&rows.slice(3, 8)).unwrap();
        let kept: Vec<_> = stage.said.rows(0).iter().map(|r| r["n"].clone()).collect();
        assert_eq!((kept, stage.said.filtered), (vec![json!(0), json!(4), json!(8)], 8));
        assert_eq!(sample(json!({"every": 4})).distribution(), Distribution::Single);
    }

    #[test]
    fn what_makes_no_sample_is_refused() {
        let said = |config| told(sample(config).schema(&[numbers(1).schema()]));
        assert_eq!(
            said(json!({})),
            [
                " | this says neither which fraction nor every how many rows to keep | write `fraction: 0.1` or `every: 10`"
            ]
        );
        assert_eq!(said(json!({"fraction": 1, "every": 2})), ["every | `fraction` and `every` exclude each other | "]);
        for wrong in [json!(0), json!(1.5), json!(-1)] {
            let said = said(json!({"fraction": wrong, "by": ["usr"]}));
            assert!(said[0].starts_with("fraction | a fraction is above 0 and up to 1"), "{said:?}");
            assert_eq!(said[1], "by.0 | unknown column `usr` | did you mean `user`?");
        }
        assert_eq!(said(json!({"every": 0})), ["every | every row is `every: 1`; 0 has no meaning | "]);
        assert_eq!(
            said(json!({"every": 2, "by": ["user"]})),
            ["by | `every` counts rows and does not look at columns | `fraction` with `by` keeps whole groups"]
        );
    }
}
