//! Which of the columns that were found are read.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bourn_engine::diagnostic::{Problem, Problems, did_you_mean};

use super::{File, Format};

impl File {
    pub(super) fn check_table(&self, format: Format, declared: bool) -> Result<(), Problem> {
        let name = format.name();
        if declared {
            let article = if name.starts_with('A') { "an" } else { "a" };
            let problem = Problem::new(format!("{article} {name} file brings its own schema")).under("schema");
            return Err(problem.help("choose from it with `columns: [a, b]`"));
        }
        let for_lines = [("compression", self.compression.is_some()), ("decompress", self.decompress.is_some())];
        match for_lines.iter().find(|(_, set)| *set) {
            Some((key, _)) => {
                let problem =
                    Problem::new(format!("`{key}` is for lines, and a source of {name} finds it in the file"));
                Err(problem.under(*key))
            }
            None => Ok(()),
        }
    }

    pub(super) fn chosen(&self, found: SchemaRef) -> Result<SchemaRef, Problems> {
        let Some(names) = &self.columns else { return Ok(found) };
        let (mut fields, mut problems) = (Vec::new(), Vec::new());
        for (i, name) in names.iter().enumerate() {
            if let Ok(field) = found.field_with_name(name) {
                fields.push(field.clone());
            } else {
                let known: Vec<_> = found.fields().iter().map(|f| f.name().as_str()).collect();
                problems.push(no_column(name, &known).under(i).under("columns"));
            }
        }
        Problems::check(problems)?;
        Ok(Arc::new(Schema::new(fields)))
    }
}

pub(crate) fn no_column(name: &str, known: &[&str]) -> Problem {
    let mut problem = Problem::new(format!("there is no column `{name}`"));
    problem.help =
        did_you_mean(name, known.iter().copied()).or_else(|| Some(format!("columns are {}", known.join(", "))));
    problem
}
