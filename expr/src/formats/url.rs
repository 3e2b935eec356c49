//! Parts of URLs, and text in URLs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{Result as DfResult, exec_datafusion_err, exec_err};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::{Function, Kind, at, texts};

/// What RFC 3986 calls unreserved stays.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub const FUNCTIONS: &[Function] = &[
    Function {
        name: "parse_url",
        usage: "parse_url(url, 'host')` or `parse_url(url, 'query', 'name')",
        count: (2, 3),
        takes: &[Kind::Text],
        returns: || DataType::Utf8,
        run: parse_url,
    },
    Function {
        name: "url_encode",
        usage: "url_encode(text)",
        count: (1, 1),
        takes: &[Kind::Text],
        returns: || DataType::Utf8,
        run: |arguments| {
            let mut encoded = StringBuilder::new();
            for text in &texts(&arguments[0])? {
                encoded.append_option(text.map(|t| utf8_percent_encode(t, RESERVED).to_string()));
            }
            Ok(Arc::new(encoded.finish()))
        },
    },
    Function {
        name: "url_decode",
        usage: "url_decode(text)",
        count: (1, 1),
        takes: &[Kind::Text],
        returns: || DataType::Utf8,
        run: |arguments| {
            let mut decoded = StringBuilder::new();
            for text in &texts(&arguments[0])? {
                let text = text.map(|t| percent_decode_str(t).decode_utf8()).transpose();
                decoded.append_option(text.map_err(|e| exec_datafusion_err!("what is decoded is no text: {e}"))?);
            }
            Ok(Arc::new(decoded.finish()))
        },
    },
];

fn parse_url(arguments: &[ArrayRef]) -> DfResult<ArrayRef> {
    let (urls, parts) = (texts(&arguments[0])?, texts(&arguments[1])?);
    let names = arguments.get(2).map(texts).transpose()?;
    let mut found = StringBuilder::new();
    for row in 0..urls.len() {
        let (Some(url), Some(part)) = (at(&urls, row), at(&parts, row)) else {
            found.append_null();
            continue;
        };
        let url = Url::parse(url).map_err(|e| exec_datafusion_err!("`{url}` is no URL: {e}"))?;
        found.append_option(match &names {
            None => part_of(&url, part)?,
            Some(names) if part.eq_ignore_ascii_case("query") => {
                let pair = at(names, row).and_then(|name| url.query_pairs().find(|(n, _)| n == name));
                pair.map(|(_, value)| value.into_owned())
            }
            Some(_) => return exec_err!("only `query` has parts with names, and this is `{part}`"),
        });
    }
    Ok(Arc::new(found.finish()))
}

fn part_of(url: &Url, part: &str) -> DfResult<Option<String>> {
    let filled = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    Ok(match part.to_ascii_lowercase().as_str() {
        "protocol" | "scheme" => filled(url.scheme()),
        "host" => url.host_str().and_then(filled),
        "port" => url.port_or_known_default().map(|p| p.to_string()),
        "path" => filled(url.path()),
        "query" => url.query().map(str::to_owned),
        "ref" | "fragment" => url.fragment().map(str::to_owned),
        "authority" => filled(url.authority()),
        "user" => filled(url.username()),
        "file" => Some(url.query().map_or_else(|| url.path().to_owned(), |q| format!("{}?{q}", url.path()))),
        _ => {
            return exec_err!(
                "a URL has no part `{part}`: there are protocol, authority, user, host, port, path, query, ref and file"
            );
        }
    })
}
