//! The files of a table: what is written goes behind what is there, and a file goes when none of it is needed any more.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::env::{Env, ReadFile, WriteFile};
use crate::error::{Error, Kind, Result};
use crate::state::room::Room;

/// A file; removed when this is dropped.
pub(super) struct File {
    env: Env,
    path: PathBuf,
    read: Arc<dyn ReadFile>,
    /// Its place in the order in which files were made.
    pub(super) number: u64,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.number)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // One that can't be removed now goes when the next run begins.
        let _ = self.env.files().remove(&self.path);
    }
}

/// Bytes of a file.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl Region {
    /// Some of its bytes.
    pub(super) fn read(&self, offset: usize, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut there = 0;
        while there < count {
            let at = self.offset + (offset + there) as u64;
            let read = self.file.read.read_at(at, &mut bytes[there..]);
            match read.map_err(|e| Error::from(e).context(self.file.path.display()))? {
                0 => return Err(self.damaged()),
                more => there += more,
            }
        }
        Ok(bytes)
    }

    /// Compares bytes of it with what their checksum was.
    pub(super) fn check(&self, bytes: &[u8], sum: u32) -> Result<()> {
        if checksum(bytes) == sum { Ok(()) } else { Err(self.damaged()) }
    }

    fn damaged(&self) -> Error {
        let message = format!(
            "{}: state that was put there is not what was written; the job goes on behind its last checkpoint when it is started again",
            self.file.path.display()
        );
        Error::new(Kind::Io, message)
    }
}

/// A checksum of bytes in memory's reach: half of XXH3.
#[expect(clippy::cast_possible_truncation, reason = "half of it is enough for a block")]
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

/// What a table has on the disk.
pub(super) struct Disk {
    pub(super) room: Room,
    /// What stands in a file before this one is written again with the rest of its part, so that old files go.
    pub(super) oldest: u64,
    writer: Option<(Box<dyn WriteFile>, Arc<File>, u64)>,
    files: u64,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({:?})", self.room)
    }
}

impl Disk {
    pub(super) fn new(room: Room) -> Self {
        Self { room, oldest: 0, writer: None, files: 0 }
    }

    /// Says from which file on runs may stay where they are, when so many bytes of all files are needed: there are about twice
    /// as many then, and two more files.
    pub(super) fn renew(&mut self, needed: u64) -> u64 {
        self.oldest = self.files.saturating_sub(2 + 2 * needed / self.room.file.max(1));
        self.oldest
    }

    /// Writes bytes. They are not made safe against a crash: nothing that is here is needed after one.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<Region> {
        let (writer, file, length) = if let Some(open) = &mut self.writer {
            open
        } else {
            let Room { env, folder, name, .. } = &self.room;
            let path = folder.join(format!("{name}-{}.{}", self.files, Room::ENDING));
            let writer = env.files().create(&path)?;
            let read = env.files().open(&path)?;
            self.files += 1;
            let file = Arc::new(File { env: env.clone(), path, read, number: self.files });
            self.writer.insert((writer, file, 0))
        };
        let written = writer.write_all(bytes).and_then(|()| writer.flush());
        written.map_err(|e| {
            let place =
                format!("{}, where state goes that is larger than its share of `limits.memory`", file.path.display());
            Error::from(e).context(place)
        })?;
        let region = Region { file: file.clone(), offset: *length, bytes: bytes.len() };
        *length += bytes.len() as u64;
        if *length >= self.room.file {
            self.writer = None;
        }
        Ok(region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::simulation::Simulation;
    use crate::testing::simulation::files::Fault;

    #[test]
    fn what_comes_in_pieces_is_read_to_its_end() {
        let (simulation, bytes) = (Simulation::new(1), (0..200).collect::<Vec<u8>>());
        let (folder, name) = ("s".into(), "t".into());
        let mut disk = Disk::new(Room { memory: 0, env: simulation.env(), folder, name, file: 1_000 });
        let (_before, region) = (disk.put(&[7; 50]).unwrap(), disk.put(&bytes).unwrap());
        for short in 0..=3 {
            let calls = simulation.files().calls();
            (1..=short).for_each(|n| simulation.files().fail(calls + n, Fault::Short));
            assert_eq!(region.read(20, 100).unwrap(), bytes[20..120]);
        }
        simulation.files().change("s/t-0.state", |bytes| bytes.truncate(100));
        assert!(region.read(20, 100).unwrap_err().message().contains("s/t-0.state"));
    }

    #[test]
    fn what_stands_in_old_files_is_written_anew_when_there_are_twice_as_many_as_are_needed() {
        let (folder, name) = ("s".into(), "t".into());
        let mut disk = Disk::new(Room { memory: 0, env: Simulation::new(1).env(), folder, name, file: 1_000 });
        for number in 0..20u64 {
            let region = disk.put(&[0; 500]).unwrap();
            assert_eq!((region.offset, region.file.number), (number % 2 * 500, number / 2 + 1));
        }
        // Ten files; 2,500 bytes stand in less than three.
        assert_eq!((disk.renew(2_500), disk.oldest), (3, 3));
        assert_eq!((disk.renew(0), disk.renew(10_000)), (8, 0));
    }
}
