//! Where the parts of a step's configuration stand.

use crate::diagnostic::Key;

/// Where the parts of a configuration stand that was put together from several places of a spec.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// A key of the configuration and the way from the step to it; the empty key is the whole.
    pub(crate) known: Vec<(String, Vec<Key>)>,
}

impl Places {
    /// The way from the step to a place that is given by the way from its configuration; as near as it is known.
    pub fn locate(&self, path: &[Key]) -> Vec<Key> {
        // What was said last holds.
        let find = |name: &str| self.known.iter().rfind(|(key, _)| key == name).map(|(_, place)| place.clone());
        match path.split_first() {
            Some((Key::Name(name), rest)) if find(name).is_some() => {
                let mut place = find(name).unwrap_or_default();
                place.extend_from_slice(rest);
                place
            }
            _ => find("").map_or_else(
                || vec!["command".into()],
                |mut place| {
                    place.extend_from_slice(path);
                    place
                },
            ),
        }
    }
}
