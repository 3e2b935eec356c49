//! The promises of every configuration: of connectors and of stages.

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Broken, Check, require};

/// Written as JSON and read again, it is the same.
pub const ROUND_TRIP: &str = "a configuration that is written as JSON and read again is the same";
/// It has a summary.
pub const DOCUMENTED: &str = "the configuration has a doc comment: it becomes its page in `bourn list`";
/// A slip in a key is an error.
pub const UNKNOWN_KEYS: &str = "an unknown key is an error (`#[serde(deny_unknown_fields)]`)";
/// All of the above.
pub const PROMISES: &[&str] = &[ROUND_TRIP, DOCUMENTED, UNKNOWN_KEYS];

pub(super) fn check<C: DeserializeOwned + Serialize + JsonSchema>(config: &C) -> Check {
    let written = serde_json::to_value(config).map_err(|e| Broken::new(ROUND_TRIP, e))?;
    let read: C = serde_json::from_value(written.clone())
        .map_err(|e| Broken::new(ROUND_TRIP, format!("{written} can't be read: {e}")))?;
    let again = serde_json::to_value(&read).map_err(|e| Broken::new(ROUND_TRIP, e))?;
    require(written == again, ROUND_TRIP, || format!("{written} became {again}"))?;

    let schema = SchemaGenerator::default().into_root_schema_for::<C>().to_value();
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    require(!text.trim().is_empty(), DOCUMENTED, || "there is none".into())?;
    // A configuration that is a map, or a map beside its fields, takes any key by design: then the schema says so.
    let open = schema.get("properties").is_some()
        && schema.get("additionalProperties").is_none()
        && schema.get("unevaluatedProperties").is_none();
    require(!open, UNKNOWN_KEYS, || "its JSON Schema allows any key".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance::each_is_caught;
    use serde::Deserialize;

    /// Good in every way.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Good {
        n: u32,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Silent {}

    /// Takes any key.
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Lax {
        n: u32,
    }

    /// Forgets what it was told.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Forgetful {
        #[serde(skip_deserializing)]
        n: u32,
    }

    #[test]
    fn each_promise_of_a_configuration_is_checked() {
        assert_eq!(check(&Good { n: 1 }), Ok(()));
        let caught = [
            (DOCUMENTED, check(&Silent {})),
            (UNKNOWN_KEYS, check(&Lax { n: 1 })),
            (ROUND_TRIP, check(&Forgetful { n: 1 })),
        ];
        each_is_caught(PROMISES, &caught);
    }
}
