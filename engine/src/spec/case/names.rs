//! What the cases of a spec may name.

use crate::diagnostic::Problem;
use crate::spec::Spec;
use crate::spec::edges::dangling;

/// The ids of a spec, by what they are.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub sources: Vec<String>,
    /// With their ports.
    pub stages: Vec<(String, Vec<String>)>,
    pub sinks: Vec<String>,
    /// The sinks that have a fallback.
    fallbacks: Vec<String>,
    pub steps: Vec<String>,
}

impl Names {
    /// Of a spec.
    pub(crate) fn of(spec: &Spec) -> Self {
        match spec {
            Spec::Pipeline(pipeline) => Self {
                sources: pipeline.sources.iter().map(|s| s.id.clone()).collect(),
                stages: pipeline.stages.iter().map(|s| (s.id.clone(), s.config.0.ports())).collect(),
                sinks: pipeline.sinks.iter().map(|s| s.id.clone()).collect(),
                fallbacks: pipeline.sinks.iter().filter(|s| !s.fallback.is_empty()).map(|s| s.id.clone()).collect(),
                steps: Vec::new(),
            },
            Spec::Chain(chain) => Self { steps: chain.names(), ..Self::default() },
        }
    }

    fn stage_ids(&self) -> Vec<&str> {
        self.stages.iter().map(|(id, _)| id.as_str()).collect()
    }

    pub(crate) fn source(&self, id: &str) -> Result<(), Problem> {
        known("source", id, self.sources.iter().map(String::as_str).collect())
    }

    pub(crate) fn sink(&self, id: &str) -> Result<(), Problem> {
        known("sink", id, self.sinks.iter().map(String::as_str).collect())
    }

    /// A stage of a pipeline, or a step of a workflow.
    pub(crate) fn stage_or_step(&self, id: &str) -> Result<(), Problem> {
        if self.steps.is_empty() { known("stage", id, self.stage_ids()) } else { self.step(id) }
    }

    pub(crate) fn step(&self, id: &str) -> Result<(), Problem> {
        known("step", id, self.steps.iter().map(String::as_str).collect())
    }

    /// What rows can be looked at: a source, a sink, a stage, a port of one, or `SINK.fallback`.
    pub(crate) fn target(&self, name: &str) -> Result<(String, Option<String>), Problem> {
        let ends = self.sources.iter().chain(&self.sinks).map(String::as_str);
        let all: Vec<&str> = self.stage_ids().into_iter().chain(ends).collect();
        let Some((id, port)) = name.split_once('.') else {
            return known("source, stage or sink", name, all).map(|()| (name.to_owned(), None));
        };
        known("source, stage or sink", id, all)?;
        let ports = self.stages.iter().find(|(stage, _)| stage == id).map_or(&[][..], |(_, ports)| ports.as_slice());
        let is_fallback = port == "fallback" && self.fallbacks.iter().any(|sink| sink == id);
        if !is_fallback && !ports.iter().any(|known| known == port) {
            let help = match ports {
                [] => format!("`{id}` has no ports beside the main one: write `{id}`"),
                ports => format!("its ports are: {}", ports.join(", ")),
            };
            return Err(Problem::new(format!("`{id}` has no port `{port}`")).help(help));
        }
        Ok((id.to_owned(), Some(port.to_owned())))
    }
}

fn known(what: &str, id: &str, all: Vec<&str>) -> Result<(), Problem> {
    if all.contains(&id) { Ok(()) } else { Err(dangling(what, id, all)) }
}
