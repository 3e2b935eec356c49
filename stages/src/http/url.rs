//! The URL of a request: a value fills its place and changes nothing else of it.

use std::ops::Range;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::template::Template;
use bourn_engine::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use crate::places;

/// What is encoded in a path or a query: all but the characters that RFC 3986 calls unreserved.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// In a host: not what stands before a port or around an IPv6 address. A host with anything encoded in it is none, so a
/// value can't end it early.
const HOST: &AsciiSet = &VALUE.remove(b':').remove(b'[').remove(b']');

/// The URL for one row.
///
/// A value at the very beginning is a URL, or the beginning of one, and is taken as it is. Any other is data: in it `/`,
/// `?`, `#`, `%` and the like are encoded.
///
/// # Errors
/// When a place has no value, when the whole is no URL that can be requested, or when values make a `.` or `..` of a
/// segment of the path: no encoding keeps a server from reading another path then.
pub fn fill(template: &Template, rows: &RecordBatch, row: usize) -> Result<Url> {
    no_null(template, rows, row)?;
    let mut filled: Vec<Range<usize>> = Vec::new();
    let text = template.render_with(rows, row, |before, value| {
        if before.is_empty() {
            return value;
        }
        let set = if path_start(before).is_some() { VALUE } else { HOST };
        let encoded = utf8_percent_encode(&value, set).to_string();
        filled.push(before.len()..before.len() + encoded.len());
        encoded
    })?;
    if let Some(segment) = dots(&text, &filled) {
        let message = format!("a value makes `{segment}` a part of the path, which would name another one");
        return Err(Error::validation(message));
    }
    // The text is not shown: it may hold a secret, and what is no URL can't be stripped of it.
    let url = Url::parse(&text).map_err(|e| Error::validation(format!("what `url` gives is no URL: {e}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(Error::validation(format!("`{other}` is not a scheme that is requested"))),
    }
}

/// Refuses a row in which a place is null: the word `null` would be asked for.
///
/// # Errors
/// When one is.
pub fn no_null(template: &Template, rows: &RecordBatch, row: usize) -> Result<()> {
    places::no_null(template, rows, row, "can't be asked for")
}

/// Where the host ends; none when it does not end yet.
fn path_start(url: &str) -> Option<usize> {
    let host = url.find("://")? + 3;
    url[host..].find(['/', '\\', '?', '#']).map(|at| host + at)
}

/// A segment of the path that is `.` or `..` by the doing of a value.
fn dots<'a>(url: &'a str, filled: &[Range<usize>]) -> Option<&'a str> {
    let start = path_start(url)?;
    let end = url[start..].find(['?', '#']).map_or(url.len(), |at| start + at);
    let mut at = start;
    url[start..end].split(['/', '\\']).find(|segment| {
        let here = at..at + segment.len();
        at = here.end + 1;
        let is_filled = filled.iter().any(|f| f.start < here.end && here.start < f.end);
        is_filled && matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;

    fn filled(template: &str, value: &str) -> Result<String, String> {
        let template = Template::parse(template).unwrap();
        fill(&template, &rows![{"v": value}], 0).map(|url| url.to_string()).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_value_stays_within_its_place() {
        let value = "a/b?c#d&e=f g%2F+;\\\u{fc}\u{20ac}\n";
        let encoded = "a%2Fb%3Fc%23d%26e%3Df%20g%252F%2B%3B%5C%C3%BC%E2%82%AC%0A";
        for (template, expected) in [
            ("http://h/x/${v}/y?z=1", format!("http://h/x/{encoded}/y?z=1")),
            ("http://h/x?q=${v}&z=1#f", format!("http://h/x?q={encoded}&z=1#f")),
            ("http://h?q=${v}", format!("http://h/?q={encoded}")),
            ("http://h/x.${v}.json", format!("http://h/x.{encoded}.json")),
        ] {
            assert_eq!(filled(template, value), Ok(expected), "{template}");
        }
        assert_eq!(filled("http://h/a-b_c.~/${v}", "a-b_c.~1"), Ok("http://h/a-b_c.~/a-b_c.~1".into()));
        assert_eq!(filled("http://h/${v}/x", ""), Ok("http://h//x".into()));
    }

    #[test]
    fn a_null_is_not_asked_for_as_a_word() {
        let template = Template::parse("http://h/x/${v}").unwrap();
        let rows = rows![{"v": "a"}, {"v": null}];
        assert_eq!(fill(&template, &rows, 0).unwrap().as_str(), "http://h/x/a");
        assert_eq!(fill(&template, &rows, 1).unwrap_err().message(), "`${v}` is null, which can't be asked for");
    }

    #[test]
    fn a_value_can_not_climb_in_the_path() {
        for (template, value) in [
            ("http://h/a/${v}", ".."),
            ("http://h/a/${v}/b", "."),
            ("http://h/a/${v}?x", ".."),
            ("http://h/${v}#x", ".."),
            ("http://h/%2E${v}", "."),
            ("http://h/${v}${v}/b", "."),
        ] {
            let told = filled(template, value).unwrap_err();
            assert!(told.contains("which would name another one"), "{template}: {told}");
        }
        assert_eq!(filled("http://h/a/..${v}/b", "x"), Ok("http://h/a/..x/b".into()));
        assert_eq!(filled("http://h/a/../${v}", "x"), Ok("http://h/x".into()));
        assert_eq!(filled("http://h/a?x=${v}", ".."), Ok("http://h/a?x=..".into()));
    }

    #[test]
    fn a_value_at_the_beginning_is_taken_as_it_is() {
        assert_eq!(filled("${v}", "https://h/a%20b/?c=d#e"), Ok("https://h/a%20b/?c=d#e".into()));
        assert_eq!(filled("${v}/${v}", "http://h/a"), Ok("http://h/a/http%3A%2F%2Fh%2Fa".into()));
        assert_eq!(filled("${v}", "file:///etc/passwd"), Err("`file` is not a scheme that is requested".into()));
    }

    #[test]
    fn a_value_in_the_host_is_a_host_or_a_part_of_one() {
        assert_eq!(filled("http://${v}/x", "h:8080"), Ok("http://h:8080/x".into()));
        assert_eq!(filled("http://${v}/x", "[::1]:80"), Ok("http://[::1]/x".into()));
        assert_eq!(filled("http://${v}.example.com/x", "a"), Ok("http://a.example.com/x".into()));
        for other in ["evil.com/", "evil.com?", "evil.com#", "a@evil.com", "evil.com\\", "evil.com:80"] {
            let url = filled("http://${v}.example.com/x", other);
            assert!(url.is_err(), "{other}: {url:?}");
        }
    }
}
