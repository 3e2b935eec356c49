//! A value against a JSON Schema: every fault of it, in words.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{JsonType, ValidationError};
use serde_json::{Map, Value};

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
                    let problem = unknown("key", name, known.iter().map(String::as_str));
                    Fault::at_key(path, Problem { help: meant(schema, error, name).or(problem.help), ..problem })
                })
                .collect()
        }
        K::Required { property } => {
            here(Problem::new(format!("the key `{}` is missing", property.as_str().unwrap_or_default())))
        }
        K::Type { .. } => {
            let keys = properties(schema, error.schema_path());
            here(with_quotes(expected(&types(error), error.instance(), &keys), &path, error.instance()))
        }
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

/// What was meant by a key that is not known here, where more can be said than which ones are.
fn meant(schema: &Value, error: &ValidationError<'_>, name: &str) -> Option<String> {
    if error.instance().get(name).is_some_and(Value::is_null) {
        return Some(QUOTES.into());
    }
    let beside = beside(schema, error.schema_path())?;
    let around = beside.iter().find(|(_, within)| names(schema, within).any(|found| found == name))?;
    Some(format!("it stands below `{0}`: `{0}: {{ {name}: … }}`", around.0))
}

/// A text with a comma between braces that is not quoted becomes two keys, of which the second has no value.
const QUOTES: &str = "between `{` and `}` a comma ends a value: put a text that has one into quotes";

fn with_quotes(problem: Problem, path: &[Key], found: &Value) -> Problem {
    let is_plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    match path.last() {
        Some(Key::Name(name)) if found.is_null() && !is_plain(name) => problem.help(QUOTES),
        _ => problem,
    }
}

/// The names of the properties of a schema, of those that it stands for and may be.
fn names<'a>(whole: &'a Value, schema: &'a Value) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    let own =
        schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|p| p.keys().map(String::as_str));
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|r| whole.pointer(r.strip_prefix('#')?));
    let may = ["anyOf", "oneOf"].into_iter().filter_map(|k| schema.get(k)?.as_array()).flatten();
    Box::new(own.chain(reference.into_iter().chain(may).flat_map(|other| names(whole, other))))
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
            vec![Fault::at(keys(path), expected(&all, error.instance(), &[]))]
        }
        _ if !options.is_empty() => {
            let keyed = keyed(schema, error);
            vec![Fault::at(keys(path), one_of_words_or_maps(error.instance(), &options, &keyed))]
        }
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

/// The keys of the maps that could stand here in the place of a word.
fn keyed<'a>(schema: &'a Value, error: &ValidationError<'_>) -> Vec<&'a str> {
    let ways = schema.pointer(error.schema_path().as_str()).and_then(Value::as_array);
    let required = |way: &'a Value| way.get("required")?.as_array()?.first()?.as_str();
    ways.into_iter().flatten().filter_map(required).collect()
}

fn one_of_words_or_maps(found: &Value, words: &[Value], maps: &[&str]) -> Problem {
    if let Some(word) = found.as_str().filter(|word| maps.contains(word)) {
        let help = format!("it is a map: `{word}: {{ … }}`");
        return Problem::new(format!("`{word}` alone says too little")).help(help);
    }
    let problem = one_of(found, words);
    let ways = maps.iter().map(|key| format!("`{key}: {{ … }}`")).collect::<Vec<_>>().join(", ");
    if problem.help.is_some() || ways.is_empty() { problem } else { problem.help(format!("or a map: {ways}")) }
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

fn expected(types: &[&str], found: &Value, keys: &[String]) -> Problem {
    let said = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    let problem = Problem::new(format!("expected {}, found {said}", types.join(" or ")));
    match (types, found) {
        (["a list"], Value::String(text)) if !text.contains([',', '[', ' ', '\n']) => {
            problem.help(format!("a list stands in brackets: `[{text}]`"))
        }
        (["a boolean"], Value::String(_)) => problem.help("`true` or `false`"),
        (["a map"], _) if !keys.is_empty() => {
            problem.help(format!("its keys: {}", keys.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")))
        }
        _ => problem,
    }
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
    beside(schema, keyword).map(|p| p.keys().cloned().collect()).unwrap_or_default()
}

fn beside<'a>(schema: &'a Value, keyword: &Location) -> Option<&'a Map<String, Value>> {
    let around = keyword.as_str().rsplit_once('/').map_or("", |(before, _)| before);
    schema.pointer(around)?.get("properties")?.as_object()
}

fn keys(path: &Location) -> Vec<Key> {
    path.into_iter()
        .map(|segment| match segment {
            LocationSegment::Property(name) => Key::Name(name.into_owned()),
            LocationSegment::Index(index) => Key::Index(index),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_people_write_by_mistake_is_told_with_the_way_out() {
        let pages = json!({"oneOf": [
            {"type": "string", "enum": ["next_link"]},
            {"type": "object", "required": ["page"], "properties": {"page": {"type": "object"}}},
        ]});
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "csv": {"anyOf": [{"$ref": "#/$defs/Csv"}, {"type": "null"}]},
                "key": {"type": "array", "items": {"type": "string"}},
                "create": {"type": "boolean"},
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
                "pages": pages,
            },
            "$defs": {"Csv": {"type": "object", "properties": {"delimiter": {"type": "string"}}}},
        });
        let commas = "between `{` and `}` a comma ends a value: put a text that has one into quotes";
        for (value, said, help) in [
            (json!({"delimiter": ";"}), "unknown key `delimiter`", "it stands below `csv`: `csv: { delimiter: … }`"),
            (json!({"b from t": null}), "unknown key `b from t`", commas),
            (json!({"map": {"1)": null}}), "expected a text, found nothing", commas),
            (json!({"map": {"a": null}}), "expected a text, found nothing", ""),
            (json!({"key": "id"}), "expected a list, found a text", "a list stands in brackets: `[id]`"),
            (json!({"create": "yes"}), "expected a boolean, found a text", "`true` or `false`"),
            (json!({"pages": "page"}), "`page` alone says too little", "it is a map: `page: { … }`"),
            (json!({"pages": "x"}), "`x` is none of `next_link`", "or a map: `page: { … }`"),
        ] {
            let faults = check(&schema, &value);
            let told: Vec<_> = faults.iter().map(|f| (&*f.problem.message, f.problem.help.as_deref())).collect();
            assert_eq!(told, [(said, Some(help).filter(|h| !h.is_empty()))], "{value}");
        }
    }
}
