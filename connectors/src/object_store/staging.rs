//! What becomes of objects before their epoch is committed, and what is noted of them, so that nothing is left behind.

use std::io;
use std::path::{Path, PathBuf};

use bourn_engine::env::ReadFile as _;
use bourn_engine::{Error, Kind, Result};
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{MultipartId, ObjectMeta, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::IfExists;
use super::files::Objects;
use super::read::ObjectFile;
use super::upload::exists;

/// What the connector for files puts behind the name of a file that is not whole yet.
pub const PART: &str = ".part";
/// The folder for what is no data, beside the data.
const HIDDEN: &str = "_bourn";
/// How much of two objects is compared at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// What becomes of objects before their epoch is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Staging {
    /// Nothing is staged: an object is uploaded to its place, and appears there when it is whole.
    None,
    /// Whole objects wait under hidden names, `_NAME.part`, and are copied to their places by the commit.
    Parts(Notes),
    /// Rows wait in the hidden folder; the object is made of them when the job ends.
    Rows(Notes),
}

/// Where is noted what an instance that is cut off would leave behind: in the hidden folder, under names that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notes {
    /// The folder: `s3://bucket/out/_bourn/rows.parquet`.
    pub folder: String,
    /// The sink.
    pub id: String,
    /// Its lane.
    pub lane: usize,
    /// Of how many.
    pub lanes: usize,
}

/// An upload under way.
#[derive(Serialize, Deserialize)]
struct Note {
    key: String,
    id: MultipartId,
}

impl Staging {
    /// Whether what is written there is whole and safe before it is committed.
    pub fn is_staged(&self, path: &Path) -> bool {
        match self {
            Self::None => false,
            Self::Parts(_) => path.to_string_lossy().ends_with(PART),
            Self::Rows(notes) => path.starts_with(&notes.folder),
        }
    }

    /// Where the object of a path is.
    pub fn place_of(&self, path: &Path) -> String {
        let text = path.to_string_lossy();
        match (self, text.rsplit_once('/')) {
            (Self::Parts(_), Some((folder, name))) if name.ends_with(PART) => format!("{folder}/_{name}"),
            _ => text.into_owned(),
        }
    }

    /// The path of the object at a place.
    pub fn path_of(&self, place: String) -> PathBuf {
        match (self, place.rsplit_once("/_")) {
            (Self::Parts(_), Some((folder, name))) if name.ends_with(PART) && !name.contains('/') => {
                format!("{folder}/{name}").into()
            }
            _ => place.into(),
        }
    }

    fn notes(&self) -> Option<&Notes> {
        match self {
            Self::None => None,
            Self::Parts(notes) | Self::Rows(notes) => Some(notes),
        }
    }
}

impl Notes {
    /// Those of a lane of a sink that writes to `url`.
    pub fn of(url: &str, id: &str, lane: usize, lanes: usize) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
        let before = &url[..url.find('{').unwrap_or(url.len())];
        let cut = before.rfind('/').map_or(0, |slash| slash + 1);
        let name: String = url[cut..].trim_end_matches('/').chars().map(plain).collect();
        let id = id.chars().map(|c| if c == '.' { '_' } else { plain(c) }).collect();
        Self { folder: format!("{}{HIDDEN}/{name}", &url[..cut]), id, lane, lanes }
    }

    fn upload(&self, id: &MultipartId) -> String {
        format!("{}/{}-{}-{:016x}.upload", self.folder, self.id, self.lane, xxh3_64(id.as_bytes()))
    }

    /// That the object is about to appear, whatever is there.
    fn placing(&self) -> String {
        format!("{}/{}-{}.placing", self.folder, self.id, self.lane)
    }
}

impl Objects {
    /// What is there; none if nothing is.
    ///
    /// # Errors
    /// When nobody can tell.
    pub fn look(&self, place: &str, key: &Key) -> Result<Option<ObjectMeta>> {
        match self.ask(place, |_| self.bucket().client.head(key).boxed()) {
            Ok(meta) => Ok(Some(meta)),
            Err(e) if e.kind() == Kind::NotFound && !e.message().ends_with("bucket") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Refuses an object that is there, if it must not be replaced.
    ///
    /// # Errors
    /// When it is.
    pub fn refuse_existing(&self, place: &str, key: &Key) -> Result<()> {
        let keeps = self.writing().if_exists == IfExists::Fail && self.look(place, key)?.is_some();
        if keeps { Err(exists(place)) } else { Ok(()) }
    }

    /// Puts a whole object in its place. Asked again, it finds that it is there.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is nothing to put there any more.
    pub fn put_in_place(&self, from: &Path, to: &Path) -> Result<()> {
        let (source, target, place) = (self.key(from)?, self.key(to)?, to.to_string_lossy());
        let client = &self.bucket().client;
        let is_there = self.writing().if_exists == IfExists::Fail && self.look(&place, &target)?.is_some();
        if !is_there {
            self.ask(&place, |_| client.copy(&source, &target).boxed())?;
        } else if !self.is_same_content(&source, &target)? {
            return Err(exists(&place));
        }
        self.ask(&from.to_string_lossy(), |_| client.delete(&source).boxed())
    }

    /// Whether a commit that was cut off has put it there.
    fn is_same_content(&self, one: &Key, other: &Key) -> Result<bool> {
        let open = |key: &Key| -> Result<Option<ObjectFile>> {
            let place = format!("{}{key}", self.bucket().base);
            Ok(self.look(&place, key)?.map(|meta| ObjectFile::new(self.clone(), place, meta)))
        };
        let gone = || Error::new(Kind::NotFound, format!("{}{one}: is gone", self.bucket().base));
        let (Some(one), other) = (open(one)?, open(other)?) else { return Err(gone()) };
        let Some(other) = other else { return Ok(false) };
        let compare = || -> io::Result<bool> {
            let (mut at, mut chunks) = (0, [vec![0; CHUNK], vec![0; CHUNK]]);
            loop {
                let counts = [one.read_at(at, &mut chunks[0])?, other.read_at(at, &mut chunks[1])?];
                if counts[0] != counts[1] || chunks[0][..counts[0]] != chunks[1][..counts[0]] {
                    return Ok(false);
                }
                if counts[0] == 0 {
                    return Ok(true);
                }
                at += counts[0] as u64;
            }
        };
        Ok(one.len()? == other.len()? && compare()?)
    }

    /// Throws away the uploads that an earlier run has left, and for a run that begins anew what was noted. Refuses an object
    /// that is there before such a run begins, if it must not be replaced.
    ///
    /// # Errors
    /// When the bucket can't be asked.
    pub fn begin(&self, path: &str, is_new: bool) -> Result<()> {
        let Some(notes) = self.writing().staging.notes() else { return Ok(()) };
        let folder = self.key(Path::new(&notes.folder))?;
        let client = &self.bucket().client;
        let found: Vec<Key> =
            self.ask(&notes.folder, |_| client.list(Some(&folder)).map_ok(|meta| meta.location).try_collect().boxed())?;
        let lane_of =
            |name: &str| name.strip_prefix(&notes.id)?.strip_prefix('-')?.split('-').next()?.parse::<usize>().ok();
        for key in found {
            let name = key.filename().unwrap_or_default();
            if name.ends_with(".upload") && lane_of(name).is_some_and(|of| of % notes.lanes == notes.lane) {
                self.abort_noted(&key)?;
            }
        }
        if is_new && matches!(self.writing().staging, Staging::Rows(_)) {
            self.forget_placing()?;
            self.refuse_existing(path, &self.key(Path::new(path))?)?;
        }
        Ok(())
    }

    fn abort_noted(&self, noted: &Key) -> Result<()> {
        let (client, place) = (&self.bucket().client, format!("{}{noted}", self.bucket().base));
        let content: Bytes = self.ask(&place, |_| async move { client.get(noted).await?.bytes().await }.boxed())?;
        let Note { key, id } = serde_json::from_slice(&content).map_err(|e| Error::from(e).context(&place))?;
        let key = Key::parse(&key).map_err(|e| Error::validation(format!("{place}: {e}")))?;
        match self.ask(&place, |_| client.abort_multipart(&key, &id)) {
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => {}
        }
        self.ask(&place, |_| client.delete(noted).boxed())
    }

    /// Notes that an upload has begun.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn note(&self, key: &Key, id: &MultipartId) -> Result<()> {
        let Some(notes) = self.writing().staging.notes() else { return Ok(()) };
        let (place, note) = (notes.upload(id), Note { key: key.to_string(), id: id.clone() });
        self.put_note(&place, serde_json::to_vec(&note)?)
    }

    /// The key of the note of an upload, if there is one.
    ///
    /// # Errors
    /// When it can't be a key.
    pub fn note_of(&self, id: &MultipartId) -> Result<Option<Key>> {
        self.writing().staging.notes().map(|notes| self.key(Path::new(&notes.upload(id)))).transpose()
    }

    /// Whether an object may be put in its place whatever is there. If it must not replace another, this looks once, and notes
    /// that it has: a run that was cut off while it put it there goes on.
    ///
    /// # Errors
    /// When another is there.
    pub fn may_replace(&self, place: &str, key: &Key) -> Result<bool> {
        match &self.writing().staging {
            _ if self.writing().if_exists == IfExists::Replace => Ok(true),
            Staging::Rows(notes) => {
                let placing = notes.placing();
                if self.look(&placing, &self.key(Path::new(&placing))?)?.is_some() {
                    return Ok(true);
                }
                self.refuse_existing(place, key)?;
                self.put_note(&placing, Vec::new())?;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// The object is in its place.
    ///
    /// # Errors
    /// When the bucket can't be asked.
    pub fn forget_placing(&self) -> Result<()> {
        match &self.writing().staging {
            Staging::Rows(notes) if self.writing().if_exists == IfExists::Fail => {
                let placing = notes.placing();
                let key = self.key(Path::new(&placing))?;
                self.ask(&placing, |_| self.bucket().client.delete(&key).boxed())
            }
            _ => Ok(()),
        }
    }

    fn put_note(&self, place: &str, content: Vec<u8>) -> Result<()> {
        let (key, content) = (self.key(Path::new(place))?, Bytes::from(content));
        let client = &self.bucket().client;
        self.ask(place, |_| {
            let (key, payload) = (key.clone(), PutPayload::from(content.clone()));
            async move { client.put(&key, payload).await.map(drop) }.boxed()
        })
    }
}
