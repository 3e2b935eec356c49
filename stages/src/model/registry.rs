//! Which models there are: short names, the ids that they stand for, and who answers.

use bourn_engine::diagnostic::{Problem, nearest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose words a model is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI, and every service or server that is compatible with it.
    OpenAi,
}

impl Service {
    /// As a spec says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
        }
    }
}

/// A name that stands for an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// What a spec says.
    pub name: &'static str,
    /// What the service knows.
    pub id: &'static str,
    /// Who answers.
    pub service: Service,
}

/// Every name that stands for an id.
pub const ALIASES: &[Alias] = &[
    claude("opus", "claude-opus-5"),
    claude("sonnet", "claude-sonnet-5"),
    claude("haiku", "claude-haiku-4-5"),
    claude("claude-4-opus", "claude-opus-5"),
    claude("claude-4-sonnet", "claude-sonnet-5"),
];

/// Ids that are known, and offered when a name is near one of them. Others that begin as they do are taken too.
pub const IDS: &[(&str, Service)] = &[
    ("claude-opus-5", Service::Anthropic),
    ("claude-sonnet-5", Service::Anthropic),
    ("claude-opus-4-8", Service::Anthropic),
    ("claude-haiku-4-5", Service::Anthropic),
];

const fn claude(name: &'static str, id: &'static str) -> Alias {
    Alias { name, id, service: Service::Anthropic }
}

/// A model as its service knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The id.
    pub id: String,
    /// Who answers.
    pub service: Service,
}

/// What a name of a model stands for. A service that is said, or an address, lets every name pass.
///
/// # Errors
/// When nobody is known who answers to it; the nearest names are offered.
pub fn find(name: &str, service: Option<Service>, has_address: bool) -> Result<Found, Problem> {
    let alias = ALIASES.iter().find(|alias| alias.name == name);
    if let Some(alias) = alias.filter(|alias| service.is_none_or(|said| said == alias.service)) {
        return Ok(Found { id: alias.id.to_owned(), service: alias.service });
    }
    let guessed = if name.starts_with("claude-") {
        Some(Service::Anthropic)
    } else {
        (name.starts_with("gpt-") || is_reasoning(name) || has_address).then_some(Service::OpenAi)
    };
    match service.or(guessed) {
        Some(service) => Ok(Found { id: name.to_owned(), service }),
        None => Err(unknown(name)),
    }
}

/// `o1`, `o3-mini`, `o4-mini`.
fn is_reasoning(name: &str) -> bool {
    name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn unknown(name: &str) -> Problem {
    let known = ALIASES.iter().map(|alias| alias.name).chain(IDS.iter().map(|(id, _)| *id));
    let near = nearest(name, known).map(|near| format!("did you mean `{near}`? Otherwise say"));
    let way = "who answers: `provider: openai` or `anthropic`; `bourn models` lists the names";
    Problem::new(format!("there is no model `{name}`"))
        .help(format!("{} {way}", near.as_deref().unwrap_or("say")))
        .under("model")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> Option<(String, Service)> {
        find(name, None, false).ok().map(|found| (found.id, found.service))
    }

    #[test]
    fn names_stand_for_ids_and_say_who_answers() {
        use Service::{Anthropic, OpenAi};
        assert_eq!(found("claude-4-opus"), Some(("claude-opus-5".into(), Anthropic)));
        assert_eq!(found("sonnet"), Some(("claude-sonnet-5".into(), Anthropic)));
        assert_eq!(found("claude-opus-6"), Some(("claude-opus-6".into(), Anthropic)));
        assert_eq!(found("gpt-5-mini"), Some(("gpt-5-mini".into(), OpenAi)));
        assert_eq!(found("o4-mini"), Some(("o4-mini".into(), OpenAi)));
        assert_eq!(found("olmo"), None);
        let local = find("llama", None, true).unwrap();
        assert_eq!((local.id.as_str(), local.service), ("llama", OpenAi));
        // A gateway that is compatible with OpenAI has Anthropic's models under their own names.
        assert_eq!(find("opus", Some(OpenAi), true).unwrap().id, "opus");
    }

    #[test]
    fn an_unknown_name_is_told_with_those_that_are_near() {
        let told = |name| find(name, None, false).unwrap_err();
        let sonet = told("sonet");
        assert_eq!((sonet.message.as_str(), &sonet.path), ("there is no model `sonet`", &vec!["model".into()]));
        assert!(sonet.help.unwrap().starts_with("did you mean `sonnet`? Otherwise say who answers"));
        assert!(told("zzz").help.unwrap().starts_with("say who answers"));
    }

    #[test]
    fn every_alias_stands_for_an_id_that_is_known() {
        assert!(ALIASES.iter().all(|alias| IDS.contains(&(alias.id, alias.service))));
    }
}
