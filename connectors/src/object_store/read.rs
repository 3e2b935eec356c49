//! An object that is read in ranges, of which the last ones are kept.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Kind, Result};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore as _};

use super::errors::{as_io, told};
use super::files::{Objects, lock};

/// How much is asked for at once, in bytes: enough for a request to be worth its while, little enough for the pages of
/// columns that lie far apart.
const BLOCK: u64 = 2 << 20;
/// How many blocks are asked for at a time where one is read behind the other.
const AHEAD: u64 = 4;
/// How many are kept of an object.
const KEPT: usize = 48;

/// An object as it was when it was listed or opened.
pub struct ObjectFile {
    objects: Objects,
    place: String,
    meta: ObjectMeta,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    /// By number, with when they were used last.
    kept: BTreeMap<u64, (Bytes, u64)>,
    uses: u64,
    last: Option<u64>,
}

impl ObjectFile {
    /// The object at `place`; nothing is asked for yet.
    pub fn new(objects: Objects, place: String, meta: ObjectMeta) -> Self {
        Self { objects, place, meta, blocks: Mutex::default() }
    }

    /// Block `number`, with those behind it when the one before it was read last.
    fn block(&self, number: u64) -> Result<Bytes> {
        let mut blocks = lock(&self.blocks);
        blocks.uses += 1;
        let now = blocks.uses;
        let follows = number == 0 || blocks.last.is_some_and(|last| number == last + 1);
        blocks.last = Some(number);
        if let Some((block, used)) = blocks.kept.get_mut(&number) {
            *used = now;
            return Ok(block.clone());
        }
        let end = self.meta.size.div_ceil(BLOCK);
        let wanted = number..end.min(number + if follows { AHEAD } else { 1 });
        let fetched = self.objects.wait(join_all(wanted.clone().map(|n| self.fetch_once(n))))?;
        for (n, fetched) in wanted.zip(fetched) {
            let block = match fetched {
                Ok(block) => block,
                // Those ahead may fail without harm: they are asked for again when they are needed.
                Err(_) if n > number => continue,
                Err(error) if error.retry() == bourn_engine::Retry::Never => return Err(error),
                Err(_) => self.objects.ask(&self.place, |_| Box::pin(self.get(n)))?,
            };
            blocks.kept.insert(n, (block, now));
        }
        while blocks.kept.len() > KEPT {
            let oldest = blocks.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(n, _)| *n);
            oldest.and_then(|n| blocks.kept.remove(&n));
        }
        let found = blocks.kept.get(&number).map(|(block, _)| block.clone());
        found.ok_or_else(|| Error::engine("a block that was fetched is kept"))
    }

    async fn fetch_once(&self, number: u64) -> Result<Bytes> {
        self.get(number).await.map_err(|e| told(&self.place, &e))
    }

    /// Exactly the bytes of a block of the object as it was.
    async fn get(&self, number: u64) -> object_store::Result<Bytes> {
        let begin = number * BLOCK;
        let range = begin..(begin + BLOCK).min(self.meta.size);
        let wanted = range.end - range.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let answer = self.objects.bucket().client.get_opts(&self.meta.location, options).await?;
        let wrong = |said: String| object_store::Error::Generic { store: "object", source: said.into() };
        if answer.meta.size != self.meta.size {
            let (had, has) = (self.meta.size, answer.meta.size);
            return Err(object_store::Error::Precondition {
                path: self.place.clone(),
                source: format!("had {had} bytes, has {has}").into(),
            });
        }
        let told = answer.range.end - answer.range.start;
        if told != wanted {
            return Err(wrong(format!("{wanted} bytes were asked for, and {told} come")));
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(wanted).unwrap_or(0));
        let mut stream = answer.into_stream();
        while let Some(part) = stream.try_next().await? {
            if (bytes.len() + part.len()) as u64 > wanted {
                return Err(wrong(format!("more than the {wanted} bytes that were asked for come")));
            }
            bytes.extend_from_slice(&part);
        }
        if (bytes.len() as u64) < wanted {
            return Err(wrong(format!("the answer ended after {} of {wanted} bytes", bytes.len())));
        }
        Ok(bytes.freeze())
    }
}

impl ReadFile for ObjectFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.meta.size)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.meta.size || buffer.is_empty() {
            return Ok(0);
        }
        let block = self.block(offset / BLOCK).map_err(|e| {
            let gone =
                || Error::new(Kind::Io, format!("{}: was there when the job was planned, and is gone", self.place));
            as_io(&if e.kind() == Kind::NotFound { gone() } else { e })
        })?;
        let rest = &block[usize::try_from(offset % BLOCK).unwrap_or(usize::MAX).min(block.len())..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bourn_engine::env::Env;
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;

    use super::*;
    use crate::object_store::IfExists;
    use crate::object_store::bucket::Bucket;
    use crate::object_store::files::{HASTY, Writing};
    use crate::object_store::staging::Staging;

    #[tokio::test]
    async fn so_many_blocks_of_an_object_are_held_and_the_one_used_longest_ago_goes() {
        let store = Arc::new(InMemory::new());
        let blocks = KEPT as u64 + 3;
        store.put(&"a".into(), vec![7; usize::try_from(blocks * BLOCK).unwrap()].into()).await.unwrap();
        let meta = store.head(&"a".into()).await.unwrap();
        let writing = Writing { part_size: 5 << 20, if_exists: IfExists::Replace, staging: Staging::None };
        let bucket = Arc::new(Bucket::over(store, "s3://b/".into()));
        let (objects, _stop) = Objects::new(bucket, writing, HASTY, &Env::system()).unwrap();
        let file = ObjectFile::new(objects, "s3://b/a".into(), meta);
        let read = move || {
            for number in 0..blocks {
                assert_eq!(file.block(number).unwrap().len() as u64, BLOCK);
                file.block(0).unwrap();
                assert!(lock(&file.blocks).kept.len() <= KEPT, "at block {number}");
            }
            let kept: Vec<_> = lock(&file.blocks).kept.keys().copied().collect();
            assert!(kept.contains(&0) && !kept.contains(&1), "{kept:?}");
        };
        Env::system().blocking(read).await.unwrap();
    }
}
