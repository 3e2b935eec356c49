//! What recovering a run may cost: by what its steps cost in the runs of the workflow so far.

use bourn_engine::spec::model::Chain;
use bourn_engine::workflow::record::Cost;
use bourn_engine::workflow::result::{Elements, Estimate, RecoveryPlan};
use bourn_journal::{Run, Sqlite};

use super::insights::{Step, runs_of, steps};
use crate::failure::Failure;

/// The newest runs that are looked at.
const RUNS: usize = 1_000;

/// Puts what the actions of a plan may cost into them, as far as something is known.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub(super) fn add(journal: &Sqlite, chain: &Chain, run: &Run, plan: &mut RecoveryPlan) -> Result<(), Failure> {
    let runs = runs_of(journal, &run.workflow, RUNS)?;
    let known = steps(journal, &runs)?;
    let count = if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) };
    let source = format!("the mean of each step in the newest {count} of `{}`", run.workflow);
    for action in &mut plan.actions {
        let of = |id: &String| Some((id.clone(), known.get(id).filter(|step| step.count("COMPLETED") > 0)?));
        let again: Vec<(String, &Step)> = action.reruns.iter().filter_map(of).collect();
        if again.is_empty() {
            continue;
        }
        let mut cost = Cost::default();
        for (id, step) in &again {
            cost.add(mean(step, action.items.get(id).copied()));
        }
        let is_known = |id: &&String| !again.iter().any(|(known, _)| known == *id);
        action.estimate = Some(Estimate {
            cost,
            duration_ms: longest(chain, &again),
            completed: again.iter().map(|(id, step)| (id.clone(), step.count("COMPLETED"))).collect(),
            unknown: action.reruns.iter().filter(is_known).cloned().collect(),
            source: source.clone(),
        });
    }
    Ok(())
}

/// What one time of it cost, or the part of that for the elements that run again.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn mean(step: &Step, elements: Option<Elements>) -> Cost {
    let completed = step.count("COMPLETED").max(1);
    let Elements { reused, rerun } = elements.unwrap_or(Elements { reused: 0, rerun: 1 });
    let tokens = |sum: u64| (sum * rerun).div_ceil(completed * (reused + rerun).max(1));
    Cost {
        input_tokens: tokens(step.input_tokens.sum),
        output_tokens: tokens(step.output_tokens.sum),
        usd: step.usd / completed as f64 * rerun as f64 / (reused + rerun).max(1) as f64,
    }
}

/// How long the longest way through these steps takes, in milliseconds.
fn longest(chain: &Chain, steps: &[(String, &Step)]) -> u64 {
    let took = |id: &str| {
        let step = steps.iter().find(|(known, _)| known == id);
        step.map_or(0, |(_, step)| step.duration_ms.sum / (step.duration_ms.n as u64).max(1))
    };
    let mut ends = vec![0; chain.steps.len()];
    // Every round goes one step further.
    for _ in &chain.steps {
        for (at, step) in chain.steps.iter().enumerate() {
            let before = step.follows.iter().map(|one| ends[*one]).max().unwrap_or(0);
            ends[at] = before + took(&step.id);
        }
    }
    ends.into_iter().max().unwrap_or(0)
}

/// In words.
pub(super) fn text(Estimate { cost, duration_ms, unknown, source, .. }: &Estimate) -> String {
    let Cost { input_tokens, output_tokens, usd } = cost;
    let tokens = input_tokens + output_tokens;
    let tokens = (tokens > 0).then(|| format!("{tokens} tokens ({input_tokens} read, {output_tokens} written)"));
    let usd = (*usd > 0.0).then(|| format!("{usd:.4} usd"));
    let parts: Vec<String> = tokens.into_iter().chain(usd).chain([format!("{duration_ms} ms")]).collect();
    let without = unknown.join(", ");
    let but =
        if unknown.is_empty() { String::new() } else { format!("; without {without}, of which there is no record") };
    format!("estimate: {}: {source}{but}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_that_failed_at_some_those_alone_are_counted() {
        let mut step = Step::default();
        step.status.insert("COMPLETED".into(), 2);
        (step.input_tokens.sum, step.output_tokens.sum, step.usd) = (4_000, 41, 2.0);
        let of = |elements| {
            let Cost { input_tokens, output_tokens, usd } = mean(&step, elements);
            (input_tokens, output_tokens, usd)
        };
        assert_eq!(of(None), (2_000, 21, 1.0));
        assert_eq!(of(Some(Elements { reused: 19, rerun: 1 })), (100, 2, 0.05));
    }
}
