//! How hard a task is, by what can be seen of its request without asking anybody, and how hard a model is to think about it.

use serde_json::Value;

use super::provider::Prompt;
use super::settings::Effort;

/// What was seen of a task; each part is a number of points, ten together at most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Complexity {
    /// How long it is: none up to 200 characters, four from 20,000 on, and evenly over the powers of ten between.
    pub length: f64,
    /// How many things are asked for: questions and the points of lists, half a point each, two and a half at most.
    pub tasks: f64,
    /// How deep the document is that is to come: half a point for each level below the first, one and a half at most.
    pub schema: f64,
    /// Whether there is code in it: two.
    pub code: f64,
}

impl Complexity {
    /// That of a request, whose answer fits `schema`.
    pub fn of(prompt: &Prompt, schema: Option<&Value>) -> Self {
        let texts = || prompt.system.iter().chain([&prompt.text]);
        let characters: usize = texts().map(|text| text.chars().count()).sum();
        let tasks: usize = texts().map(|text| tasks(text)).sum();
        Self {
            length: 4.0 * ((characters as f64 / 200.0).log10() / 2.0).clamp(0.0, 1.0),
            // One question is what every request has.
            tasks: (0.5 * tasks.saturating_sub(1) as f64).min(2.5),
            schema: (0.5 * schema.map_or(0, depth).saturating_sub(1) as f64).min(1.5),
            code: if texts().any(|text| has_code(text)) { 2.0 } else { 0.0 },
        }
    }

    /// All points, from 0 to 10.
    pub fn total(&self) -> f64 {
        self.length + self.tasks + self.schema + self.code
    }
}

/// How hard a model is to think about a task of so many points: `low` below 3, `medium` below 7, else `high`.
pub fn effort(points: f64) -> Effort {
    match points {
        points if points < 3.0 => Effort::Low,
        points if points < 7.0 => Effort::Medium,
        _ => Effort::High,
    }
}

/// Questions, and points of lists: `- …`, `3. …`.
fn tasks(text: &str) -> usize {
    let is_point = |line: &&str| {
        let line = line.trim_start();
        let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
        line.starts_with("- ")
            || line.starts_with("* ")
            || (number.len() < line.len() && number.starts_with(['.', ')']))
    };
    text.matches('?').count() + text.lines().filter(is_point).count()
}

/// How many levels of objects and lists a schema has.
fn depth(schema: &Value) -> usize {
    let below = |key: &str| match &schema[key] {
        Value::Object(members) if key == "properties" => members.values().map(depth).max().unwrap_or(0),
        Value::Null => 0,
        inner => depth(inner),
    };
    let is_level = schema["type"] == "object" || schema["type"] == "array" || schema["properties"].is_object();
    usize::from(is_level) + below("properties").max(below("items"))
}

/// A fence, or several lines that end as lines of code do.
fn has_code(text: &str) -> bool {
    const LINES: usize = 3;
    let is_code = |line: &&str| line.trim_end().ends_with([';', '{', '}']);
    text.contains("```") || text.lines().filter(is_code).count() >= LINES
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(text: &str, schema: Option<&Value>) -> Complexity {
        let prompt = Prompt { model: None, system: None, text: text.into(), max_tokens: None, json: false };
        Complexity::of(&prompt, schema)
    }

    #[test]
    fn the_effort_changes_at_three_and_at_seven() {
        let efforts = [0.0, 2.9, 3.0, 6.9, 7.0, 10.0].map(effort);
        assert_eq!(efforts, [Effort::Low, Effort::Low, Effort::Medium, Effort::Medium, Effort::High, Effort::High]);
    }

    #[test]
    fn what_is_long_or_has_many_parts_is_harder() {
        assert_eq!(of("What is the capital of France?", None), Complexity::default());
        assert_eq!(of(&"x".repeat(2_000), None).length, 2.0);
        assert_eq!(of(&"x".repeat(1_000_000), None).length, 4.0);
        assert_eq!(of("Why?\n- one\n* two\n 3. three\n12) four", None).tasks, 2.0);
        assert_eq!(of(&"- more\n".repeat(50), None).tasks, 2.5);
        assert_eq!(of("fix:\n```\nx\n```", None).code, 2.0);
        assert_eq!(of("fn a() {\n  b();\n}\n", None).code, 2.0);
        let flat = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        let deep = json!({ "type": "array", "items": { "properties": { "a": { "type": "array", "items": flat } } } });
        assert_eq!((of("x", Some(&flat)).schema, of("x", Some(&deep)).schema), (0.0, 1.5));
        let hard = format!("Fix all of it:\n```\n{}\n```\n{}", "x".repeat(20_000), "- and this?\n".repeat(9));
        let hardest = of(&hard, Some(&deep));
        assert_eq!((hardest.total(), effort(hardest.total())), (10.0, Effort::High));
    }
}
