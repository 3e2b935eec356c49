//! A value against a JSON Schema: every fault of it, in words.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::document::Fault;
use crate::data::units::{Interval, Rate, Size};
use crate::diagnostic::{Key, Problem, did_you_mean};

/// Every fault of `value`, with paths that start at it.
pub(crate) fn check(schema: &Value, value: &Value) -> Vec<Fault> {
    let options = jsonschema::options()
        .with_format("interval", |text: &str| text.parse::<Interval>().is_ok())
        .with_format("size", |text: &str| text.parse::<Size>().is_ok())
        .with_format("rate", |text: &str| text.parse::<Rate>().is_ok())
        .should_validate_formats(true);
    let validator = match options.build(schema) {
        Ok(validator) => validator,
        Err(e) => return vec![Fault::at([], Problem::new(format!("its JSON Schema can't be used: {e}")))],
    };
    validator.iter_errors(value).flat_map(|e| faults(schema, &e)).collect()
}

fn faults(schema: &Value, error: &ValidationError<'_>) -> Vec<Fault> {
    use ValidationErrorKind as K;
    let path = keys(error.instance_path());
    let here = |problem| vec![Fault::at(path.clone(), problem)];
    match error.kind() {
        K::AdditionalProperties { unexpected } | K::UnevaluatedProperties { unexpected } => {
            let known = properties(schema, error.schema_path());
            unexpected
                .iter()
                .map(|name| {
                    let path = path.iter().cloned().chain([Key::Name(name.clone())]);
                    Fault::at_key(path, unknown("key", name, known.iter().map(String::as_str)))
                })
                .collect()
        }
        K::Required { property } => {
            here(Problem::new(format!("the key `{}` is missing", property.as_str().unwrap_or_default())))
        }
        K::Type { .. } => here(expected(&types(error), error.instance())),
        K::Enum { options } => here(one_of(error.instance(), options.as_array().map_or(&[], Vec::as_slice))),
        K::Constant { expected_value } => here(one_of(error.instance(), std::slice::from_ref(expected_value))),
        K::AnyOf { context } | K::OneOfNotValid { context } => branches(schema, error, context),
        K::Minimum { limit } => here(Problem::new(format!("this must be at least {limit}"))),
        K::Maximum { limit } => here(Problem::new(format!("this must be at most {limit}"))),
        K::ExclusiveMinimum { limit } => here(Problem::new(format!("this must be more than {limit}"))),
        K::ExclusiveMaximum { limit } => here(Problem::new(format!("this must be less than {limit}"))),
        K::MinItems { limit } | K::MinProperties { limit } => {
            here(Problem::new(format!("too few here: at least {limit} must be said")))
        }
        K::Format { format } => here(Problem::new(unit(format, error.instance().as_str().unwrap_or_default()))),
        // Where nothing may be said, jsonschema does not say what was.
        K::FalseSchema => match error.instance().as_object() {
            Some(map) => {
                let key = |name: &String| path.iter().cloned().chain([Key::Name(name.clone())]).collect::<Vec<_>>();
                map.keys().map(|name| Fault::at_key(key(name), Problem::new(format!("unknown key `{name}`")))).collect()
            }
            None => here(Problem::new("nothing may be said here")),
        },
        _ => here(Problem::new(error.masked_with("this").to_string())),
    }
}

/// An unknown key, or something else of that sort, and the nearest that is known.
pub(crate) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Problem {
    let problem = Problem::new(format!("unknown {what} `{name}`"));
    if let Some(help) = did_you_mean(name, known.clone()) {
        return problem.help(help);
    }
    let known: Vec<_> = known.map(|k| format!("`{k}`")).collect();
    if known.is_empty() { problem } else { problem.help(format!("known: {}", known.join(", "))) }
}

/// Several ways to write a value, and none fits: the one that was most likely meant says why.
fn branches(schema: &Value, error: &ValidationError<'_>, context: &[Vec<ValidationError<'static>>]) -> Vec<Fault> {
    let path = error.instance_path();
    let here = |e: &&ValidationError<'static>| e.instance_path().as_str() == path.as_str();
    let wants_null = |b: &Vec<ValidationError<'static>>| b.iter().any(|e| types(e) == ["nothing"]);
    let real: Vec<_> = context.iter().filter(|b| !wants_null(b)).collect();
    // A list of texts to choose from says no type of its own.
    let same_type = |option: &Value| std::mem::discriminant(option) == std::mem::discriminant(error.instance());
    let other_type = |e: &ValidationError<'static>| {
        let options = options(e);
        !types(e).is_empty() || !options.is_empty() && !options.iter().any(same_type)
    };
    let wrong_type = |b: &&&Vec<ValidationError<'static>>| b.iter().filter(here).any(other_type);
    let fitting: Vec<_> = real.iter().filter(|b| !wrong_type(b)).collect();
    let options: Vec<Value> = fitting.iter().flat_map(|b| b.iter().filter(here).flat_map(options)).collect();
    let missing = |b: &&&&Vec<ValidationError<'static>>| b.iter().filter(here).any(|e| required(e).is_some());
    let keys_of: Vec<&str> = fitting.iter().flat_map(|b| b.iter().filter(here).filter_map(required)).collect();
    match (fitting.as_slice(), real.as_slice()) {
        ([], [one]) => one.iter().flat_map(|e| faults(schema, e)).collect(),
        ([], several) => {
            let mut all: Vec<_> = several.iter().flat_map(|b| b.iter().filter(here).flat_map(types)).collect();
            all.dedup();
            vec![Fault::at(keys(path), expected(&all, error.instance()))]
        }
        _ if !options.is_empty() => vec![Fault::at(keys(path), one_of(error.instance(), &options))],
        // Maps that are told apart by their key, and none of these is here.
        (several, _) if several.len() > 1 && several.iter().all(|b| missing(&b)) => {
            let keys: Vec<_> =
                error.instance().as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
            let strange = |name: &String| {
                let at = self::keys(path).into_iter().chain([Key::Name(name.clone())]).collect::<Vec<_>>();
                Fault::at_key(at, unknown("key", name, keys_of.iter().copied()))
            };
            match keys.as_slice() {
                [] => vec![Fault::at(
                    self::keys(path),
                    Problem::new(format!("one of these keys must be said: {}", keys_of.join(", "))),
                )],
                keys => keys.iter().map(strange).collect(),
            }
        }
        (several, _) => {
            let best = several.iter().min_by_key(|b| (missing(b), b.len()));
            best.map(|b| b.iter().flat_map(|e| faults(schema, e)).collect()).unwrap_or_default()
        }
    }
}

/// The key that is missing.
fn required<'a>(error: &'a ValidationError<'_>) -> Option<&'a str> {
    match error.kind() {
        ValidationErrorKind::Required { property } => property.as_str(),
        _ => None,
    }
}

/// Why a text is not of one of our own formats.
fn unit(format: &str, text: &str) -> String {
    let why = match format {
        "interval" => text.parse::<Interval>().err(),
        "size" => text.parse::<Size>().err(),
        "rate" => text.parse::<Rate>().err(),
        _ => None,
    };
    why.unwrap_or_else(|| format!("`{text}` is no {format}"))
}

fn options(error: &ValidationError<'_>) -> Vec<Value> {
    match error.kind() {
        ValidationErrorKind::Enum { options } => options.as_array().cloned().unwrap_or_default(),
        ValidationErrorKind::Constant { expected_value } => vec![Value::clone(expected_value)],
        _ => Vec::new(),
    }
}

fn types(error: &ValidationError<'_>) -> Vec<&'static str> {
    let name = |t: JsonType| match t {
        JsonType::Null => "nothing",
        JsonType::Boolean => "a boolean",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "a text",
        JsonType::Array => "a list",
        JsonType::Object => "a map",
    };
    match error.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Single(t) } => vec![name(*t)],
        ValidationErrorKind::Type { kind: TypeKind::Multiple(set) } => {
            set.iter().filter(|t| *t != JsonType::Null).map(name).collect()
        }
        _ => Vec::new(),
    }
}

fn expected(types: &[&str], found: &Value) -> Problem {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    Problem::new(format!("expected {}, found {found}", types.join(" or ")))
}

fn one_of(found: &Value, options: &[Value]) -> Problem {
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let known: Vec<_> = options.iter().map(plain).collect();
    let listed = known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    let problem = Problem::new(format!("`{}` is none of {listed}", plain(found)));
    match found.as_str().and_then(|word| did_you_mean(word, known.iter().map(String::as_str))) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// The names of the properties beside the keyword that refused another one.
fn properties(schema: &Value, keyword: &Location) -> Vec<String> {
    let around = keyword.as_str().rsplit_once('/').map_or("", |(before, _)| before);
    let properties = schema.pointer(around).and_then(|s| s.get("properties")).and_then(Value::as_object);
    properties.map(|p| p.keys().cloned().collect()).unwrap_or_default()
}

fn keys(path: &Location) -> Vec<Key> {
    path.into_iter()
        .map(|segment| match segment {
            LocationSegment::Property(name) => Key::Name(name.into_owned()),
            LocationSegment::Index(index) => Key::Index(index),
        })
        .collect()
}
