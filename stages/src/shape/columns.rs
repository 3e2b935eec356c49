//! The columns that a `map` leaves, in order, and everything that can be wrong with them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bourn_engine::data::columns::RESERVED_PREFIX;
use bourn_engine::diagnostic::{Key, Problem, Problems};
use bourn_expr::{Expression, quote};

use super::map::{Keep, Map};
use crate::column::{reserved, unknown};

/// The schema that leaves, and an expression for each of its columns.
pub fn plan(map: &Map, input: &SchemaRef) -> Result<(SchemaRef, Vec<Expression>), Problems> {
    let mut plan = Plan { input, columns: Vec::new(), problems: Vec::new() };
    plan.check_names(map);
    plan.kept(map);
    plan.made(map);
    if plan.columns.is_empty() && plan.problems.is_empty() {
        let problem = Problem::new("this leaves no columns");
        plan.problems.push(problem.help("name columns, as in `map: { hours: delay / 60.0 }`, or `keep: \"*\"`"));
    }
    Problems::check(plan.problems)?;
    let fields: Vec<_> = plan.columns.iter().map(|c| c.expression.field(&c.name)).collect();
    let columns = plan.columns.into_iter().map(|c| c.expression).collect();
    Ok((Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())), columns))
}

struct Plan<'a> {
    input: &'a SchemaRef,
    columns: Vec<Column>,
    problems: Vec<Problem>,
}

struct Column {
    name: String,
    expression: Expression,
    /// Whether it is a column of the input, not one that was made.
    kept: bool,
}

impl Plan<'_> {
    fn problem(&mut self, path: Vec<Key>, problem: Problem) {
        self.problems.push(Problem { path, ..problem });
    }

    /// Every name of an input column in the configuration is one, and may be spoken of.
    fn check_names(&mut self, map: &Map) {
        let listed = |key: &'static str, names: &[String]| -> Vec<(Vec<Key>, String)> {
            names.iter().enumerate().map(|(i, name)| (vec![key.into(), i.into()], name.clone())).collect()
        };
        let mut said = listed("drop", &map.drop);
        if let Some(Keep::Columns(names)) = &map.keep {
            said.extend(listed("keep", names));
        }
        for (key, named) in [("rename", &map.rename), ("cast", &map.cast)] {
            said.extend(named.names().map(|name| (vec![key.into(), name.into()], name.to_owned())));
        }
        for (path, name) in said {
            if name.starts_with(RESERVED_PREFIX) {
                self.problem(path, reserved(&name));
            } else if self.input.index_of(&name).is_err() {
                let problem = unknown(self.input, &name);
                self.problem(path, problem);
            }
        }
    }

    fn kept(&mut self, map: &Map) {
        let edits = !map.drop.is_empty() || !map.rename.is_empty() || !map.cast.is_empty();
        let mut names = HashSet::new();
        for field in self.input.fields() {
            let name = field.name();
            let edited = map.rename.get(name).is_some() || map.cast.get(name).is_some();
            let stays = match &map.keep {
                Some(Keep::All(_)) => true,
                Some(Keep::Columns(columns)) => edited || columns.contains(name),
                None => edits,
            };
            // What the engine must know of a row goes through every stage.
            if !name.starts_with(RESERVED_PREFIX) && (!stays || map.drop.contains(name)) {
                continue;
            }
            let compiled = match map.cast.get(name) {
                Some(to) => Expression::cast(name, to, self.input),
                None => Expression::compile(&quote(name), self.input),
            };
            let new_name = map.rename.get(name).unwrap_or(name);
            if new_name != name && new_name.starts_with(RESERVED_PREFIX) {
                self.problem(vec!["rename".into(), name.as_str().into()], reserved(new_name));
            } else if !names.insert(new_name.to_owned()) {
                let path = if new_name == name { vec![] } else { vec!["rename".into(), name.as_str().into()] };
                let problem = Problem::new(format!("two columns would be called `{new_name}`"));
                self.problem(path, problem.help(format!("`drop` the other one, or give `{name}` another name")));
            }
            match compiled {
                Ok(expression) => self.columns.push(Column { name: new_name.to_owned(), expression, kept: true }),
                Err(problem) => self.problem(vec!["cast".into(), name.as_str().into()], problem),
            }
        }
    }

    fn made(&mut self, map: &Map) {
        for (path, name, sql) in map.made() {
            let expression = match Expression::compile(sql, self.input) {
                Ok(expression) => expression,
                Err(problem) => {
                    self.problem(path, problem);
                    continue;
                }
            };
            let column = Column { name: name.to_owned(), expression, kept: false };
            if name.starts_with(RESERVED_PREFIX) {
                self.problem(path, reserved(name));
            } else if let Some(same) = self.columns.iter_mut().find(|c| c.name == name) {
                if same.kept {
                    *same = column;
                } else {
                    self.problem(path, Problem::new(format!("the column `{name}` is made twice")));
                }
            } else {
                self.columns.push(column);
            }
        }
    }
}
