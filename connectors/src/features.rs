//! Connectors that a build may lack.

use bourn_engine::api::Registry;

/// Each connector behind a cargo feature: its key in a spec, and the feature, which the command has under the same name.
pub const FEATURES: &[(&str, &str)] = &[
    ("http", "http"),
    ("http_server", "http"),
    ("sse", "http"),
    ("websocket", "http"),
    ("nats", "nats"),
    ("object_store", "object_store"),
    ("postgres", "postgres"),
    ("sqlite", "sqlite"),
];

/// Tells the registry of those, so that a spec that names one which is not in this build is told how to get it.
#[must_use]
pub fn absent(registry: Registry) -> Registry {
    FEATURES.iter().fold(registry, |registry, (name, feature)| registry.absent(name, feature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_the_crate_brings_connectors_that_are_listed_here() {
        let manifest = include_str!("../Cargo.toml").lines();
        let features = manifest.skip_while(|l| *l != "[features]").skip(1).take_while(|l| !l.starts_with('['));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names =
            features.filter_map(|line| line.split_once(" = ").map(|(name, _)| name)).filter(|n| n.chars().all(is_name));
        let forgotten: Vec<_> =
            names.filter(|name| *name != "default" && !FEATURES.iter().any(|(_, feature)| feature == name)).collect();
        assert!(forgotten.is_empty(), "{forgotten:?}");
    }

    #[test]
    fn a_connector_that_is_here_is_not_absent() {
        let registry = absent(crate::register(Registry::new()));
        for (name, feature) in FEATURES {
            let here = registry.connectors().contains_key(name);
            assert_eq!(registry.feature_of(name), (!here).then_some(*feature), "{name}");
        }
        assert_eq!(registry.feature_of("file"), None);
    }
}
