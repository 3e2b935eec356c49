//! What is known of files before anyone has looked at them, for those that a network is asked for.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use bourn_engine::diagnostic::{Problem, Problems};

use super::write::Objects;
use super::{File, Format, infer, partition, read_lines};
use crate::codec::types::Declared;

impl File {
    /// The same for objects.
    pub(crate) fn with_objects(self, objects: Objects) -> Self {
        Self { objects: Some(objects), ..self }
    }

    /// The columns of a source, if they are known without a look at its files and folders: declared, or those of plain lines.
    ///
    /// # Errors
    /// What is wrong with the configuration whatever the files are.
    pub(crate) fn unseen(&self) -> Result<Option<SchemaRef>, Problems> {
        let format = self.format()?;
        let declared = self.schema.as_ref().map(Declared::schema).transpose().map_err(|p| p.under("schema"))?;
        if format.table().is_some() {
            self.check_table(format, declared.is_some())?;
            return Ok(None);
        }
        self.texts().packing(Path::new(&self.path))?;
        if format == Format::Csv {
            self.dialect()?;
            infer::readable(declared.as_ref())?;
        } else if self.csv.is_some() {
            return Err(Problem::new("`csv` is for the format CSV").under("csv").into());
        }
        let Some(in_files) = (if format == Format::Lines { Some(read_lines::schema()) } else { declared }) else {
            return Ok(None);
        };
        let is_there = |name: &String| in_files.field_with_name(name).is_ok();
        let is_complete = self.columns.as_ref().is_some_and(|names| names.iter().all(is_there));
        if !is_complete && self.may_have_folders() {
            return Ok(None);
        }
        self.chosen(in_files).map(Some)
    }

    /// Whether folders may say columns beside those in the files.
    fn may_have_folders(&self) -> bool {
        let is_pattern = self.path.contains(['*', '?', '[']) || self.path.ends_with('/');
        self.partitions != Some(false) && (is_pattern || !partition::columns(&[PathBuf::from(&self.path)]).is_empty())
    }
}
