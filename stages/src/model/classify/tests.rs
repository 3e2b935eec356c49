//! The golden table: errors as the services send them, and what each means.

use bourn_engine::error::Retry;
use reqwest::header::{HeaderName, HeaderValue};

use super::*;

fn anthropic(kind: &str, message: &str) -> String {
    format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"req_1"}}"#)
}

fn openai(kind: &str, code: &str, message: &str) -> String {
    let code = if code.is_empty() { "null".to_owned() } else { format!("\"{code}\"") };
    format!(r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":{code}}}}}"#)
}

/// The class of an error, and when it may be tried again.
fn told(error: &Error) -> String {
    match error.retry() {
        Retry::After(wait) => format!("{} after {wait:?}", error.class()),
        Retry::Soon => format!("{} again", error.class()),
        Retry::Never => format!("{} never", error.class()),
    }
}

fn failed(status: u16, body: &str, headers: &[(&'static str, &'static str)]) -> Error {
    let headers = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
    let failed = Failed { asked: "POST x", status, headers: &headers, body: body.as_bytes(), key: "sk-secret" };
    classify(failed, Timestamp(978_307_200_000_000))
}

#[test]
fn forty_errors_of_providers_mean_what_they_mean() {
    let plain: &[(u16, String, &str)] = &[
        (400, anthropic("invalid_request_error", "max_tokens: Field required"), "validation never"),
        (
            400,
            anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            "validation never",
        ),
        (400, anthropic("invalid_request_error", "Your credit balance is too low to access the API."), "budget never"),
        (400, anthropic("invalid_request_error", "You have reached your specified API usage limits."), "budget never"),
        (400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), "guardrail never"),
        (401, anthropic("authentication_error", "invalid x-api-key"), "permanent never"),
        (402, anthropic("billing_error", "There is an issue with your billing"), "budget never"),
        (403, anthropic("permission_error", "Your API key does not have permission"), "permanent never"),
        (404, anthropic("not_found_error", "model: claude-4-opus"), "permanent never"),
        (409, anthropic("conflict_error", "try again"), "transient again"),
        (413, anthropic("request_too_large", "Request exceeds the maximum size"), "validation never"),
        (429, anthropic("rate_limit_error", "This request would exceed the rate limit"), "rate_limit again"),
        (500, anthropic("api_error", "Internal server error"), "transient again"),
        (504, anthropic("timeout_error", "The request timed out"), "timeout again"),
        (529, anthropic("overloaded_error", "Overloaded"), "transient again"),
        (500, anthropic("overloaded_error", "Overloaded"), "transient again"),
        (
            400,
            openai("invalid_request_error", "context_length_exceeded", "maximum context length is 8192"),
            "validation never",
        ),
        (
            400,
            openai("invalid_request_error", "unsupported_parameter", "Unsupported parameter: 'max_tokens'"),
            "validation never",
        ),
        (
            400,
            openai("invalid_request_error", "content_policy_violation", "rejected by our safety system"),
            "guardrail never",
        ),
        (400, openai("invalid_request_error", "invalid_prompt", "limited access"), "validation never"),
        (400, openai("invalid_request_error", "billing_hard_limit_reached", "Billing hard limit"), "budget never"),
        (400, openai("invalid_request_error", "model_not_found", "no such model"), "permanent never"),
        (401, openai("invalid_request_error", "invalid_api_key", "Incorrect API key provided"), "permanent never"),
        (
            403,
            openai("invalid_request_error", "unsupported_country_region_territory", "not supported"),
            "permanent never",
        ),
        (404, openai("invalid_request_error", "model_not_found", "The model does not exist"), "permanent never"),
        (408, String::new(), "timeout again"),
        (422, openai("invalid_request_error", "", "unprocessable"), "validation never"),
        (429, openai("requests", "rate_limit_exceeded", "Rate limit reached for requests"), "rate_limit again"),
        (429, openai("tokens", "rate_limit_exceeded", "Rate limit reached on tokens per min"), "rate_limit again"),
        (
            429,
            openai("tokens", "rate_limit_exceeded", "Request too large for gpt: Limit 1, Requested 2"),
            "validation never",
        ),
        (429, openai("insufficient_quota", "insufficient_quota", "You exceeded your current quota"), "budget never"),
        (429, openai("billing_not_active", "billing_not_active", "Your account is not active"), "budget never"),
        (429, "slow down".into(), "rate_limit again"),
        (500, openai("server_error", "", "The server had an error"), "transient again"),
        (503, openai("server_error", "", "The engine is currently overloaded"), "transient again"),
        (503, openai("server_error", "slow_down", "Slow Down"), "transient again"),
        (501, String::new(), "permanent never"),
        (502, "<html>Bad Gateway</html>".into(), "transient again"),
        (504, "<html>Gateway Timeout</html>".into(), "timeout again"),
        (524, "error code: 524".into(), "transient again"),
        (418, String::new(), "validation never"),
    ];
    assert!(plain.len() >= 40);
    let wrong: Vec<String> = plain
        .iter()
        .filter(|(status, body, expected)| told(&failed(*status, body, &[])) != *expected)
        .map(|(status, body, expected)| {
            format!("{status} {body}\n  is {}, not {expected}", told(&failed(*status, body, &[])))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_headers_ask_is_heeded() {
    let limited = anthropic("rate_limit_error", "slower");
    let asked = |headers: &[(&'static str, &'static str)]| told(&failed(429, &limited, headers));
    assert_eq!(asked(&[("retry-after", "7")]), "rate_limit after 7s");
    assert_eq!(asked(&[("retry-after", "7"), ("retry-after-ms", "1500")]), "rate_limit after 1.5s");
    assert_eq!(asked(&[("retry-after", "Mon, 01 Jan 2001 00:01:30 GMT")]), "rate_limit after 90s");
    assert_eq!(asked(&[("x-should-retry", "false"), ("retry-after", "7")]), "rate_limit never");
    assert_eq!(told(&failed(400, "{}", &[("x-should-retry", "true")])), "validation again");
    let busy = anthropic("overloaded_error", "Overloaded");
    assert_eq!(failed(529, &busy, &[("retry-after", "2")]).kind(), Kind::Overloaded);
}

#[test]
fn what_the_service_says_is_told_without_the_key() {
    let error = failed(401, &openai("invalid_request_error", "invalid_api_key", "Incorrect key: sk-secret."), &[]);
    assert_eq!(error.message(), "POST x: 401 invalid_api_key: Incorrect key: ….");
    assert_eq!(failed(502, "<html>\\nBad</html>", &[]).message(), "POST x: 502: <html>\\nBad</html>");
}
