//! One file that is being written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::env::{Env, WriteFile};
use bourn_engine::{Error, Result};

use crate::codec::compression::{Packer, Packing};
use crate::codec::csv::{self, Dialect};
use crate::codec::ipc::StreamEncoder;
use crate::codec::json;
use crate::codec::rows::RowEncoder;
use crate::codec::table::{Options, Writer};
use crate::file::Format;

/// How much compressed text is collected before it is written, in bytes.
const BUFFER: usize = 1 << 20;

/// How rows become a file.
pub struct Recipe {
    pub env: Env,
    pub format: Format,
    /// The columns that are written.
    pub schema: SchemaRef,
    pub dialect: Dialect,
    pub packing: Option<Packing>,
    pub options: Options,
    /// Whether the file is written beside its place, as `PATH.part`, and put there when it is whole.
    pub beside: bool,
}

/// A file that is being written; dropped before its end, it stays as it is.
pub struct Out {
    env: Env,
    path: PathBuf,
    /// Where it is until it is whole, if that is not its place.
    part: Option<PathBuf>,
    body: Body,
    rows: u64,
}

enum Body {
    Text(Box<Text>),
    Table(Box<Writer>),
    /// It is finished.
    Gone,
}

struct Text {
    /// Away while it is synced; then lost for good if that failed.
    file: Option<Box<dyn WriteFile>>,
    encoder: RowEncoder,
    packer: Option<Packer>,
    /// Text that is not in a member yet.
    plain: Vec<u8>,
    buffer: Vec<u8>,
    written: u64,
    unsynced: bool,
}

impl Recipe {
    /// Begins the file that is to be at `path`.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn open(&self, path: PathBuf) -> Result<Out> {
        self.begin(path, self.beside)
    }

    /// The same, beside its place until it is whole.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn open_beside(&self, path: PathBuf) -> Result<Out> {
        self.begin(path, true)
    }

    fn begin(&self, path: PathBuf, beside: bool) -> Result<Out> {
        let files = self.env.files();
        if beside && files.is_special(&path) {
            return Err(Error::validation(format!("{} is a device, a pipe or a folder", path.display())));
        }
        let part = beside.then(|| with_part(&path));
        let at = part.as_deref().unwrap_or(&path);
        let kind = self.format.table().filter(|_| self.format.is_whole_at_its_end());
        let body = if let Some(kind) = kind {
            let writer = Writer::new(kind, files.create(at)?, &self.schema, self.options);
            Body::Table(Box::new(writer.map_err(|e| e.context(at.display()))?))
        } else {
            let mut encoder = self.encoder()?;
            let mut plain = Vec::new();
            encoder.begin(&mut plain);
            let file = Some(files.create(at)?);
            let packer = self.packing.map(Packer::new);
            Body::Text(Box::new(Text { file, encoder, packer, plain, buffer: Vec::new(), written: 0, unsynced: false }))
        };
        Ok(Out { env: self.env.clone(), path, part, body, rows: 0 })
    }

    /// Goes on with the text at `path` behind its first `length` bytes, which were on the disk.
    ///
    /// # Errors
    /// When it is not there any more, or shorter.
    pub fn reopen(&self, path: PathBuf, length: u64) -> Result<Out> {
        let file = self.env.files().reopen(&path, length).map_err(|e| lost(e, &path))?;
        let mut encoder = self.encoder()?;
        let mut plain = Vec::new();
        if length == 0 {
            encoder.begin(&mut plain);
        }
        let (file, packer, buffer) = (Some(file), self.packing.map(Packer::new), Vec::new());
        // What was cut off may be on the disk still.
        let text = Text { file, encoder, packer, plain, buffer, written: length, unsynced: true };
        Ok(Out { env: self.env.clone(), path, part: None, body: Body::Text(Box::new(text)), rows: 0 })
    }

    /// Whether a file can't be read before its end is written.
    pub fn is_whole_at_its_end(&self) -> bool {
        self.format.is_whole_at_its_end() || matches!(self.format, Format::ArrowStream)
    }

    fn encoder(&self) -> Result<RowEncoder> {
        match self.format {
            Format::Json => Ok(RowEncoder::Json(json::Encoder::new(&self.schema)?)),
            Format::Csv => Ok(RowEncoder::Csv(csv::Encoder::new(self.dialect.clone(), &self.schema)?)),
            Format::ArrowStream => Ok(RowEncoder::Arrow(Box::new(StreamEncoder::new(&self.schema)?))),
            _ => Err(Error::unsupported("plain lines are for sources")),
        }
    }
}

/// What a checkpoint knows of is gone.
fn lost(error: Error, path: &Path) -> Error {
    let message = format!("{}: the checkpoint has rows of it ({})", path.display(), error.message());
    Error::new(error.kind(), format!("{message}; `--fresh` begins anew"))
}

/// The place of a file that is not whole yet.
pub fn with_part(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

impl Out {
    /// Adds rows in the schema of the recipe. Text that is not compressed is in the file when this returns.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let at = self.part.as_deref().unwrap_or(&self.path);
        match &mut self.body {
            Body::Text(text) => text.write(rows, at)?,
            Body::Table(writer) => writer.write(rows).map_err(|e| e.context(at.display()))?,
            Body::Gone => return Err(Error::engine(format!("{} is finished", self.path.display()))),
        }
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// How many rows were written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How large the file is by now, about, in bytes.
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::Text(text) => text.written + (text.buffer.len() + text.plain.len()) as u64,
            Body::Table(writer) => writer.size(),
            Body::Gone => 0,
        }
    }

    /// Puts text on the disk, so that it can be read as far as it was written. A file of columns stays as it is: what
    /// makes it readable comes last.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn settle(&mut self) -> Result<()> {
        match &mut self.body {
            Body::Text(text) => text.settle(self.part.as_deref().unwrap_or(&self.path), &self.env).await,
            Body::Table(_) | Body::Gone => Ok(()),
        }
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes its name stay.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn keep_name(&mut self) -> Result<()> {
        keep_names(&self.env, [self.path.clone()]).await
    }

    /// Cuts another file behind its first `length` bytes.
    ///
    /// # Errors
    /// When it is not there any more, or shorter.
    pub async fn cut(&mut self, path: PathBuf, length: u64) -> Result<()> {
        let env = self.env.clone();
        let cut = move || {
            let mut file = env.files().reopen(&path, length).map_err(|e| lost(e, &path))?;
            file.sync().map_err(|e| Error::from(e).context(path.display()))
        };
        self.env.blocking(cut).await?
    }

    /// Writes what stands at the end, and puts the file in its place. Nothing can be written any more.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn finish(&mut self) -> Result<()> {
        self.seal().await?;
        match &self.part {
            Some(part) => self.env.files().rename(part, &self.path),
            None => Ok(()),
        }
    }

    /// Writes what stands at the end; the file stays beside its place. Nothing can be written any more.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn seal(&mut self) -> Result<()> {
        let at = self.part.as_deref().unwrap_or(&self.path);
        match std::mem::replace(&mut self.body, Body::Gone) {
            Body::Text(mut text) => {
                text.encoder.end(&mut text.plain)?;
                // A file without a text is still to be a gzip file.
                if let Some(packer) = text.packer.as_mut().filter(|_| text.written == 0) {
                    packer.begin()?;
                }
                text.settle(at, &self.env).await?;
            }
            Body::Table(writer) => {
                let finished = self.env.blocking(move || writer.finish()).await?;
                finished.map_err(|e| e.context(at.display()))?;
            }
            Body::Gone => {}
        }
        Ok(())
    }
}

/// Makes the names of files stay, and those of the folders that they are in.
///
/// # Errors
/// What the file system says.
pub async fn keep_names(env: &Env, paths: impl IntoIterator<Item = PathBuf>) -> Result<()> {
    // A folder that was made for a file is a name in the folder above it. Further up nobody looks: at worst a file is there
    // whose folder was there before.
    let folders = |path: &PathBuf| path.ancestors().skip(1).take(3).map(Path::to_owned).collect::<Vec<_>>();
    let folders: BTreeSet<PathBuf> = paths.into_iter().collect::<Vec<_>>().iter().flat_map(folders).collect();
    let world = env.clone();
    env.blocking(move || folders.iter().rev().try_for_each(|folder| world.files().sync_folder(folder))).await?
}

impl Text {
    fn write(&mut self, rows: &RecordBatch, at: &Path) -> Result<()> {
        self.encoder.encode(rows, &mut self.plain)?;
        self.pack()?;
        // What is compressed is collected; what is not is visible at once, as a trickle of rows should be.
        if self.packer.is_none() || self.buffer.len() >= BUFFER { self.flush(at) } else { Ok(()) }
    }

    fn pack(&mut self) -> Result<()> {
        match &mut self.packer {
            Some(packer) if !self.plain.is_empty() => packer.pack(&self.plain, &mut self.buffer)?,
            Some(_) => {}
            None => self.buffer.append(&mut self.plain),
        }
        self.plain.clear();
        Ok(())
    }

    fn flush(&mut self, at: &Path) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let lost = || Error::engine(format!("{}: an earlier write failed", at.display()));
        let file = self.file.as_mut().ok_or_else(lost)?;
        file.write_all(&self.buffer).map_err(|e| Error::from(e).context(at.display()))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.unsynced = true;
        Ok(())
    }

    async fn settle(&mut self, at: &Path, env: &Env) -> Result<()> {
        self.pack()?;
        if let Some(packer) = &mut self.packer {
            packer.end(&mut self.buffer)?;
        }
        self.flush(at)?;
        if self.unsynced
            && let Some(mut file) = self.file.take()
        {
            // The disk takes its time; a worker must not wait for it.
            let (file, synced) = env
                .blocking(move || {
                    let synced = file.sync();
                    (file, synced)
                })
                .await?;
            synced.map_err(|e| Error::from(e).context(at.display()))?;
            self.file = Some(file);
            self.unsynced = false;
        }
        Ok(())
    }
}
