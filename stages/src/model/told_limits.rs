//! What the headers of an answer say of a service's limits.

use std::time::Duration;

use bourn_engine::api::call::{RemoteLimit, RemoteLimits};
use bourn_engine::time::Timestamp;
use chrono::DateTime;
use reqwest::header::HeaderMap;

use super::registry::Service;

/// The limits that headers tell, or none when they tell of none.
pub fn limits(service: Service, headers: &HeaderMap, now: Timestamp) -> Option<Box<RemoteLimits>> {
    let text = |name: String| headers.get(name).and_then(|value| value.to_str().ok());
    let one = |what: &str| {
        let header = |of: &str| match service {
            Service::Anthropic => text(format!("anthropic-ratelimit-{what}-{of}")),
            Service::OpenAi => text(format!("x-ratelimit-{of}-{what}")),
        };
        let number = |of: &str| header(of).and_then(|text| text.trim().parse().ok());
        RemoteLimit {
            per_minute: number("limit"),
            remaining: number("remaining"),
            reset: header("reset").and_then(|text| reset(text.trim(), now)),
        }
    };
    let limits = RemoteLimits {
        requests: one("requests"),
        tokens: one("tokens"),
        input_tokens: one("input-tokens"),
        output_tokens: one("output-tokens"),
    };
    // OpenAI tells of requests in a day beside tokens in a minute for some accounts; then it takes hours until all are there.
    let daily = limits.requests.reset.is_some_and(|reset| reset > Duration::from_mins(5));
    let limits = if daily { RemoteLimits { requests: RemoteLimit::default(), ..limits } } else { limits };
    (limits != RemoteLimits::default()).then(|| Box::new(limits))
}

/// A time (Anthropic), or a length of time such as `6m0s` or `20ms` (OpenAI).
fn reset(text: &str, now: Timestamp) -> Option<Duration> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Some(Timestamp(at.timestamp_micros()).since(now)),
        Err(_) => text.parse::<bourn_engine::data::units::Interval>().ok().map(|interval| interval.0),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn told(service: Service, headers: &[(&'static str, &'static str)]) -> Option<RemoteLimits> {
        let one = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        limits(service, &headers.iter().map(one).collect(), Timestamp(978_307_200_000_000)).map(|limits| *limits)
    }

    #[test]
    fn limits_are_read_in_the_words_of_either_service() {
        let anthropic = told(
            Service::Anthropic,
            &[
                ("anthropic-ratelimit-requests-limit", "50"),
                ("anthropic-ratelimit-requests-remaining", "49"),
                ("anthropic-ratelimit-requests-reset", "2001-01-01T00:00:02Z"),
                ("anthropic-ratelimit-output-tokens-limit", "8000"),
            ],
        );
        let requests = RemoteLimit { per_minute: Some(50), remaining: Some(49), reset: Some(Duration::from_secs(2)) };
        let output_tokens = RemoteLimit { per_minute: Some(8_000), ..RemoteLimit::default() };
        assert_eq!(anthropic, Some(RemoteLimits { requests, output_tokens, ..RemoteLimits::default() }));
        let openai = told(
            Service::OpenAi,
            &[
                ("x-ratelimit-limit-tokens", "150000"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ],
        );
        let tokens = RemoteLimit { per_minute: Some(150_000), remaining: Some(0), reset: Some(Duration::from_mins(6)) };
        assert_eq!(openai, Some(RemoteLimits { tokens, ..RemoteLimits::default() }));
    }

    #[test]
    fn what_is_no_limit_a_minute_is_not_taken_for_one() {
        assert_eq!(told(Service::OpenAi, &[("retry-after", "2")]), None);
        assert_eq!(
            told(Service::OpenAi, &[("x-ratelimit-limit-requests", "200"), ("x-ratelimit-reset-requests", "7h12m")]),
            None
        );
        assert_eq!(told(Service::OpenAi, &[("x-ratelimit-limit-requests", "many")]), None);
    }
}
