//! Objects in S3, Google Cloud Storage or Azure: read and written as `file` does it with files.

mod again;
mod bucket;
pub mod checkpoints;
mod ends;
mod errors;
mod files;
mod options;
mod read;
mod staging;
mod upload;
mod world;

use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Known, Replay, Side, SinkContext,
    SourceContext, Unread, UsedFiles,
};
use bourn_engine::data::position::Split;
use bourn_engine::data::units::Size;
use bourn_engine::diagnostic::{Key, Problem, Problems};
use bourn_engine::env::Env;
use futures::executor::block_on;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::compression::Limits;
use crate::codec::csv::Csv;
use crate::codec::types::Declared;
use crate::file::{AsObjects, Compression, File, Format, LANE, Rotate};
use bucket::Bucket;
use ends::{ObjectSink, ObjectSource};
use errors::{at_url, first, of_objects};
use files::{HASTY, Objects, PATIENT, Stop, Writing};
pub use options::Options;
use staging::{Notes, Staging};

/// Reads and writes objects in S3 and what is compatible with it, Google Cloud Storage and Azure Blob Storage.
///
/// `object_store: { url: "s3://bucket/2024/*.parquet", options: { endpoint: "https://s3.example.com", region: eu-1 } }`.
/// Formats are those of `file`, and so are compressed lines, folders that say columns, `rotate` and `partition_by`. Keys come
/// from `options` or from the variables that the tools of each provider read (`AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, …), from the
/// metadata service of the machine where there are none; public buckets need `options: { skip_signature: "true" }`.
///
/// A source reads each object as a split of its own, in ranges, and goes on where it was after an error of the network. One
/// that is changed while it is read ends the job. Without `schema` its columns are looked for when a job is planned that is to
/// run. A sink uploads an object in parts as rows come. It appears, whole, when the job has ended, or with `rotate` and
/// `partition_by` when it is full or its epoch ends; until then nothing of it can be seen, and the parts of a job that failed
/// are thrown away. A job that is killed can't do that: let the bucket abort incomplete uploads after some days.
///
/// In a job that keeps checkpoints each row is there once, whatever befell the job. Objects by `rotate` and `partition_by` wait
/// as `_NAME.part` until their epoch is committed, and are then copied to their places, each of 4 GiB at most. The rows of a single
/// object are staged in the folder `_bourn` beside it, and it is made of them when the job ends; whoever has much to write
/// rotates. What a job that was killed has left is removed when it is started again.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectStore {
    /// The object: `s3://bucket/key`, `gs://bucket/key`, `az://container/key` or `abfss://container@account…/key`. In a
    /// source also a pattern with `*`, `?`, `[…]` and `**`, or all below a key that ends with `/`. In a sink, `{lane}`
    /// makes one object a lane.
    pub url: String,
    /// What the provider needs to know: `endpoint`, `region`, `access_key_id`, `secret_access_key`, `timeout`, ….
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// What is in the objects; from the ending of the URL if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How they are compressed. Lines: as the ending says, `.gz` or `.zst`, if it is not said. Other formats say it themselves
    /// when they are read, and are written so: Parquet by `zstd`, Avro by `deflate`, Arrow not at all if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// How far compressed lines may grow when they are read, so that a small object does not fill the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decompress: Option<Limits>,
    /// The columns of JSON lines or CSV with their types, those that folders say among them; inferred from the first 1,000 rows
    /// or 1 MiB if it is not said. `plan` and `validate` ask nobody where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// The columns to read; all of them if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// What CSV looks like, where it is not as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
    /// Not for objects, which are replaced and never grow: refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Whether folders such as `country=de` are columns of a source: found by itself if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<bool>,
    /// When a sink ends an object and begins the next: needs `{number}` in the URL. The end of an epoch ends it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<Rotate>,
    /// Columns whose values make the folders of a sink: `url` is a folder then, and its objects are
    /// `URL/a=1/b=x/part-LANE-NUMBER.ENDING`, without these columns in them. So many are open at once as have parts of 256 MiB
    /// together; beyond it the one that was written to longest ago is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<Vec<String>>,
    /// What a sink does where an object is already.
    #[serde(default)]
    pub if_exists: IfExists,
    /// How much a sink uploads at once, at least 5 MiB. An object has 10,000 parts at most; four are under way at a time.
    #[serde(default = "part_size")]
    pub part_size: Size,
    /// For a sink whose objects stand beside those of a job: what tells them apart.
    #[serde(skip)]
    #[schemars(skip)]
    mark: Option<String>,
    #[serde(skip)]
    #[schemars(skip)]
    opened: OnceLock<Opened>,
}

/// What is done where an object is already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfExists {
    /// It is replaced.
    #[default]
    Replace,
    /// The job fails. An object of one part is created only if there is none; for a larger one it is looked just before it
    /// appears.
    Fail,
}

fn part_size() -> Size {
    Size(8 << 20)
}

/// What the open objects of a sink may hold together, in bytes, beside the few parts that are on their way.
const PARTS_HELD: usize = 256 << 20;

/// How large what is staged grows before another object takes what follows, in bytes: one request can bring it.
const SEGMENT: u64 = 6 << 20;

/// How large an object may be that is put in its place by copying it, in bytes: S3 copies 5 GiB at most.
const COPIED: u64 = 4 << 30;

/// The objects, and the connector for files that reads and writes them.
#[derive(Clone, Debug)]
struct Opened {
    bucket: Arc<Bucket>,
    file: Arc<File>,
}

impl ObjectStore {
    /// The object at `url`, or the objects that match it, in the format that its ending says.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: Options::default(),
            format: None,
            compression: None,
            decompress: None,
            schema: None,
            columns: None,
            csv: None,
            follow: false,
            partitions: None,
            rotate: None,
            partition_by: None,
            if_exists: IfExists::default(),
            part_size: part_size(),
            mark: None,
            opened: OnceLock::new(),
        }
    }

    /// The same with this option.
    #[must_use]
    pub fn with_option(mut self, key: &str, value: impl Into<String>) -> Self {
        self.options.set(key, value.into());
        self
    }

    /// Connects nothing yet: the first request does.
    fn opened(&self, env: &Env) -> Result<&Opened, Problems> {
        if self.part_size.0 < 5 << 20 {
            return Err(Problem::new("a part has at least 5 MiB").under("part_size").into());
        }
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        if self.follow {
            let problem = Problem::new("objects are replaced and never grow, so there is nothing to follow");
            return Err(problem
                .under("follow")
                .help("read what is there now; `nats` or `http` bring what comes")
                .into());
        }
        let bucket = Arc::new(Bucket::of(&self.url, &self.options, env)?);
        Ok(self.opened.get_or_init(|| Opened { bucket, file: Arc::new(self.file()) }))
    }

    /// The connector for files that reads and writes the objects.
    fn file(&self) -> File {
        let declared = self.schema.as_ref().map(|schema| schema.0.iter().map(|(name, _)| name.clone()).collect());
        let part_size = usize::try_from(self.part_size.0).unwrap_or(usize::MAX);
        let mut file = File::new(&self.url);
        file.format = self.format;
        file.compression = self.compression;
        file.decompress = self.decompress;
        file.schema.clone_from(&self.schema);
        // What is declared is all there is, whatever folders say: so nobody needs to be asked for it.
        file.columns = self.columns.clone().or(declared);
        file.csv.clone_from(&self.csv);
        file.partitions = self.partitions;
        file.rotate = self.rotate;
        file.mark.clone_from(&self.mark);
        file.partition_by.clone_from(&self.partition_by);
        let open = (PARTS_HELD / part_size.max(1)).clamp(1, 64);
        file.with_objects(AsObjects { open, segment: SEGMENT, copied: COPIED })
    }

    /// What a sink stages of the epochs that its job keeps.
    fn staging(&self, context: &SinkContext) -> Staging {
        let notes = || Notes::of(&self.url, &context.id, context.lane, context.lanes);
        match context.epochs {
            None => Staging::None,
            Some(_) if self.rotate.is_some() || self.partition_by.is_some() || self.mark.is_some() => {
                Staging::Parts(notes())
            }
            Some(_) => Staging::Rows(notes()),
        }
    }

    /// The world of `env` with the objects as its files, and what ends their requests when it is dropped.
    fn world(&self, attempts: u32, env: &Env) -> Result<(Opened, Env, Objects, Stop), Problems> {
        self.world_with(attempts, env, Staging::None)
    }

    fn world_with(&self, attempts: u32, env: &Env, staging: Staging) -> Result<(Opened, Env, Objects, Stop), Problems> {
        let opened = self.opened(env)?.clone();
        let part_size = usize::try_from(self.part_size.0).unwrap_or(usize::MAX);
        let writing = Writing { part_size, if_exists: self.if_exists, staging };
        let (objects, stop) = Objects::new(opened.bucket.clone(), writing, attempts, env).map_err(|e| at_url(&e))?;
        Ok((opened, world::with_files(env, objects.clone()), objects, stop))
    }
}

impl Connector for ObjectStore {
    const NAME: &'static str = "object_store";
    const READS_BACK: bool = true;

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, true).and_sink(Delivery::Transactional)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        let (opened, env, _, _stop) = self.world(HASTY, &context.env)?;
        let context = ConnectContext { env: env.clone(), id: context.id.clone(), lanes: context.lanes };
        let found = env.blocking(move || block_on(opened.file.schema(&context))).await.map_err(|e| at_url(&e))?;
        found.map_err(of_objects)
    }

    async fn known(&self, context: &ConnectContext) -> Result<Known, Problems> {
        let unseen = self.opened(&context.env)?.file.unseen().map_err(of_objects)?;
        Ok(unseen.map_or_else(|| Known::Asks(self.url.clone()), Known::Schema))
    }

    async fn reach(&self, side: Side<'_>, context: &ConnectContext) -> Result<(), Problems> {
        match side {
            // For the schema its objects are listed and looked into.
            Side::Source => Ok(()),
            Side::Sink(_) => {
                let (_, env, objects, _stop) = self.world(HASTY, &context.env)?;
                let url = self.url.clone();
                env.blocking(move || objects.reach(&url)).await.flatten().map_err(|e| at_url(&e).into())
            }
        }
    }

    async fn splits(&self, context: &ConnectContext) -> Result<Vec<Split>> {
        let (opened, env, _, _stop) = self.world(HASTY, &context.env).map_err(first)?;
        let context = ConnectContext { env: env.clone(), id: context.id.clone(), lanes: context.lanes };
        env.blocking(move || block_on(opened.file.splits(&context))).await?
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let (opened, env, _, stop) = self.world(PATIENT, &context.env).map_err(first)?;
        let context = SourceContext { env: env.clone(), ..context };
        let source = env.blocking(move || block_on(opened.file.source(context))).await??;
        Ok(BoxSource::new(ObjectSource::new(env, source, stop)))
    }

    fn files(&self, _: &ConnectContext) -> UsedFiles {
        UsedFiles { written: Some(self.url.clone().into()), ..UsedFiles::default() }
    }

    async fn check_sink(&self, schema: &SchemaRef, context: &ConnectContext) -> Result<(), Problems> {
        let (opened, env, _, _stop) = self.world(HASTY, &context.env)?;
        if self.url.ends_with('/') && self.partition_by.is_none() {
            return Err(Problem::new("a sink needs the name of an object").under("url").into());
        }
        let context = ConnectContext { env, id: context.id.clone(), lanes: context.lanes };
        opened.file.check_sink(schema, &context).await.map_err(|problems| {
            let Problems(mut found) = of_objects(problems);
            // The names of `schema`, which is told.
            found.retain(|p| self.columns.is_some() || p.path.first() != Some(&Key::from("columns")));
            Problems(found)
        })
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let staging = self.staging(&context);
        let (opened, env, objects, stop) = self.world_with(PATIENT, &context.env, staging.clone()).map_err(first)?;
        let mut context = SinkContext { env: env.clone(), ..context };
        if let (Staging::Rows(notes), Some(epochs)) = (&staging, &mut context.epochs) {
            epochs.folder = notes.folder.clone().into();
        }
        let is_new = context.epochs.as_ref().is_some_and(|e| e.behind == 0);
        let (path, begun) = (self.url.replace(LANE, &context.lane.to_string()), objects.clone());
        let make = move || {
            begun.begin(&path, is_new)?;
            block_on(opened.file.sink(context))
        };
        let sink = env.blocking(make).await??;
        Ok(BoxSink::new(ObjectSink::new(env, sink, objects, stop)))
    }

    async fn read_back(&self, rows: &SchemaRef, context: &ConnectContext) -> Result<Vec<Self>, Problems> {
        self.read_back(rows.clone(), &context.env).await
    }

    fn beside(&self, mark: &str, context: &ConnectContext) -> Option<Self> {
        self.beside(mark, &context.env)
    }

    fn reread(&self, texts: &[Unread<'_>], schema: &SchemaRef) -> Option<Vec<Result<RecordBatch>>> {
        self.opened.get()?.file.reread(texts, schema)
    }
}

#[cfg(test)]
mod tests;
