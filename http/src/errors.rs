//! What a failed request means for trying again.

use std::time::Duration;

use bourn_engine::time::Timestamp;
use bourn_engine::{Error, Kind};
use chrono::DateTime;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{StatusCode, Url};

/// The most of a body that is shown in an error, in characters.
const SHOWN: usize = 200;

/// A longer wait is taken for this one: one header must not stop a job for good.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// A URL without what may be secret in it: user, password, query.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _no_host = url.set_username("");
    let _no_host = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// An answer that is not 2xx.
pub fn status(asked: &str, status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Error {
    let kind = match status.as_u16() {
        429 => Kind::RateLimit,
        408 | 425 | 500..=599 => Kind::Io,
        _ => Kind::Validation,
    };
    let body = String::from_utf8_lossy(body);
    let said: String = body.trim().chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let redirect = if status.is_redirection() && headers.contains_key(LOCATION) {
        ", a redirect that `redirects` does not allow"
    } else {
        ""
    };
    let error = Error::new(kind, format!("{asked}: {status}{redirect}{said}"));
    match (status.as_u16(), retry_after(headers, now)) {
        // Not built, or not spoken: that does not change by asking again.
        (501 | 505, _) => error,
        (408 | 425 | 429 | 500..=599, Some(wait)) => error.retry_after(wait),
        (408 | 425 | 429 | 500..=599, None) => error.transient(),
        _ => error.permanent(),
    }
}

/// How long the other side asks to wait: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Timestamp(DateTime::parse_from_rfc2822(text).ok()?.timestamp_micros()).since(now),
    };
    Some(wait.min(WAIT_MAX))
}

/// What the error at the bottom of the chain says.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A request that got no answer, or only a part of one.
pub fn transport(asked: &str, error: reqwest::Error) -> Error {
    // The URL may hold secrets, and `asked` has what may be shown.
    let error = error.without_url();
    let mut reasons = vec![asked.to_owned()];
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(e) = cause {
        let reason = e.to_string();
        if !reasons.iter().any(|r| r.contains(&reason)) {
            reasons.push(reason);
        }
        cause = e.source();
    }
    let message = reasons.join(": ");
    if error.is_redirect() || error.is_builder() {
        Error::validation(message).with_source(error)
    } else if error.is_timeout() {
        Error::new(Kind::Timeout, message).with_source(error)
    } else {
        Error::new(Kind::Io, message).transient().with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::error::Retry;
    use reqwest::header::HeaderValue;

    fn told(code: u16, after: Option<&'static str>) -> (Kind, Retry) {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
        }
        // 2001-01-01T00:00:00Z
        let now = Timestamp(978_307_200_000_000);
        let e = status("GET x", StatusCode::from_u16(code).unwrap(), &headers, b"", now);
        (e.kind(), e.retry())
    }

    #[test]
    fn the_status_says_whether_to_try_again() {
        use Kind::{Io, RateLimit, Validation};
        assert_eq!(told(429, None), (RateLimit, Retry::Soon));
        assert_eq!(told(429, Some("7")), (RateLimit, Retry::After(Duration::from_secs(7))));
        assert_eq!(told(429, Some("18446744073709551615")), (RateLimit, Retry::After(WAIT_MAX)));
        assert_eq!(told(503, Some("Mon, 01 Jan 2001 00:01:30 GMT")), (Io, Retry::After(Duration::from_secs(90))));
        assert_eq!(told(503, Some("Sun, 31 Dec 2000 00:00:00 GMT")), (Io, Retry::After(Duration::ZERO)));
        assert_eq!(told(500, Some("soon")), (Io, Retry::Soon));
        assert_eq!(told(408, None), (Io, Retry::Soon));
        assert_eq!(told(501, None), (Io, Retry::Never));
        assert_eq!(told(400, Some("7")), (Validation, Retry::Never));
        assert_eq!(told(403, None), (Validation, Retry::Never));
        assert_eq!(told(404, None), (Validation, Retry::Never));
        assert_eq!(told(302, None), (Validation, Retry::Never));
    }

    #[test]
    fn an_error_shows_no_secret_of_the_url() {
        let url = Url::parse("https://me:pass@host/a?token=x#y").unwrap();
        assert_eq!(shown(&url), "https://host/a");
    }
}
