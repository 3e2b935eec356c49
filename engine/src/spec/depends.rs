//! What a step says it depends on.

use super::edges::dangling;
use super::keys::OneOrMany;
use super::reader::Reader;
use super::steps::Common;
use super::workflow_keys::StepKeys;
use crate::diagnostic::Key;

impl Common<'_> {
    /// The steps that one says it depends on, each with the way to where it does.
    pub(super) fn said(
        &self,
        reader: &mut Reader<'_>,
        at: usize,
        keys: &StepKeys,
        path: &[Key],
        needs: &mut Vec<usize>,
    ) -> Vec<(usize, Vec<Key>)> {
        let mut ways = Vec::new();
        for (key, said) in
            [("depends_on", &keys.depends_on), ("needs", &keys.needs), ("dependencies", &keys.dependencies)]
        {
            self.depends(reader, at, &[path, &[key.into()]].concat(), said.as_ref(), needs);
            ways.extend(said.iter().flat_map(|said| said.placed(&[key.into()])).map(|(way, _)| way));
        }
        needs.iter().copied().zip(ways).collect()
    }

    /// Adds the steps of these names to `needs`; one that is not there is at fault.
    pub(super) fn depends(
        &self,
        reader: &mut Reader<'_>,
        at: usize,
        path: &[Key],
        said: Option<&OneOrMany>,
        needs: &mut Vec<usize>,
    ) {
        // What undoes a step has no name in the spec.
        let is_named = |id: &str| !id.contains('.');
        for (path, name) in said.map(|said| said.placed(path)).unwrap_or_default() {
            if let Some(step) = self.ids.iter().position(|id| id == name && is_named(id)) {
                needs.push(step);
            } else {
                let others = (0..self.ids.len()).filter(|i| *i != at).map(|i| self.ids[i].as_str());
                let others = others.filter(|id| is_named(id));
                reader.fault(&path, dangling("step", name, others.collect::<Vec<_>>()));
            }
        }
    }
}
