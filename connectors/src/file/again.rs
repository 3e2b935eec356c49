//! What was written is read again, what was rejected too, and rows are written beside those of a job: for dead letters.

use std::path::{Path, PathBuf};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::Unread;
use bourn_engine::data::position::Split;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};

use super::read::{Content, Recipe, with_folders};
use super::read_lines::LineDecoder;
use super::write::{LANE, NUMBER};
use super::{File, Format, at_path, without_reserved};
use crate::codec::lines::Place;
use crate::codec::types::Declared;

impl File {
    /// Sources of what this has written as a sink, and of what was written beside it.
    pub(crate) fn read_back(&self, rows: &SchemaRef, env: &Env) -> Result<Vec<Self>, Problems> {
        let format = self.format()?;
        let path = Path::new(&self.path);
        if self.partition_by.is_none() && env.files().is_special(path) {
            let message =
                format!("`{}` is a device, a pipe or a folder: what went there can't be read back", self.path);
            return Err(Problem::new(message).under("path").into());
        }
        let (written, _) = without_reserved(rows);
        let is_text = format.table().is_none();
        let schema = if is_text { Some(Declared::of(&written)?) } else { None };
        let mut patterns = Vec::new();
        let escaped = glob::Pattern::escape(&self.path);
        if self.partition_by.is_some() {
            patterns.push(format!("{escaped}/**/*.{}{}", format.ending(), self.packed()?));
        } else {
            let place = |place: &str| glob::Pattern::escape(place);
            let all = escaped.replace(&place(LANE), "*").replace(LANE, "*");
            let all = all.replace(&place(NUMBER), "*").replace(NUMBER, "*");
            let beside = inserted(&all, ".replay-*");
            patterns.extend([all, beside]);
        }
        let mut seen: Vec<PathBuf> = Vec::new();
        let mut sources = Vec::new();
        for pattern in patterns {
            let mut paths = env.glob(&pattern).map_err(|e| at_path(&e))?;
            if let [one] = paths.as_slice()
                && one == Path::new(&pattern)
                && !is_there(one, env)?
            {
                paths.clear();
            }
            // A pattern of many files finds those beside them too.
            if paths.iter().all(|path| seen.contains(path)) {
                continue;
            }
            seen.extend(paths);
            sources.push(Self {
                path: pattern,
                format: Some(format),
                compression: self.compression.filter(|_| is_text),
                schema: schema.clone(),
                csv: self.csv.clone(),
                ..Self::default()
            });
        }
        Ok(sources)
    }

    /// The ending of a compression.
    fn packed(&self) -> Result<&'static str, Problem> {
        use crate::codec::compression::Packing;
        if self.format()?.table().is_some() {
            return Ok("");
        }
        Ok(match self.texts().packing(Path::new(&self.path))? {
            Some(Packing::Gzip) => ".gz",
            Some(Packing::Zstd) => ".zst",
            None => "",
        })
    }

    /// The same as a sink that puts its files beside those that are there, each when it is whole.
    pub(crate) fn beside(&self, mark: &str, env: &Env) -> Option<Self> {
        let is_one = self.rotate.is_none() && self.partition_by.is_none();
        if is_one && env.files().is_special(Path::new(&self.path)) {
            return None;
        }
        let path = match &self.partition_by {
            Some(_) => self.path.clone(),
            None => inserted(&self.path, &format!(".replay-{mark}")),
        };
        Some(Self {
            path,
            format: self.format,
            compression: self.compression,
            csv: self.csv.clone(),
            rotate: self.rotate,
            partition_by: self.partition_by.clone(),
            mark: Some(mark.to_owned()),
            objects: self.objects,
            ..Self::default()
        })
    }

    /// What planning found makes of texts that were rejected.
    pub(crate) fn reread(&self, texts: &[Unread<'_>], schema: &SchemaRef) -> Option<Vec<Result<RecordBatch>>> {
        if !matches!(self.format(), Ok(Format::Json | Format::Csv)) {
            return None;
        }
        let recipe = self.recipe(schema).map(|recipe| match recipe.content {
            // The names of the columns are known, and no text is a header.
            Content::Csv { dialect, names, is_choice } => {
                let dialect = crate::codec::csv::Dialect { header: false, ..dialect.as_ref().clone() };
                Recipe { content: Content::Csv { dialect: dialect.into(), names, is_choice }, ..recipe }
            }
            content => Recipe { content, ..recipe },
        });
        let read = |text: &Unread<'_>| {
            let recipe = recipe.as_ref().map_err(Error::summary)?;
            let path = text.split.unwrap_or_default();
            let batch = reread(recipe.decoder()?, text.text, &Split::new(path))?;
            with_folders(batch, schema, path)
        };
        Some(texts.iter().map(read).collect())
    }
}

/// The row of a text that a file had as a line, or as a record of CSV.
fn reread(mut decoder: LineDecoder, text: &str, split: &Split) -> Result<RecordBatch> {
    if text.contains('\u{FFFD}') || (text.ends_with(" bytes)") && text.contains("… (")) {
        return Err(Error::validation(
            "it is not what was read: bytes that are no text, or the end of a long line, are gone",
        ));
    }
    let read = decoder.decode(text.as_bytes(), true, split, Place::default())?;
    if let Some(fault) = read.faults.into_iter().next() {
        return Err(fault.error);
    }
    if read.batch.num_rows() == 0 {
        return Err(Error::validation("there is no row in it"));
    }
    Ok(read.batch)
}

fn is_there(path: &Path, env: &Env) -> Result<bool, Problem> {
    match env.files().open(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == Kind::NotFound => Ok(false),
        Err(e) => Err(at_path(&e)),
    }
}

/// `out/a.jsonl.gz` with `.new` in it: `out/a.new.jsonl.gz`.
pub fn inserted(path: &str, new: &str) -> String {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (&path[..=folder.len()], name));
    let split = |name: &str| name.rfind('.').filter(|at| *at > 0);
    let end = match split(name) {
        Some(at) if ["gz", "gzip", "zst", "zstd"].contains(&name[at + 1..].to_lowercase().as_str()) => {
            split(&name[..at]).unwrap_or(at)
        }
        Some(at) => at,
        None => name.len(),
    };
    format!("{folder}{}{new}{}", &name[..end], &name[end..])
}

/// What a source declares to read rows of this schema.
impl Declared {
    fn of(schema: &Schema) -> Result<Self, Problem> {
        let columns = schema.fields().iter().map(|field| {
            let name = Self::name_of(field).ok_or_else(|| {
                Problem::new(format!("column `{}` has a type that no source can declare", field.name()))
            })?;
            Ok((field.name().clone(), name))
        });
        columns.collect::<Result<Vec<_>, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bourn_engine::data::columns::DEAD_LETTER;
    use bourn_engine::testing::simulation::Simulation;

    use super::*;

    #[test]
    fn what_is_new_stands_before_the_endings() {
        let all = ["a.jsonl", "x.y/a.jsonl.gz", "a", "x.y/.a", "a-{number}.parquet", "s3://b/k.csv.zst", "a.gz"];
        let expected = [
            "a.N.jsonl",
            "x.y/a.N.jsonl.gz",
            "a.N",
            "x.y/.a.N",
            "a-{number}.N.parquet",
            "s3://b/k.N.csv.zst",
            "a.N.gz",
        ];
        assert_eq!(all.map(|path| inserted(path, ".N")), expected);
    }

    fn patterns(file: &File, files: &[&str]) -> Vec<String> {
        let simulation = Simulation::new(1);
        for name in files {
            simulation.files().put(name, "");
        }
        let sources = file.read_back(&DEAD_LETTER, &simulation.env()).unwrap();
        sources.into_iter().map(|source| source.path).collect()
    }

    #[test]
    fn what_was_written_is_found_with_what_was_written_beside_it() {
        let one = File::new("a.jsonl");
        assert_eq!(patterns(&one, &[]), [""; 0]);
        assert_eq!(patterns(&one, &["a.jsonl"]), ["a.jsonl"]);
        assert_eq!(patterns(&one, &["a.jsonl", "a.replay-1.jsonl"]), ["a.jsonl", "a.replay-*.jsonl"]);
        let lanes = File::new("a-{lane}.csv");
        assert_eq!(patterns(&lanes, &["a-0.csv", "a-0.replay-1.csv"]), ["a-*.csv"]);
        let parted = File::new("out").with_format(Format::Json).partitioned_by(["stage"]);
        assert_eq!(patterns(&parted, &["out/stage=a/part-0-00000.jsonl"]), ["out/**/*.jsonl"]);
    }

    #[test]
    fn a_text_that_fits_by_now_is_a_row_and_another_says_why_not() {
        let simulation = Simulation::new(1);
        simulation.files().put("a.csv", "n,t\n1,x\n");
        let schema = Declared(vec![("n".into(), "bigint".into()), ("t".into(), "text".into())]).schema().unwrap();
        let file = File { schema: Some(Declared::of(&schema).unwrap()), ..File::new("a.csv") };
        file.found(Format::Csv, &["a.csv".into()], &simulation.env()).unwrap();
        let texts = ["2,\"a\nb\"", "x,y", "3", "4,\u{FFFD}"].map(|text| Unread { text, split: Some("a.csv") });
        let read = file.reread(&texts, &schema).unwrap();
        assert_eq!(read[0].as_ref().unwrap().num_rows(), 1);
        let told = |n: usize| read[n].as_ref().unwrap_err().to_string();
        assert!(told(1).contains("does not fit bigint") && told(2).contains("1 field"), "{} {}", told(1), told(2));
        assert!(told(3).contains("not what was read"));
        assert!(File::new("a.txt").reread(&texts, &Arc::new(Schema::empty())).is_none());
    }
}
