//! What becomes of members that several values have.

use std::collections::BTreeMap;

use bourn_engine::{Error, Result};
use serde_json::{Map, Number, Value};

use super::{Conflicts, Reducer};

/// What becomes of members, by name, and of all others.
#[derive(Clone, Debug)]
pub(super) struct Reducers {
    pub keys: BTreeMap<String, Reducer>,
    pub conflicts: Conflicts,
}

impl Reducers {
    /// All of these as one: objects, or lists, or values that are the same. Null if there is none.
    pub(super) fn merge(&self, all: Vec<Value>) -> Result<Value> {
        let mut merged = Value::Null;
        for value in all.into_iter().filter(|value| !value.is_null()) {
            merged = match (merged, value) {
                (Value::Null, value) => value,
                (Value::Object(a), Value::Object(b)) => Value::Object(self.members(a, b, "")?),
                (Value::Array(a), Value::Array(b)) => append(Value::Array(a), Value::Array(b)),
                (a, b) if a == b => a,
                (a, b) => return Err(Error::validation(format!("{} and {} can't be merged", told(&a), told(&b)))),
            };
        }
        Ok(merged)
    }

    fn members(&self, mut a: Map<String, Value>, b: Map<String, Value>, way: &str) -> Result<Map<String, Value>> {
        for (name, new) in b {
            let here = if way.is_empty() { name.clone() } else { format!("{way}.{name}") };
            match a.get_mut(&name) {
                None => drop(a.insert(name, new)),
                Some(old) => *old = self.both(old.take(), new, &here, &name)?,
            }
        }
        Ok(a)
    }

    /// What becomes of a member that two have.
    fn both(&self, old: Value, new: Value, way: &str, name: &str) -> Result<Value> {
        if old.is_null() || new.is_null() {
            return Ok(if old.is_null() { new } else { old });
        }
        let said = self.keys.get(way).or_else(|| self.keys.get(name));
        // What is added up counts also when it is the same.
        if old == new && said.is_none_or(|reducer| !matches!(reducer, Reducer::Sum | Reducer::Append)) {
            return Ok(old);
        }
        match (said, self.conflicts) {
            (Some(reducer), _) => self.reduce(*reducer, old, new, way),
            (None, Conflicts::First) => Ok(old),
            (None, Conflicts::Overwrite) => Ok(new),
            (None, Conflicts::Deep) if old.is_array() && new.is_array() => Ok(append(old, new)),
            (None, Conflicts::Deep) if old.is_object() && new.is_object() => self.reduce(Reducer::Deep, old, new, way),
            (None, _) => {
                let message = format!(
                    "`{way}` is {} and {}: say what becomes of it under `keys`, or of all that differ under `conflicts`",
                    told(&old),
                    told(&new)
                );
                Err(Error::validation(message))
            }
        }
    }

    fn reduce(&self, reducer: Reducer, old: Value, new: Value, way: &str) -> Result<Value> {
        let wrong = |what: &str, old: &Value, new: &Value| {
            Error::validation(format!("`{way}` is {} and {}, which are no {what}", told(old), told(new)))
        };
        match reducer {
            Reducer::First => Ok(old),
            Reducer::Overwrite => Ok(new),
            Reducer::Append => Ok(append(old, new)),
            Reducer::Union => {
                let Value::Array(all) = append(old, new) else { return Ok(Value::Null) };
                let mut once: Vec<Value> = Vec::with_capacity(all.len());
                for value in all {
                    if !once.contains(&value) {
                        once.push(value);
                    }
                }
                Ok(Value::Array(once))
            }
            Reducer::Deep => match (old, new) {
                (Value::Object(a), Value::Object(b)) => Ok(Value::Object(self.members(a, b, way)?)),
                (old, new) => Err(wrong("objects", &old, &new)),
            },
            Reducer::Sum | Reducer::Min | Reducer::Max => match (&old, &new) {
                (Value::Number(a), Value::Number(b)) => {
                    number(reducer, a, b).ok_or_else(|| Error::validation(format!("`{way}`: the sum is too large")))
                }
                _ => Err(wrong("numbers", &old, &new)),
            },
        }
    }
}

/// Whole numbers stay whole; none when they do not fit.
fn number(reducer: Reducer, a: &Number, b: &Number) -> Option<Value> {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        return Some(match reducer {
            Reducer::Min => a.min(b).into(),
            Reducer::Max => a.max(b).into(),
            _ => a.checked_add(b)?.into(),
        });
    }
    let (a, b) = (a.as_f64()?, b.as_f64()?);
    let made = match reducer {
        Reducer::Min => a.min(b),
        Reducer::Max => a.max(b),
        _ => a + b,
    };
    Number::from_f64(made).map(Value::Number)
}

/// The elements of both; what is no list is an element.
fn append(old: Value, new: Value) -> Value {
    let list = |value| match value {
        Value::Array(list) => list,
        other => vec![other],
    };
    let mut all = list(old);
    all.extend(list(new));
    Value::Array(all)
}

/// A value in a message, or what it is if it is long.
fn told(value: &Value) -> String {
    const LONG: usize = 40;
    let text = value.to_string();
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(_) if text.len() > LONG => "a text".to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn merged(keys: Value, conflicts: Conflicts, all: Value) -> Result<Value, String> {
        let reducers = Reducers { keys: serde_json::from_value(keys).unwrap(), conflicts };
        reducers.merge(all.as_array().unwrap().clone()).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn each_reducer_does_what_its_name_says() {
        let all = json!([
            {"first": 1, "overwrite": 1, "append": [1], "union": [1, 2], "sum": 1, "min": 2.5, "max": 1, "deep": {"x": 1, "sum": 1}},
            {"first": 2, "overwrite": 2, "append": 1, "union": [2, 3], "sum": 1, "min": 1, "max": 7, "deep": {"y": 2, "sum": 2}},
        ]);
        let keys = ["first", "overwrite", "append", "union", "sum", "min", "max", "deep"];
        let keys: Map<String, Value> = keys.into_iter().map(|key| (key.to_owned(), key.into())).collect();
        let wanted = json!({
            "first": 1, "overwrite": 2, "append": [1, 1], "union": [1, 2, 3], "sum": 2, "min": 1.0, "max": 7,
            "deep": {"x": 1, "y": 2, "sum": 3},
        });
        assert_eq!(merged(Value::Object(keys), Conflicts::Error, all), Ok(wanted));
    }

    #[test]
    fn what_can_not_be_merged_is_told_with_the_way_to_it() {
        let two = |a: Value, b: Value| json!([{"in": {"n": a}}, {"in": {"n": b}}]);
        let told = merged(json!({"in": "deep"}), Conflicts::Error, two(json!(1), json!("a"))).unwrap_err();
        assert_eq!(
            told,
            "`in.n` is 1 and \"a\": say what becomes of it under `keys`, or of all that differ under `conflicts`"
        );
        let told =
            merged(json!({"in": "deep", "in.n": "sum"}), Conflicts::Error, two(json!(1), json!([]))).unwrap_err();
        assert_eq!(told, "`in.n` is 1 and a list, which are no numbers");
        let told = merged(json!({"n": "sum"}), Conflicts::Deep, two(json!(i64::MAX), json!(1))).unwrap_err();
        assert_eq!(told, "`in.n`: the sum is too large");
        assert_eq!(merged(json!({}), Conflicts::Error, json!([1, {}])).unwrap_err(), "1 and an object can't be merged");
    }

    #[test]
    fn lists_follow_each_other_and_deep_goes_down() {
        assert_eq!(merged(json!({}), Conflicts::Error, json!([[1], null, [2, 3]])), Ok(json!([1, 2, 3])));
        let deep = json!([{"a": {"l": [1], "x": 1}}, {"a": {"l": [2], "y": 1}}]);
        assert_eq!(merged(json!({}), Conflicts::Deep, deep), Ok(json!({"a": {"l": [1, 2], "x": 1, "y": 1}})));
        assert_eq!(merged(json!({}), Conflicts::First, json!([{"a": 1}, {"a": 2}])), Ok(json!({"a": 1})));
    }

    proptest! {
        /// Members that no two have are all there, whatever the order.
        #[test]
        fn nothing_is_lost_where_nothing_conflicts(parts in prop::collection::vec(prop::collection::btree_map("[a-f]", 0..3_i64, 0..4), 0..5)) {
            let named: Vec<Value> = parts.iter().enumerate()
                .map(|(i, part)| part.iter().map(|(k, v)| (format!("{k}{i}"), json!(v))).collect::<Map<_, _>>().into())
                .collect();
            let count: usize = parts.iter().map(std::collections::BTreeMap::len).sum();
            let reducers = Reducers { keys: BTreeMap::new(), conflicts: Conflicts::Error };
            let one = reducers.merge(named.clone()).unwrap();
            let other = reducers.merge(named.into_iter().rev().collect()).unwrap();
            prop_assert_eq!(one.as_object().map_or(0, Map::len), count);
            prop_assert_eq!(one, other);
        }
    }
}
