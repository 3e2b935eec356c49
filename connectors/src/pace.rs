//! How fast a generating source speaks.

use std::time::Duration;

use bourn_engine::data::units::Rate;
use bourn_engine::env::Env;

/// Lets rows through at a rate: the row `k` not before `k / rate` after the first. After a standstill of more than a
/// second the missed rows are not made up for.
#[derive(Debug)]
pub struct Pace {
    rate: Option<Rate>,
    begun: Option<Duration>,
    sent: u64,
}

/// Rows are sent in groups of about this length of time.
const GROUP: Duration = Duration::from_millis(10);
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

impl Pace {
    /// As fast as it goes when there is no rate.
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, begun: None, sent: 0 }
    }

    /// Waits until the next rows are due; returns how many, from 1 to `most`.
    pub async fn admit(&mut self, most: usize, env: &Env) -> usize {
        let Some(rate) = self.rate else { return most };
        let (now, per_second) = (env.monotonic(), rate.per_second());
        let after = Duration::from_secs_f64(self.sent as f64 / per_second);
        let due = *self.begun.get_or_insert(now) + after;
        if due > now {
            env.sleep(due.saturating_sub(now)).await;
        } else if now.saturating_sub(due) > CATCH_UP_MAX {
            self.begun = Some(now);
            self.sent = 0;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a u32 in 10 ms, and positive")]
        let group = (per_second * GROUP.as_secs_f64()) as usize;
        let count = group.clamp(1, most.max(1));
        self.sent += count as u64;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::testing::simulation::Simulation;

    #[test]
    fn rows_come_at_their_rate_and_promptly_when_it_is_low() {
        for (rate, first) in [("5/s", 1), ("100/m", 1), ("50000/s", 500), ("4000000/s", 8_192)] {
            let rate: Rate = rate.parse().unwrap();
            let simulation = Simulation::new(1);
            let env = simulation.env();
            let sent = simulation.run(async move {
                let mut pace = Pace::new(Some(rate));
                let begun = env.monotonic();
                assert_eq!(pace.admit(8_192, &env).await, first);
                let mut sent = first;
                while env.monotonic() < begun + Duration::from_mins(1) {
                    sent += pace.admit(8_192, &env).await;
                }
                sent
            });
            let (sent, expected) = (sent.done() as f64, rate.per_second() * 60.0);
            assert!((sent - expected).abs() <= 2.0 * first as f64, "{rate}: {sent} of {expected}");
        }
    }

    #[test]
    fn a_standstill_is_not_made_up_for() {
        let simulation = Simulation::new(1);
        let env = simulation.env();
        simulation
            .run(async move {
                let mut pace = Pace::new("100/s".parse().ok());
                pace.admit(10, &env).await;
                env.sleep(Duration::from_secs(100)).await;
                let begun = env.monotonic();
                for _ in 0..101 {
                    pace.admit(10, &env).await;
                }
                assert!(env.monotonic() >= begun + Duration::from_secs(1));
            })
            .done();
    }
}
