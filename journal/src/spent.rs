//! What the runs of a job have cost, read off what their steps left.

use std::collections::BTreeMap;

use bourn_engine::Result;
use bourn_engine::api::Usage;
use bourn_engine::journal::History;
use rusqlite::params;

use crate::fault::Faults as _;
use crate::job::{Job, run_number};

impl Job {
    /// What the steps of its runs have cost, as far as they have ended.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn spent(&self) -> Result<Usage> {
        self.journal.read(|c| {
            let query = "SELECT run, step, data ->> '$.usage.input_tokens', data ->> '$.usage.output_tokens', \
                         data ->> '$.usage.usd' FROM events WHERE run >= ?1 AND run < ?2 AND kind = 'step' \
                         AND data ->> '$.usage' IS NOT NULL AND data ->> '$.status' <> 'REUSED' ORDER BY run";
            let mut statement = c.prepare(query).told("read")?;
            let range = params![run_number(self.number, 0)?, run_number(self.number + 1, 0)?];
            let (mut spent, mut run, mut rows) = (Usage::default(), None, statement.query(range).told("read")?);
            // What elements, rounds and inner steps of a step have cost, which its own record has together.
            let mut open: BTreeMap<String, Usage> = BTreeMap::new();
            // What a step has cost so far is told again each time that a gate of it was asked.
            let mut told: BTreeMap<String, Usage> = BTreeMap::new();
            while let Some(row) = rows.next().told("read")? {
                let (of, step): (i64, String) = (row.get(0).told("read")?, row.get(1).told("read")?);
                if run != Some(of) {
                    told.clear();
                    for usage in std::mem::take(&mut open).into_values() {
                        spent += usage;
                    }
                    run = Some(of);
                }
                let usage = Usage {
                    input_tokens: row.get(2).told("read")?,
                    output_tokens: row.get(3).told("read")?,
                    usd: row.get(4).told("read")?,
                };
                let own = History::before_gates(&step).map(str::to_owned);
                let before = told.remove(own.as_ref().unwrap_or(&step)).unwrap_or_default();
                if let Some((whole, _)) = step.split_once(['[', '#', '/']) {
                    *open.entry(whole.to_owned()).or_default() += less(usage, before);
                    told.extend(own.map(|own| (own, usage)));
                } else {
                    open.remove(&step);
                    spent += usage;
                }
            }
            for usage in open.into_values() {
                spent += usage;
            }
            Ok(spent)
        })
    }
}

fn less(usage: Usage, told: Usage) -> Usage {
    Usage {
        input_tokens: usage.input_tokens.saturating_sub(told.input_tokens),
        output_tokens: usage.output_tokens.saturating_sub(told.output_tokens),
        usd: (usage.usd - told.usd).max(0.0),
    }
}
