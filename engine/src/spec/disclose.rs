//! A spec for other eyes: its text without the credentials that stand in it, and what it reads of the world, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::document::Fault;
use super::node::{Content, Node};
use super::parse;
use super::secrets::{SecretSource, declared};
use crate::data::secret::{Origin, Secret, Secrets, mark};
use crate::diagnostic::{Diagnostic, Problem};

/// What the names of credentials end with, in small letters and without signs.
const CREDENTIALS: [&str; 17] = [
    "accesskey",
    "accountkey",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "secretkey",
    "sessionid",
    "sharedkey",
    "signature",
    "token",
];
/// Headers, and what they begin with, that say nothing about who sends them.
const HARMLESS: [&str; 9] =
    ["accept", "cache-control", "content-", "host", "idempotency-key", "if-", "prefer", "traceparent", "user-agent"];
/// What stands before a credential in a header.
const SCHEMES: [&str; 7] = ["apikey", "aws4-hmac-sha256", "basic", "bearer", "digest", "negotiate", "token"];
/// A shorter value of a header of no certain meaning may well be a word of the data.
const WORD_MAX: usize = 7;

/// What was found in specs.
#[derive(Clone, Debug, Default)]
pub struct Disclosure {
    /// The credentials that stood in them, by their marks.
    hidden: Vec<(String, Secret)>,
    /// How many marks there are.
    marks: usize,
    /// The environment variables that they read.
    pub variables: BTreeSet<String>,
    /// Their secrets by name, and where each comes from: `env`, `file` or `command`.
    pub secrets: BTreeMap<String, &'static str>,
}

/// A part of a text that is not to be seen.
struct Edit {
    span: Range<usize>,
    /// The whole value, and the part of it.
    value: String,
    part: String,
    mark: String,
}

/// Whether what has this name is a credential: `X-Api-Key`, `GITHUB_TOKEN`.
pub fn is_credential(name: &str) -> bool {
    let bare: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    CREDENTIALS.iter().any(|end| bare.ends_with(end))
}

impl Disclosure {
    /// Looks at a spec, and gives its text with marks, `<redacted.1>`, in the place of credentials that stand in it: values of headers,
    /// of variables of programs, of keys that are called so, and in URLs.
    ///
    /// # Errors
    /// When it can't be parsed, as it is or with the marks.
    pub fn add(&mut self, text: &str, name: &str) -> Result<String, Vec<Diagnostic>> {
        let spec = parse::parse(text).map_err(|fault| vec![fault.diagnostic(name, text)])?;
        for (secret, _, source) in declared(&spec) {
            let from = match source {
                SecretSource::Env(variable) => {
                    self.variables.insert(variable);
                    "env"
                }
                SecretSource::File(_) => "file",
                SecretSource::Command(_) => "command",
            };
            self.secrets.insert(secret, from);
        }
        let mut edits = Vec::new();
        self.node(&spec, None, false, &mut edits);
        let edited = edit(text, edits);
        // What was hidden may stand in a remark too.
        let edited = self.secrets().mark(&edited).into_owned();
        if parse::parse(&edited).is_ok() {
            return Ok(edited);
        }
        let problem = Problem::new("the credentials in this spec can't be taken out of it");
        let problem = problem.help("take them from the environment or from `secrets`");
        let document = super::Document::new(name, text.to_owned(), spec.clone(), spec);
        Err(document.diagnostics(&[Fault::at([], problem)]))
    }

    /// The credentials, to hide them elsewhere.
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.hidden.iter().map(|(mark, value)| (mark.clone(), Origin::Secret, value.clone())))
    }

    fn node(&mut self, node: &Node, key: Option<&str>, is_header: bool, edits: &mut Vec<Edit>) {
        match &node.content {
            Content::Text(text) => self.text(node, text, key, is_header, edits),
            Content::List(list) => {
                let mut flag = None;
                for element in list {
                    // `--token`, and what comes behind it.
                    self.node(element, flag.or(key), is_header, edits);
                    flag = element.text().filter(|text| text.starts_with('-') && is_credential(text));
                }
            }
            Content::Map(members) => {
                let are_headers = key.is_some_and(|key| ["headers", "env"].contains(&key));
                for member in members.iter().filter(|m| key.is_some() || m.name != "secrets") {
                    self.node(&member.node, Some(&member.name), are_headers, edits);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, node: &Node, text: &str, key: Option<&str>, is_header: bool, edits: &mut Vec<Edit>) {
        self.variables.extend(variables(text));
        let mut hide = |disclosure: &mut Self, part: &str, is_certain: bool| {
            if part.len() > 3 {
                let is_word = part.len() <= WORD_MAX && !part.contains(|c: char| c.is_ascii_digit());
                let mark = disclosure.mark(part, is_certain || !is_word);
                edits.push(Edit { span: node.span.clone(), value: text.to_owned(), part: part.to_owned(), mark });
            }
        };
        let harmless = |name: &str| HARMLESS.iter().any(|begin| name.to_lowercase().starts_with(begin));
        let named = key.filter(|key| is_credential(key));
        if named.is_some() || (is_header && key.is_some_and(|key| !harmless(key))) {
            words(text).for_each(|word| hide(self, word, named.is_some()));
        }
        // `Authorization: Bearer …` and `--token=…` among the arguments of a program.
        let is_name = |name: &str| is_credential(name) && !name.contains(char::is_whitespace);
        if let Some((_, value)) = text.split_once([':', '=']).filter(|(name, _)| is_name(name)) {
            words(value).for_each(|word| hide(self, word, true));
        }
        for part in in_url(text) {
            hide(self, part, true);
        }
    }

    /// The mark of a value, which is hidden elsewhere too if that is said.
    fn mark(&mut self, value: &str, everywhere: bool) -> String {
        if let Some((mark, _)) = self.hidden.iter().find(|(_, known)| known.expose() == value) {
            return mark.clone();
        }
        self.marks += 1;
        let mark = mark(&format!("redacted.{}", self.marks));
        if everywhere {
            self.hidden.push((mark.clone(), Secret::new(value)));
        }
        mark
    }
}

/// The names of variables in `${env.NAME}` and `${env.NAME:-…}`.
fn variables(text: &str) -> impl Iterator<Item = String> {
    let places = text.match_indices("${env.").filter(|(at, _)| !text[..*at].ends_with('$'));
    places.filter_map(|(at, begin)| {
        let rest = &text[at + begin.len()..];
        let place = &rest[..rest.find('}')?];
        Some(place.split(":-").next().unwrap_or(place).trim().to_owned())
    })
}

/// The words of a text that are no places, and no name of a scheme.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let pieces = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (before, behind) = rest.split_once("${").unwrap_or((rest, ""));
        rest = behind.split_once('}').map_or("", |(_, behind)| behind);
        Some(before)
    });
    let is_scheme = |word: &&str| SCHEMES.contains(&word.to_lowercase().as_str());
    pieces
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_matches(['"', '\'', ';', ',']))
        .filter(move |w| !is_scheme(w))
}

/// The passwords of a URL, and the values in its query that are called so.
fn in_url(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, scheme) in text.match_indices("://") {
        let rest = &text[at + scheme.len()..];
        let host = &rest[..rest.find(['/', '?', '#', ' ']).unwrap_or(rest.len())];
        if let Some((user, _)) = host.rsplit_once('@') {
            found.push(user.split_once(':').map_or(user, |(_, password)| password));
        }
        let query = rest.split([' ', '#']).next().and_then(|url| url.split_once('?'));
        let pairs = query.map_or("", |(_, query)| query).split('&').filter_map(|pair| pair.split_once('='));
        found.extend(pairs.filter(|(name, _)| is_credential(name)).map(|(_, value)| value));
    }
    found.retain(|part| !part.contains("${"));
    found
}

/// The text with marks in the place of parts.
fn edit(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let mut edited = text.to_owned();
    // The last one first, so that the places before it stay; all those of one value together.
    for edits in edits.chunk_by(|a, b| a.span == b.span).rev() {
        let span = edits[0].span.clone();
        let here = &text[span.clone()];
        let all = |text: &str| edits.iter().fold(text.to_owned(), |all, edit| all.replace(&edit.part, &edit.mark));
        let is_plain = edits.iter().all(|edit| here.contains(&edit.part));
        // Where signs are written otherwise than they are, the whole is written anew.
        let new = if is_plain { all(here) } else { serde_json::Value::from(all(&edits[0].value)).to_string() };
        edited.replace_range(span, &new);
    }
    edited
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"# c4nary-one was the old one
secrets: { TOKEN: { env: SECRET_TOKEN }, FILE: { file: token.txt } }
defaults: { timeout: 5s }
steps:
  - id: ask
    http:
      url: "https://me:c4nary-two@host/${env.PATH_OF:-a}?api_key=c4nary-three&n=1"
      headers: { Authorization: Bearer c4nary-one, Content-Type: application/json, X-Mode: fast, X-Other: "c4nary \"four" }
      body: { max_tokens: 20, password: "c4nary\u002dfive" }
    retry: { max_attempts: 2 }
  - id: run
    process: { command: [curl, -H, "X-Auth-Token: c4nary-six", --password, c4nary-seven, "${env.HOST}"], env: { MODE: "${secret.TOKEN}", KEY: c4nary-eight } }
  - { id: kept, set: "Bearer of news: token of love" }
"#;

    #[test]
    fn credentials_are_marked_and_all_else_stays() {
        let mut disclosure = Disclosure::default();
        let text = disclosure.add(SPEC, "a.yaml").unwrap();
        assert!(!text.contains("c4nary"), "{text}");
        for kept in [
            "application/json",
            "me:<redacted.",
            "@host/${env.PATH_OF:-a}?api_key=<redacted.",
            "&n=1",
            "Bearer <redacted.",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert!(text.contains("${secret.TOKEN}") && text.contains("Bearer of news: token of love"), "{text}");
        let variables: Vec<&str> = disclosure.variables.iter().map(String::as_str).collect();
        assert_eq!(variables, ["HOST", "PATH_OF", "SECRET_TOKEN"]);
        assert_eq!(disclosure.secrets, BTreeMap::from([("FILE".into(), "file"), ("TOKEN".into(), "env")]));
        // What was taken out is hidden elsewhere; a short word of no certain meaning is not.
        let secrets = disclosure.secrets();
        assert!(
            !secrets.mark("c4nary-one c4nary-two c4nary-three c4nary-five c4nary-six c4nary-seven").contains("c4nary")
        );
        assert_eq!(secrets.mark("fast"), "fast");
        assert!(!text.contains("fast"), "{text}");
    }

    #[test]
    fn names_of_credentials_are_known_in_every_spelling() {
        for name in
            ["Authorization", "X-Api-Key", "apiKey", "GITHUB_TOKEN", "--client-secret", "Set-Cookie", "db.password"]
        {
            assert!(is_credential(name), "{name}");
        }
        for name in ["max_tokens", "input_tokens", "keyword", "tokenizer", "id"] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
