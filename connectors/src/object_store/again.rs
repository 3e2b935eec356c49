//! Objects that were written are read again, and others are written beside them: for dead letters.

use arrow::datatypes::SchemaRef;
use bourn_engine::Result;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;

use super::errors::{at_url, of_objects};
use super::files::HASTY;
use super::{IfExists, ObjectStore};

impl ObjectStore {
    /// See [`File::read_back`](crate::File): the same with objects.
    pub(super) async fn read_back(&self, rows: SchemaRef, env: &Env) -> Result<Vec<Self>, Problems> {
        let (opened, env, _, _stop) = self.world(HASTY, env)?;
        let looked = env.clone();
        let found = env.blocking(move || opened.file.read_back(&rows, &looked)).await.map_err(|e| at_url(&e))?;
        let source = |file: crate::File| Self {
            options: self.options.clone(),
            format: file.format,
            compression: file.compression,
            schema: file.schema,
            csv: file.csv,
            ..Self::new(file.path)
        };
        Ok(found.map_err(of_objects)?.into_iter().map(source).collect())
    }

    /// The same as a sink whose objects stand beside those that are there.
    pub(super) fn beside(&self, mark: &str, env: &Env) -> Option<Self> {
        let file = self.file().beside(mark, env)?;
        Some(Self {
            options: self.options.clone(),
            format: file.format,
            compression: file.compression,
            csv: file.csv,
            rotate: file.rotate,
            partition_by: file.partition_by,
            if_exists: IfExists::Replace,
            part_size: self.part_size,
            mark: file.mark,
            ..Self::new(file.path)
        })
    }
}
