//! A list in a graph: its elements as rows, where the rest of them ends, and the run again.

use std::sync::Arc;

use super::collect::CollectConfig;
use super::fail_fast::Watch;
use super::gather::GatherConfig;
use super::items::ItemsConfig;
use super::journaled::What;
use super::start::Start;
use super::wiring::{Wiring, Within};
use crate::api::registry::BoxStageConfig;
use crate::spec::model::{ForEach, Step};

impl Wiring {
    /// The rows of the elements that a step goes through.
    pub(super) fn items(
        &mut self,
        step: &Step,
        each: &ForEach,
        start: &Start,
        carried: Vec<String>,
        from: String,
        within: &Within,
    ) -> String {
        let config = ItemsConfig {
            id: step.id.as_str().into(),
            carried,
            start: start.clone(),
            list: each.list.clone(),
            name: each.name.clone(),
            asked: self.asked(),
            fails: self.fails.clone(),
            recorded: self.recorded.clone(),
        };
        let id = format!("@items:{}", within.id(&step.id));
        self.stage(&id, BoxStageConfig(Arc::new(config)), vec![from], within.path(step));
        id
    }

    /// Where the rest of a run, or of a list, ends when a step, or an element, has failed.
    pub(super) fn watch(&mut self, step: &Step, tolerated: Option<f64>, from: String, within: &Within) -> String {
        let id = format!("@watch:{}{}", within.id(&step.id), if tolerated.is_some() { "[]" } else { "" });
        let config = Watch { step: step.id.as_str().into(), fails: self.fails.clone(), tolerated };
        self.stage(&id, BoxStageConfig(Arc::new(config)), vec![from], within.path(step));
        id
    }

    /// The run again, when all elements have ended.
    pub(super) fn collect(
        &mut self,
        step: &Step,
        each: &ForEach,
        from: String,
        mut items: String,
        within: &Within,
    ) -> String {
        let id = within.id(&step.id);
        if each.fail_fast {
            items = self.watch(step, Some(each.tolerated.0), items, within);
        }
        if let Some(wait) = self.kept() {
            let what = What::Steps([step.id.as_str().into()].into(), wait);
            items = self.journaled(&format!("@kept:{id}[]"), what, items, within.path(step));
        }
        let (all, with) = (format!("@all:{id}"), format!("@with:{id}"));
        let config = CollectConfig { step: step.id.clone(), tolerated: each.tolerated.0 };
        self.stage(&all, BoxStageConfig::new(config), vec![items], within.path(step));
        self.stage(&with, BoxStageConfig::new(GatherConfig {}), vec![from, all], within.path(step));
        with
    }
}
