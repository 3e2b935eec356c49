//! What `mock-llm` counts, and tells at `GET /stats`.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Value, json};

/// The most keys and prompts that are counted one by one, and the most of a prompt that is kept, in characters.
const KINDS_MAX: usize = 1_000_000;
const SHOWN: usize = 200;
/// The most keys and prompts that are told.
const TOLD_MAX: usize = 1_000;

/// The counters.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests for an answer, whatever became of them.
    pub requests: u64,
    /// Those that got an answer.
    pub answered: u64,
    /// Those that were refused because of a limit.
    pub limited: u64,
    /// Those that were refused because they were not valid.
    pub refused: u64,
    /// Those whose answer a fault took the place of.
    pub faults: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Those at work now.
    pub in_flight: u64,
    /// The most at once.
    pub in_flight_most: u64,
    /// Those that said how hard the model is to think.
    efforts: BTreeMap<String, u64>,
    keys: IndexMap<String, Count>,
    prompts: IndexMap<String, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    requests: u64,
    answered: u64,
}

impl Stats {
    /// A question came. Those beyond a million kinds are not counted one by one.
    pub fn asked(&mut self, key: Option<&str>, prompt: &str, effort: Option<&str>) {
        self.requests += 1;
        // The services know few words, and others are refused.
        if let Some(effort) = effort {
            *self.efforts.entry(effort.to_owned()).or_default() += 1;
        }
        each(&mut self.keys, key, |count| count.requests += 1);
        each(&mut self.prompts, Some(prompt), |count| count.requests += 1);
    }

    /// It has got its answer, which a client pays for.
    pub fn answered(&mut self, key: Option<&str>, prompt: &str, (input, output): (u64, u64)) {
        self.answered += 1;
        self.input_tokens += input;
        self.output_tokens += output;
        each(&mut self.keys, key, |count| count.answered += 1);
        each(&mut self.prompts, Some(prompt), |count| count.answered += 1);
    }

    /// One more is at work.
    pub fn enter(&mut self) {
        self.in_flight += 1;
        self.in_flight_most = self.in_flight_most.max(self.in_flight);
    }

    /// What is told.
    pub fn document(&self) -> Value {
        json!({
            "requests": self.requests,
            "answered": self.answered,
            "429": self.limited,
            "refused": self.refused,
            "faults": self.faults,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "efforts": self.efforts,
            "in_flight": self.in_flight,
            "in_flight_most": self.in_flight_most,
            "idempotency_keys": told(&self.keys),
            "prompts": told(&self.prompts),
        })
    }
}

fn each(counts: &mut IndexMap<String, Count>, name: Option<&str>, add: impl FnOnce(&mut Count)) {
    let Some(name) = name else { return };
    let name: String = name.chars().take(SHOWN).collect();
    if counts.len() < KINDS_MAX || counts.contains_key(&name) {
        add(counts.entry(name).or_default());
    }
}

/// How many there are, how many of them were answered more than once, and those with the most requests.
fn told(counts: &IndexMap<String, Count>) -> Value {
    let mut most: Vec<_> = counts.iter().collect();
    most.sort_by_key(|(_, count)| std::cmp::Reverse(count.requests));
    let one = |(name, count): &(&String, &Count)| {
        ((*name).clone(), json!({ "requests": count.requests, "answered": count.answered }))
    };
    json!({
        "distinct": counts.len(),
        "answered_again": counts.values().filter(|count| count.answered > 1).count(),
        "most": most.iter().take(TOLD_MAX).map(one).collect::<serde_json::Map<_, _>>(),
    })
}
