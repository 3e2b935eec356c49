//! When runs of a workflow begin by themselves.

use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::reader::Reader;
use crate::data::units::Interval;
use crate::diagnostic::{Key, Problem, did_you_mean};
use crate::time::Timestamp;

/// `schedule`: when runs begin by themselves.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(crate) struct ScheduleKeys {
    /// A cron pattern: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday); with six fields the first is the
    /// second. `0 6 * * MON-FRI`, `@hourly`.
    pub cron: Option<String>,
    /// Every so often instead: at the multiples of this time since 1970, so a restart changes nothing.
    pub every: Option<Interval>,
    /// Whose time the pattern means, such as `Europe/Berlin`; UTC if it does not say.
    pub timezone: Option<String>,
    /// What becomes of times that passed while nothing ran.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// What each run is given beside `scheduled_at`.
    pub input: Option<Map<String, Value>>,
}

/// What becomes of times that passed while nothing ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are left out.
    #[default]
    Skip,
    /// The last of them is made up for.
    One,
    /// All of them are, one after the other, up to 1,000.
    All,
}

/// When runs begin by themselves.
#[derive(Clone, Debug)]
pub struct Schedule {
    when: When,
    /// What becomes of times that passed while nothing ran.
    pub catch_up: CatchUp,
    input: Map<String, Value>,
}

#[derive(Clone, Debug)]
enum When {
    Cron(Box<Cron>, Tz),
    Every(Duration),
}

impl Schedule {
    /// Reads it; `None` when something is wrong with it.
    pub(super) fn read(reader: &mut Reader<'_>, keys: ScheduleKeys, path: &[Key]) -> Option<Self> {
        let below = |key: &str| [path, &[key.into()]].concat();
        let zone = match keys.timezone.as_deref().map(|name| (name, Tz::from_str(name))) {
            None => Tz::UTC,
            Some((_, Ok(zone))) => zone,
            Some((name, Err(_))) => {
                let problem = Problem::new(format!("there is no time zone `{name}`"));
                let help = did_you_mean(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
                let help = help.unwrap_or_else(|| "for example `Europe/Berlin`, as the IANA database has it".into());
                reader.fault(&below("timezone"), problem.help(help));
                return None;
            }
        };
        let when = match (&keys.cron, keys.every) {
            (Some(pattern), None) => match Cron::from_str(pattern) {
                Ok(cron) if cron.find_next_occurrence(&DateTime::UNIX_EPOCH.with_timezone(&zone), false).is_err() => {
                    let problem = Problem::new(format!("`{pattern}` never comes: no month has such a day"));
                    reader.fault(&below("cron"), problem);
                    return None;
                }
                Ok(cron) => When::Cron(Box::new(cron), zone),
                Err(e) => {
                    let problem = Problem::new(format!("`{pattern}` is no cron pattern: {e}"));
                    let help = "minute, hour, day of the month, month, day of the week: `30 6 * * MON-FRI`";
                    reader.fault(&below("cron"), problem.help(help));
                    return None;
                }
            },
            (None, Some(Interval(every))) if every >= Duration::from_secs(1) => When::Every(every),
            (None, Some(_)) => {
                reader.fault(&below("every"), Problem::new("this must be at least a second"));
                return None;
            }
            _ => {
                let problem = Problem::new("a schedule has a `cron` pattern or says `every`, and one of them");
                reader.fault(path, problem.help("for example `schedule: { cron: \"30 6 * * MON-FRI\" }`"));
                return None;
            }
        };
        Some(Self { when, catch_up: keys.catch_up, input: keys.input.unwrap_or_default() })
    }

    /// The first time behind this one; none when there is no other one.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Cron(cron, zone) => {
                let after = DateTime::from_timestamp_micros(after.0)?.with_timezone(zone);
                let next = cron.find_next_occurrence(&after, false).ok()?;
                Some(Timestamp(next.timestamp_micros()))
            }
            When::Every(every) => {
                let every = i64::try_from(every.as_micros()).ok()?;
                Some(Timestamp((after.0.div_euclid(every) + 1).checked_mul(every)?))
            }
        }
    }

    /// The input of the run of this time.
    pub fn input(&self, at: Timestamp) -> Value {
        let mut input = self.input.clone();
        input.insert("scheduled_at".into(), name(at).into());
        Value::Object(input)
    }

    /// The id of the run of this time, of a workflow of this name: the same whenever it is made.
    pub fn run_id(workflow: &str, at: Timestamp) -> String {
        format!("{workflow}@{}", name(at))
    }

    /// The time in an id that [`Self::run_id`] has made.
    pub fn time_of(workflow: &str, run: &str) -> Option<Timestamp> {
        let time = run.strip_prefix(workflow)?.strip_prefix('@')?;
        Some(Timestamp(DateTime::parse_from_rfc3339(time).ok()?.timestamp_micros()))
    }
}

/// To the second, where that is all of it.
fn name(at: Timestamp) -> String {
    let text = at.to_string();
    text.strip_suffix(".000000Z").map_or_else(|| text.clone(), |seconds| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    fn schedule(when: When) -> Schedule {
        Schedule { when, catch_up: CatchUp::Skip, input: Map::new() }
    }

    fn times(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
        let mut last = at(after);
        let mut next = || {
            last = schedule.next(last)?;
            Some(name(last))
        };
        (0..count).map_while(|_| next()).collect()
    }

    #[test]
    fn a_pattern_means_the_time_of_its_place_and_each_hour_of_a_change_once() {
        let cron = |pattern: &str, zone: Tz| schedule(When::Cron(Box::new(Cron::from_str(pattern).unwrap()), zone));
        let daily = cron("30 2 * * *", Tz::Europe__Berlin);
        // At the end of March 2:30 is left out, and comes with the end of what is left out; at the end of October it is there twice.
        let spring = times(&daily, "2026-03-28T00:00:00Z", 3);
        assert_eq!((spring[0].as_str(), spring[2].as_str()), ("2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"));
        let autumn = times(&daily, "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        assert_eq!(
            times(&cron("0 6 * * MON-FRI", Tz::UTC), "2026-11-27T05:00:00Z", 3),
            ["2026-11-27T06:00:00Z", "2026-11-30T06:00:00Z", "2026-12-01T06:00:00Z"]
        );
        // Nobody waits for the 30th of February.
        assert_eq!(times(&cron("0 0 30 2 *", Tz::UTC), "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
    }

    #[test]
    fn multiples_of_a_time_are_the_same_whenever_it_begins() {
        let every = schedule(When::Every(Duration::from_mins(15)));
        let wanted = ["2026-11-26T10:15:00Z", "2026-11-26T10:30:00Z"];
        assert_eq!(times(&every, "2026-11-26T10:00:00Z", 2), wanted);
        assert_eq!(times(&every, "2026-11-26T10:14:59.999Z", 2), wanted);
    }

    #[test]
    fn an_id_has_its_time() {
        let time = at("2026-11-26T10:15:00Z");
        let id = Schedule::run_id("night", time);
        assert_eq!(id, "night@2026-11-26T10:15:00Z");
        assert_eq!(Schedule::time_of("night", &id), Some(time));
        assert_eq!(Schedule::time_of("night", "nightly@2026-11-26T10:15:00Z"), None);
        assert_eq!(Schedule::time_of("night", "01a2-3"), None);
    }
}
