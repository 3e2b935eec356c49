//! Values that are never shown: what came from secrets and from the environment, and the forms in which it would leak.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A password, a token, a key: a value that neither `Debug` nor serde shows. Take it from the environment,
/// `${env.PASSWORD}`, or from the secrets of the spec, `${secret.PASSWORD}`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Whether a text can be searched for it: a shorter one would turn up by chance, and is shown.
    pub fn can_be_hidden(&self) -> bool {
        self.0.len() > SHOWN_MAX
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

/// Where a hidden value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `${env.NAME}`: it is kept out of messages, and may well be part of the data.
    Environment,
    /// `${secret.NAME}`: it is kept out of everything.
    Secret,
}

/// The hidden values of a job. A clone shares them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Vec<Hidden>>);

#[derive(Clone)]
struct Hidden {
    /// What is shown instead: `${secret.TOKEN}`.
    shown: String,
    origin: Origin,
    /// The value as it is and as encodings write it, the longest first.
    forms: Vec<String>,
}

/// Shorter texts would turn up by chance.
const SHOWN_MAX: usize = 3;
/// A line of a secret of several that is no longer than this says too little to be hidden alone.
const SHORT_LINE: usize = 7;
/// What stands where a text was cut.
const CUT: char = '…';

/// The beginning of a text of somebody else, for a message: at most so many characters, with a mark where it was cut, by which
/// [`Secrets::conceal`] knows that a value may have been cut too.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}{CUT}", &text[..end]),
        None => text.to_owned(),
    }
}

impl Secrets {
    /// Values by what is shown instead of each.
    pub fn new(values: impl IntoIterator<Item = (String, Origin, Secret)>) -> Self {
        let mut all: Vec<Hidden> = Vec::new();
        for (shown, origin, value) in values {
            if !all.iter().any(|h| h.shown == shown) {
                all.push(Hidden { shown, origin, forms: forms(value.expose()) });
            }
        }
        // A value that is part of another must not hide first.
        all.sort_by_key(|h| std::cmp::Reverse(h.forms.first().map_or(0, String::len)));
        Self(Arc::new(all))
    }

    /// These and others.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        let mut all: Vec<Hidden> = self.0.iter().chain(others.0.iter()).cloned().collect();
        all.sort_by_key(|h| std::cmp::Reverse(h.forms.first().map_or(0, String::len)));
        Self(Arc::new(all))
    }

    /// Those that came from there.
    #[must_use]
    pub fn of(&self, origin: Origin) -> Self {
        Self(Arc::new(self.0.iter().filter(|hidden| hidden.origin == origin).cloned().collect()))
    }

    /// The text for a message: with the place in place of each value.
    pub fn conceal<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.hide(text, |_| true)
    }

    /// The text of data: what came from the environment may stand in it.
    pub fn conceal_in_data<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.hide(text, |origin| origin == Origin::Secret)
    }

    /// The text for other eyes, which may hold what a template would read: with a mark, `<secret.TOKEN>`, in place of each value.
    pub fn mark<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let marked = |shown: &str| match shown.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
            Some(place) => mark(place),
            None => shown.to_owned(),
        };
        // These are everybody's, and a text without them would be no JSON.
        let is_common = |form: &str| ["true", "false", "null"].contains(&form);
        self.replace(text, |hidden, form| (!is_common(form)).then(|| marked(&hidden.shown)))
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn hide<'a>(&self, text: &'a str, which: impl Fn(Origin) -> bool) -> Cow<'a, str> {
        self.replace(text, |hidden, _| which(hidden.origin).then(|| hidden.shown.clone()))
    }

    fn replace<'a>(&self, text: &'a str, by: impl Fn(&Hidden, &str) -> Option<String>) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for hidden in self.0.iter() {
            for form in hidden.forms.iter().filter(|form| text.contains(form.as_str())).collect::<Vec<_>>() {
                if let Some(by) = by(hidden, form) {
                    text = Cow::Owned(text.replace(form.as_str(), &by));
                }
            }
        }
        if !text.contains(CUT) {
            return text;
        }
        for hidden in self.0.iter() {
            for form in &hidden.forms {
                if let Some(by) = by(hidden, form)
                    && let Some(whole) = without_start(&text, form, &by)
                {
                    text = Cow::Owned(whole);
                }
            }
        }
        text
    }
}

/// The text without what of `form` stands right before where it was cut.
fn without_start(text: &str, form: &str, by: &str) -> Option<String> {
    let mut parts = text.split(CUT).peekable();
    let (mut whole, mut is_other) = (String::with_capacity(text.len()), false);
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            whole.push_str(part);
            break;
        }
        let starts = form.char_indices().map(|(end, _)| &form[..end]).filter(|start| start.len() > SHOWN_MAX);
        match starts.rev().find_map(|start| part.strip_suffix(start)) {
            Some(before) => {
                whole.extend([before, by]);
                is_other = true;
            }
            None => whole.push_str(part),
        }
        whole.push(CUT);
    }
    is_other.then_some(whole)
}

/// What stands in the place of a value where a template may read it: `<secret.TOKEN>`.
pub(crate) fn mark(place: &str) -> String {
    format!("<{place}>")
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|h| &h.shown)).finish()
    }
}

/// The forms of a value that messages may hold: as it is, in JSON (which may be quoted in JSON again) and in debug quotes, in a URL,
/// in hex, and in base64 at any place of a longer text, as in the header of basic authentication; and each of its lines so, which a
/// program may print alone.
fn forms(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    forms_of(value, &mut forms);
    let lines = value.lines().map(str::trim);
    if lines.clone().nth(1).is_some() {
        lines.clone().filter(|line| line.len() > SHORT_LINE).for_each(|line| forms_of(line, &mut forms));
    }
    forms.retain(|form| form.len() > SHOWN_MAX);
    forms.sort_by_key(|form| (std::cmp::Reverse(form.len()), form.clone()));
    forms.dedup();
    forms
}

fn forms_of(value: &str, forms: &mut Vec<String>) {
    let quoted = |text: &str| {
        let json = serde_json::to_string(text).unwrap_or_default();
        json[1..json.len() - 1].to_owned()
    };
    let (json, debug) = (quoted(value), format!("{value:?}"));
    let (twice, of_debug) = (quoted(&json), quoted(&debug[1..debug.len() - 1]));
    forms.extend([quoted(&twice), twice, of_debug, value.to_owned(), json, debug[1..debug.len() - 1].to_owned()]);
    for keep in [b"-_.~".as_slice(), b"-_.~!*'()", b"-_.~!$&'()*+,;=:@/"] {
        let url = percent(value, keep);
        forms.extend([url.to_lowercase(), url.replace("%20", "+"), url]);
    }
    let hex: String = value.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    forms.extend([hex.to_uppercase(), hex]);
    for before in 0..3 {
        for alphabet in [b'+', b'-'] {
            forms.extend(base64_within(value.as_bytes(), before, alphabet));
        }
    }
}

fn percent(value: &str, keep: &[u8]) -> String {
    let mut url = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || keep.contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

/// The base64 digits that a value has within a longer text whose length before it is `before` modulo three: those that no
/// byte around it changes.
fn base64_within(value: &[u8], before: usize, plus: u8) -> Option<String> {
    let digits: Vec<u8> = match plus {
        b'+' => (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*b"+/").collect(),
        _ => (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*b"-_").collect(),
    };
    let bits = |n: usize| {
        // The bit `n` of the text that begins with `before` bytes of something else.
        value.get((n / 8).checked_sub(before)?).map(|byte| byte >> (7 - n % 8) & 1)
    };
    let whole = (before * 8).div_ceil(6)..(before + value.len()) * 8 / 6;
    let digit = |d: usize| (d * 6..d * 6 + 6).try_fold(0, |n, bit| Some(n << 1 | usize::from(bits(bit)?)));
    let text: Option<String> = whole.map(|d| digit(d).map(|d| char::from(digits[d]))).collect();
    // A short stretch of digits says too little to be hidden: it may be anything.
    text.filter(|text| text.len() > 2 * SHOWN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(value: &str) -> Secrets {
        Secrets::new([("${secret.T}".to_owned(), Origin::Secret, Secret::new(value))])
    }

    #[test]
    fn a_value_is_hidden_in_every_form_that_messages_hold() {
        let secrets = one("p@ss/w\"ö d+1&");
        let told = [
            "401 of Bearer p@ss/w\"ö d+1&!",
            r#"{"token":"p@ss/w\"ö d+1&"}"#,
            "https://x/?key=p%40ss%2Fw%22%C3%B6%20d%2B1%26&a=1",
            "https://x/?key=p%40ss%2fw%22%c3%b6%20d%2b1%26&a=1",
            "key=p%40ss%2Fw%22%C3%B6+d%2B1%26",
            "704073732f7722c3b620642b3126",
        ];
        for text in told {
            let shown = secrets.conceal(text);
            assert!(shown.contains("${secret.T}") && !shown.contains("ss"), "{shown}");
        }
    }

    #[test]
    fn what_was_cut_and_what_stands_alone_is_hidden_too() {
        let secrets = one("CANARY-0123456789");
        let told = "401: of CANARY-0123456789 and CANARY-0123456789, no more";
        for most in 0..=told.chars().count() {
            let shown = secrets.conceal(&shortened(told, most)).into_owned();
            assert!(!shown.contains("CANA"), "{shown}");
        }
        assert_eq!(secrets.conceal("CANARY… is a bird… CAN…"), "${secret.T}… is a bird… CAN…");
        assert_eq!(shortened("short", 5), "short");
        let key = one("-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\nx=\n");
        for line in ["MIIEvQIBADANBgkq", "a hkiG9w0BAQEFAASC b", "MIIEvQIBADANBgkq\\nhkiG9w0BAQEFAASC"] {
            let shown = key.conceal(line).into_owned();
            assert!(shown.contains("${secret.T}") && !shown.contains("MIIE") && !shown.contains("hkiG"), "{shown}");
        }
        // Quoted in JSON that is quoted itself.
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let secrets = one("CANARY/4 \"x+y");
        let mut text = "CANARY/4 \"x+y".to_owned();
        for times in 0..4 {
            let shown = secrets.conceal(&text).into_owned();
            assert!(!shown.contains("CANARY"), "{times}: {shown}");
            text = quoted(&text);
        }
    }

    #[test]
    fn basic_authentication_hides_the_password() {
        let secrets = one("correct-horse");
        // `u:correct-horse`, `us:correct-horse`, `usr:correct-horse!`
        for header in ["dTpjb3JyZWN0LWhvcnNl", "dXM6Y29ycmVjdC1ob3JzZQ==", "dXNyOmNvcnJlY3QtaG9yc2Uh"] {
            let shown = secrets.conceal(header);
            assert!(shown.contains("${secret.T}"), "{shown}");
        }
    }

    #[test]
    fn neither_debug_nor_serde_show_a_value_and_what_is_too_short_stays() {
        let shown =
            format!("{:?} {:?} {}", Secret::new("canary"), one("canary"), serde_json::json!(Secret::new("canary")));
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(one("abc").conceal("abcdef"), "abcdef");
    }

    #[test]
    fn data_may_hold_what_came_from_the_environment() {
        let secrets = Secrets::new([
            ("${env.REGION}".to_owned(), Origin::Environment, Secret::new("eu-west")),
            ("${secret.T}".to_owned(), Origin::Secret, Secret::new("eu-west-token")),
        ]);
        assert_eq!(secrets.conceal("eu-west-token in eu-west"), "${secret.T} in ${env.REGION}");
        assert_eq!(secrets.conceal_in_data("eu-west-token in eu-west"), "${secret.T} in eu-west");
    }

    #[test]
    fn a_mark_is_no_place_and_marks_nothing_twice() {
        let secrets = Secrets::new([
            ("${env.MODE}".to_owned(), Origin::Environment, Secret::new("true")),
            ("${env.ZONE}".to_owned(), Origin::Environment, Secret::new("north")),
            ("<redacted.1>".to_owned(), Origin::Secret, Secret::new("c4nary-key")),
        ]);
        let marked = secrets.mark(r#"{"on":true,"zone":"north","key":"c4nary-key"}"#).into_owned();
        assert_eq!(marked, r#"{"on":true,"zone":"<env.ZONE>","key":"<redacted.1>"}"#);
        assert_eq!(secrets.mark(&marked), marked);
    }

    proptest! {
        #[test]
        fn no_text_around_a_value_brings_it_out(value in "\\PC{4,20}", before in "\\PC{0,5}", after in "\\PC{0,5}") {
            let shown = one(&value).conceal(&format!("{before}{value}{after}")).into_owned();
            // What stands around it may repeat it, as in `aaaa` + `a`; the whole value is gone all the same.
            prop_assert!(!shown.replace("${secret.T}", "\u{0}").contains(&value), "{}", shown);
        }
    }
}
