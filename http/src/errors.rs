//! What a failed request means for trying again.

use std::time::Duration;

use bourn_engine::data::secret::shortened;
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
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// What was asked, as it may be shown.
    pub asked: &'a str,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, as far as it was read.
    pub body: &'a [u8],
    /// What becomes of redirects.
    pub redirects: Redirects,
}

/// What becomes of redirects where a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// So many are followed as `redirects` says.
    Said,
    /// None is followed.
    Never,
}

/// What an answer that is not 2xx means.
pub fn status(answer: Refusal<'_>, now: Timestamp) -> Error {
    let Refusal { asked, status, headers, body, redirects } = answer;
    let kind = match status.as_u16() {
        429 => Kind::RateLimit,
        408 | 425 | 500..=599 => Kind::Io,
        _ => Kind::Validation,
    };
    let body = String::from_utf8_lossy(body);
    let said = shortened(body.trim(), SHOWN).replace(char::is_control, " ");
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let redirect = match redirects {
        _ if !status.is_redirection() || !headers.contains_key(LOCATION) => "",
        Redirects::Said => ", a redirect that `redirects` does not allow",
        Redirects::Never => ", a redirect, and none is followed here: say the URL that it leads to",
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
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
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
        let status = StatusCode::from_u16(code).unwrap();
        let answer = Refusal { asked: "GET x", status, headers: &headers, body: b"", redirects: Redirects::Said };
        let e = super::status(answer, now);
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
    fn a_redirect_is_told_with_the_way_out_that_there_is() {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/b"))]);
        let told = |redirects| {
            let answer = Refusal { asked: "GET x", status: StatusCode::FOUND, headers: &headers, body: b"", redirects };
            status(answer, Timestamp(0)).message().to_owned()
        };
        assert_eq!(told(Redirects::Said), "GET x: 302 Found, a redirect that `redirects` does not allow");
        let said = "GET x: 302 Found, a redirect, and none is followed here: say the URL that it leads to";
        assert_eq!(told(Redirects::Never), said);
    }

    #[test]
    fn an_error_shows_no_secret_of_the_url() {
        let url = Url::parse("https://me:pass@host/a?token=x#y").unwrap();
        assert_eq!(shown(&url), "https://host/a");
    }
}
