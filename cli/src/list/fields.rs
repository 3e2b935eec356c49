//! The fields of a configuration, read from its JSON Schema.

use serde_json::Value;

/// A field as it is shown.
#[derive(Debug, PartialEq)]
pub struct Field {
    /// Its key.
    pub name: String,
    /// What it takes.
    pub kind: String,
    /// What holds when it is not said; `required` if it must be.
    pub default: String,
    /// What it is for.
    pub about: String,
}

/// The fields of a configuration, none when it is no map; with those of maps inside, by their paths: `limits.rate`. What
/// such a map is by default is in its fields.
pub fn with_inner(schema: &Value) -> Vec<Field> {
    below("", schema, schema)
}

fn below(path: &str, schema: &Value, root: &Value) -> Vec<Field> {
    let mut all = Vec::new();
    for field in of_part(schema, root) {
        let name = format!("{path}{}", field.name);
        // A configuration may hold itself; no one reads on below this.
        let inside = inner(schema, root, &field.name).filter(|_| name.matches('.').count() < 3);
        let default = if inside.is_some() && field.default != "required" { String::new() } else { field.default };
        all.push(Field { name: name.clone(), default, ..field });
        all.extend(inside.into_iter().flat_map(|inside| below(&format!("{name}."), inside, root)));
    }
    all
}

/// The fields of a map inside a configuration, whose references `root` resolves.
pub fn of_part(schema: &Value, root: &Value) -> Vec<Field> {
    let Some(map) = map_of(schema, root) else { return Vec::new() };
    let Some(properties) = map["properties"].as_object() else { return Vec::new() };
    let required = map["required"].as_array().cloned().unwrap_or_default();
    let field = |(name, field): (&String, &Value)| Field {
        name: name.clone(),
        kind: kind(field, root),
        default: match &field["default"] {
            _ if required.iter().any(|r| r == name) => "required".into(),
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        },
        about: description(field).to_owned(),
    };
    properties.iter().map(field).collect()
}

/// What a schema says it describes.
pub fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// The schema of a field, if the field is a map with fields of its own.
pub fn inner<'a>(schema: &'a Value, root: &'a Value, field: &str) -> Option<&'a Value> {
    map_of(&map_of(schema, root)?["properties"][field], root)
}

/// What describes the fields of a map, also of one that may be written shorter (`filter: a > 1`).
fn map_of<'a>(schema: &'a Value, root: &'a Value) -> Option<&'a Value> {
    let schema = resolve(schema, root);
    let has_fields = |schema: &&Value| schema["properties"].is_object();
    let here = Some(schema).filter(has_fields);
    here.or_else(|| choices(schema).iter().map(|choice| resolve(choice, root)).find(has_fields))
}

fn choices(schema: &Value) -> &[Value] {
    let choices = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    choices.map_or(&[], Vec::as_slice)
}

/// What a reference leads to. One that leads nowhere stays.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        Some(path) => root.pointer(path).unwrap_or(schema),
        None => schema,
    }
}

/// What a value may be, in a few words: `text`, `number or text`, `list of text`, `"kept" or "free"`.
fn kind(schema: &Value, root: &Value) -> String {
    let schema = resolve(schema, root);
    let mut kinds: Vec<String> = Vec::new();
    if let Some(value) = schema.get("const") {
        kinds.push(plain(value));
    } else if let Some(values) = schema["enum"].as_array() {
        kinds.extend(values.iter().filter(|v| !v.is_null()).map(plain));
    } else if !choices(schema).is_empty() {
        kinds.extend(choices(schema).iter().map(|choice| kind(choice, root)));
    } else {
        let types = match &schema["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => vec!["any"],
        };
        kinds.extend(types.into_iter().map(|t| type_name(t, schema, root)));
    }
    kinds.retain(|k| !k.is_empty());
    let mut seen = Vec::new();
    for kind in kinds {
        if !seen.contains(&kind) {
            seen.push(kind);
        }
    }
    seen.join(" or ")
}

fn type_name(name: &str, schema: &Value, root: &Value) -> String {
    match name {
        "string" => "text".into(),
        "integer" | "number" => "number".into(),
        "boolean" => "true or false".into(),
        // Every optional field may be null, which is the same as leaving it out.
        "null" => String::new(),
        "array" => match schema.get("items") {
            Some(items) => format!("list of {}", kind(items, root)),
            None => "list".into(),
        },
        "object" => match schema.get("additionalProperties").filter(|a| a.is_object()) {
            Some(values) => format!("map of {}", kind(values, root)),
            None => "map".into(),
        },
        _ => name.into(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use schemars::{JsonSchema, SchemaGenerator};
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    use super::*;

    /// How.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Way {
        /// One way.
        Kept,
        /// The other.
        Free,
    }

    /// A stage.
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Config {
        /// Which columns.
        columns: Vec<String>,
        /// How.
        #[serde(default = "kept")]
        way: Way,
        names: Option<BTreeMap<String, u32>>,
    }

    fn kept() -> Way {
        Way::Kept
    }

    /// With a map in it.
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Outer {
        /// What bounds it.
        #[serde(default)]
        limits: Limits,
    }

    /// Bounds.
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Limits {
        /// How many.
        rows: u32,
    }

    #[test]
    fn the_fields_of_a_map_inside_are_shown_by_their_paths() {
        let fields = with_inner(SchemaGenerator::default().into_root_schema_for::<Outer>().as_value());
        let shown: Vec<_> = fields.iter().map(|f| format!("{} | {} | {}", f.name, f.default, f.about)).collect();
        assert_eq!(shown, ["limits |  | What bounds it.", "limits.rows | 0 | How many."]);
    }

    #[test]
    fn fields_have_types_and_defaults() {
        let fields = with_inner(SchemaGenerator::default().into_root_schema_for::<Config>().as_value());
        let shown: Vec<_> =
            fields.iter().map(|f| format!("{} | {} | {} | {}", f.name, f.kind, f.default, f.about)).collect();
        insta::assert_snapshot!(shown.join("\n"), @"
        columns | list of text | required | Which columns.
        way | kept or free | kept | How.
        names | map of number |  |
        ");
    }
}
