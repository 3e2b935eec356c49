//! The JSON Schema of a whole spec, with every registered kind in it: for editors, and for other tools.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::case::CaseKeys;
use super::gates::GateKeys;
use super::keys::{BLOCKS, PipelineKeys, SinkKeys, SourceKeys, StageKeys, schema_of};
use super::swarm_keys::{AgentKeys, SwarmKeys};
use super::workflow_keys::{AlternativeKeys, StepKeys, WorkflowKeys};
use crate::api::Registry;

/// The JSON Schema (2020-12) of specs whose stages and connectors are those of `registry`.
pub fn schema(registry: &Registry) -> Value {
    let mut defs = Map::new();
    let stages = registry.stages().iter().map(|(name, e)| (*name, e.schema.as_value()));
    let connectors = registry.connectors().iter().map(|(name, e)| (*name, e.schema.as_value()));
    let stages = hoist("stage", stages, &mut defs);
    let connectors = hoist("connector", connectors, &mut defs);
    let mut properties = Map::new();
    for part in [schema_of::<SwarmKeys>(), schema_of::<PipelineKeys>(), schema_of::<WorkflowKeys>()] {
        properties.extend(take_properties(part, &mut defs));
    }
    let agent = settled("agent", schema_of::<AgentKeys>(), &mut defs);
    properties["agents"]["additionalProperties"] = agent;
    defs.insert("source".into(), block(schema_of::<SourceKeys>(), &connectors, &mut Map::new()));
    defs.insert("sink".into(), block(schema_of::<SinkKeys>(), &connectors, &mut Map::new()));
    defs.insert("fallback".into(), fallback(&connectors));
    let mut more = Map::new();
    let mut stages_and_uses = stages.clone();
    stages_and_uses.insert("template".into(), template_use());
    stages_and_uses.insert("workflow".into(), json!({ "$ref": "#/$defs/nested" }));
    defs.insert("stage".into(), block(schema_of::<StageKeys>(), &stages_and_uses, &mut more));
    defs.insert("step".into(), step(schema_of::<StepKeys>(), &stages, &["id"], &mut more));
    defs.insert("nested".into(), nested());
    defs.insert("pipeline".into(), pipeline());
    defs.insert("alternative".into(), step(schema_of::<AlternativeKeys>(), &stages, &[], &mut more));
    defs.insert("gate".into(), step(schema_of::<GateKeys>(), &stages, &[], &mut more));
    defs.extend(more);
    settle("test", schema_of::<CaseKeys>(), &mut defs);
    name_shared(&mut defs);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bourn spec",
        "description": "A pipeline (sources, stages, sinks) or a workflow (steps).",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": defs,
    })
}

/// The JSON Schema (2020-12) of files with the test cases of a spec, which stand beside it: `NAME.test.yaml`.
pub fn cases_schema() -> Value {
    let mut defs = Map::new();
    settle("test", schema_of::<CaseKeys>(), &mut defs);
    let case = json!({ "$ref": "#/$defs/test" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bourn test cases",
        "description": "What `bourn test` runs for the spec beside this file: `tests: [ … ]`, or the list alone.",
        "type": ["object", "array"],
        "properties": { "tests": { "description": "the cases, each with a name of its own", "type": "array", "items": case } },
        "required": ["tests"],
        "additionalProperties": false,
        "items": case,
        "$defs": defs,
    })
}

/// A stage that stands for those of a template.
fn template_use() -> Value {
    json!({
        "description": "uses a template: its name, or its name with values for its parameters",
        "type": ["string", "object"],
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": { "type": "object" },
    })
}

/// A workflow within a step: a file, or a spec as this one.
fn nested() -> Value {
    json!({
        "description": "a workflow: the file of its spec, or the spec itself with what it is given",
        "type": ["string", "object"],
        "properties": {
            "spec": {
                "description": "the path of a spec, from the folder of this one; or a spec",
                "anyOf": [{ "type": "string" }, { "$ref": "#" }],
            },
            "input": { "description": "its input: any JSON, with places such as `${step.results}`; that of the step, or the row, if it does not say" },
            "output": { "description": "of a stage: the column that gets what the workflow gave", "type": "string" },
        },
        "required": ["spec"],
        "additionalProperties": false,
    })
}

/// A pipeline that a step runs.
fn pipeline() -> Value {
    json!({
        "description": "a pipeline: the file of its spec, or that and what it is given",
        "type": ["string", "object"],
        "properties": {
            "spec": { "description": "the path of a pipeline's spec, from the folder of this one", "type": "string" },
            "env": {
                "description": "environment variables that it sees beside those of the engine, with places such as `${input.day}`",
                "type": "object",
                "additionalProperties": { "type": ["string", "number", "boolean"] },
            },
        },
        "required": ["spec"],
        "additionalProperties": false,
    })
}

/// A connector and nothing else.
fn fallback(connectors: &Map<String, Value>) -> Value {
    json!({
        "description": "what takes the rows that a sink does not",
        "type": "object",
        "properties": connectors,
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    })
}

/// In a spec, the rate and the retries of a stage's limits may be names of shared ones.
fn name_shared(defs: &mut Map<String, Value>) {
    for limits in defs.iter_mut().filter(|(name, _)| name.ends_with(".Limits")).map(|(_, schema)| schema) {
        for (key, of) in [("rate", "rate_limits"), ("retry", "retries")] {
            // Limits of another kind have neither.
            let Some(own) = limits["properties"].get_mut(key).map(Value::take) else { continue };
            let description = own.get("description").cloned().unwrap_or_default();
            let name = json!({ "type": "string", "description": format!("a name from `{of}`") });
            limits["properties"][key] = json!({ "description": description, "anyOf": [own, name] });
        }
    }
}

/// Moves the schema of each kind into the definitions of the whole; returns a property for each that refers to it.
fn hoist<'a>(
    role: &str,
    kinds: impl Iterator<Item = (&'static str, &'a Value)>,
    defs: &mut Map<String, Value>,
) -> Map<String, Value> {
    let mut properties = Map::new();
    for (name, schema) in kinds {
        let home = format!("{role}.{name}");
        properties.insert(name.to_owned(), json!({ "$ref": format!("#/$defs/{home}") }));
        settle(&home, schema.clone(), defs);
    }
    properties
}

/// Makes a schema of its own a definition of the whole, and its definitions others, below its name.
fn settle(home: &str, mut schema: Value, defs: &mut Map<String, Value>) {
    rename(&mut schema, home);
    if let Some(root) = schema.as_object_mut() {
        root.remove("$schema");
        if let Some(Value::Object(inner)) = root.remove("$defs") {
            let inner = inner.into_iter().filter(|(name, _)| !BLOCKS.contains(&name.as_str()));
            defs.extend(inner.map(|(key, value)| (format!("{home}.{key}"), value)));
        }
    }
    defs.insert(home.to_owned(), schema);
}

/// The same, and a reference to it.
fn settled(home: &str, schema: Value, defs: &mut Map<String, Value>) -> Value {
    settle(home, schema, defs);
    json!({ "$ref": format!("#/$defs/{home}") })
}

/// Makes references within a schema of its own fit its new home.
fn rename(schema: &mut Value, home: &str) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(|v| rename(v, home)),
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value.as_str().filter(|_| key == "$ref") {
                    Some("#") => *value = format!("#/$defs/{home}").into(),
                    Some(path) => {
                        if let Some(name) = path.strip_prefix("#/$defs/") {
                            *value = format!("#/$defs/{home}.{name}").into();
                        }
                    }
                    None => rename(value, home),
                }
            }
        }
        _ => {}
    }
}

fn take_properties(mut schema: Value, defs: &mut Map<String, Value>) -> Map<String, Value> {
    let Some(root) = schema.as_object_mut() else { return Map::new() };
    if let Some(Value::Object(inner)) = root.remove("$defs") {
        defs.extend(inner.into_iter().filter(|(name, _)| !BLOCKS.contains(&name.as_str())));
    }
    match root.remove("properties") {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    }
}

/// A block: its own keys, and exactly one kind.
fn block(keys: Value, kinds: &Map<String, Value>, defs: &mut Map<String, Value>) -> Value {
    let description = keys.get("description").cloned().unwrap_or_default();
    let mut properties = take_properties(keys, defs);
    properties.extend(kinds.clone());
    let one: Vec<_> = kinds.keys().map(|kind| json!({ "required": [kind] })).collect();
    let mut block = json!({
        "description": description, "type": "object", "properties": properties, "additionalProperties": false,
    });
    if !one.is_empty() {
        block["oneOf"] = one.into();
    }
    block
}

/// A step: a command, or a kind as a key.
fn step(keys: Value, kinds: &Map<String, Value>, required: &[&str], defs: &mut Map<String, Value>) -> Value {
    let description = keys.get("description").cloned().unwrap_or_default();
    let mut properties = take_properties(keys, defs);
    let as_key = json!({ "description": "what the step does: a configuration, or what `args` would say" });
    for kind in kinds.keys() {
        properties.entry(kind.clone()).or_insert_with(|| as_key.clone());
    }
    json!({
        "description": description,
        "type": "object",
        "properties": properties,
        // Commands of a routing table can be keys as well.
        "required": required,
    })
}

/// The JSON Schema of a type, as it is published.
pub(crate) fn published<T: JsonSchema>(title: &str) -> Value {
    let mut schema = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    schema.to_value()
}
