//! The keys of a part on the disk, in the order of their hashes: one read finds a key.

use xxhash_rust::xxh3::xxh3_64;

use super::disk::{Disk, Region, checksum};
use crate::error::Result;

/// What is read at once, about.
const BLOCK: usize = 4_096;

/// How records are laid out: key, then value. A key whose length is not fixed has it before it, in four bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) width: Option<usize>,
    pub(super) value: usize,
}

impl Shape {
    /// The key and the value at the beginning of these bytes, and how long they are.
    fn record(self, bytes: &[u8]) -> Option<(&[u8], &[u8], usize)> {
        let (start, width) = match self.width {
            Some(width) => (0, width),
            None => (4, u32::from_le_bytes(*bytes.first_chunk()?) as usize),
        };
        let end = start + width + self.value;
        Some((bytes.get(start..start + width)?, bytes.get(start + width..end)?, end))
    }

    /// All keys with their values.
    pub(super) fn records(self, bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let (key, value, length) = self.record(rest)?;
            rest = &rest[length..];
            Some((key, value))
        })
    }

    /// Adds a key; its value is to follow.
    pub(super) fn put_key(self, key: &[u8], into: &mut Vec<u8>) -> Result<()> {
        if self.width.is_none() {
            into.extend_from_slice(&u32::try_from(key.len())?.to_le_bytes());
        }
        into.extend_from_slice(key);
        Ok(())
    }

    /// The value of a key in a block.
    fn find<'a>(self, block: &'a [u8], hash: u64, key: &[u8]) -> Option<&'a [u8]> {
        let Some(width) = self.width else {
            return self.records(block).find(|(k, _)| *k == key).map(|(_, value)| value);
        };
        let length = width + self.value;
        let key_at = |at: usize| &block[at * length..at * length + width];
        let (mut low, mut high) = (0, block.len() / length);
        while low < high {
            let middle = usize::midpoint(low, high);
            if xxh3_64(key_at(middle)) < hash { low = middle + 1 } else { high = middle }
        }
        let same = (low..block.len() / length).find(|at| key_at(*at) == key || xxh3_64(key_at(*at)) != hash)?;
        (key_at(same) == key).then(|| &block[same * length + width..(same + 1) * length])
    }
}

#[derive(Clone, Copy, Debug)]
struct Block {
    /// The first hash in it.
    first: u64,
    start: u32,
    checksum: u32,
}

/// Keys on the disk.
#[derive(Debug)]
pub(super) struct Run {
    region: Region,
    blocks: Vec<Block>,
    shape: Shape,
    pub(super) count: usize,
}

impl Run {
    /// The value of a key.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(number) = self.blocks.partition_point(|b| b.first <= hash).checked_sub(1) else { return Ok(None) };
        let block = self.blocks[number];
        let start = block.start as usize;
        let end = self.blocks.get(number + 1).map_or(self.region.bytes, |next| next.start as usize);
        let bytes = self.region.read(start, end - start)?;
        self.region.check(&bytes, block.checksum)?;
        Ok(self.shape.find(&bytes, hash, key).map(<[u8]>::to_vec))
    }

    /// All records.
    pub(super) fn load(&self) -> Result<Vec<u8>> {
        let bytes = self.region.read(0, self.region.bytes)?;
        for (number, block) in self.blocks.iter().enumerate() {
            let end = self.blocks.get(number + 1).map_or(bytes.len(), |next| next.start as usize);
            self.region.check(&bytes[block.start as usize..end], block.checksum)?;
        }
        Ok(bytes)
    }

    /// The place of its file in the order of files.
    pub(super) fn file(&self) -> u64 {
        self.region.file.number
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> usize {
        self.region.bytes
    }

    /// Bytes in memory.
    pub(super) fn bytes_held(&self) -> usize {
        self.blocks.len() * size_of::<Block>() + size_of::<Self>()
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }
}

/// Makes a run of records that come in the order of their hashes.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    blocks: Vec<Block>,
    last: u64,
    count: usize,
}

impl Writer {
    pub(super) fn push(&mut self, shape: Shape, (hash, key): (u64, &[u8]), value: &[u8]) -> Result<()> {
        let start = self.blocks.last().map_or(0, |b| b.start as usize);
        // Keys of one hash stand in one block.
        let is_full = self.bytes.len() - start + key.len() + value.len() > BLOCK && hash != self.last;
        if is_full || self.blocks.is_empty() {
            self.close();
            self.blocks.push(Block { first: hash, start: u32::try_from(self.bytes.len())?, checksum: 0 });
        }
        shape.put_key(key, &mut self.bytes)?;
        self.bytes.extend_from_slice(value);
        (self.last, self.count) = (hash, self.count + 1);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(block) = self.blocks.last_mut() {
            block.checksum = checksum(&self.bytes[block.start as usize..]);
        }
    }

    /// Writes it; none of no records.
    pub(super) fn finish(mut self, shape: Shape, disk: &mut Disk) -> Result<Option<Run>> {
        if self.count == 0 {
            return Ok(None);
        }
        self.close();
        self.blocks.shrink_to_fit();
        let region = disk.put(&self.bytes)?;
        Ok(Some(Run { region, blocks: self.blocks, shape, count: self.count }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::room::Room;
    use crate::testing::simulation::Simulation;

    fn disk(simulation: &Simulation) -> Disk {
        let (folder, name) = ("s".into(), "t".into());
        Disk::new(Room { memory: 0, env: simulation.env(), folder, name, file: 1_000 })
    }

    fn run(shape: Shape, keys: &[Vec<u8>], disk: &mut Disk) -> Run {
        let mut sorted: Vec<(u64, &Vec<u8>)> = keys.iter().map(|key| (xxh3_64(key), key)).collect();
        sorted.sort();
        let mut writer = Writer::default();
        for (hash, key) in sorted {
            writer.push(shape, (hash, key), &key[..shape.value]).unwrap();
        }
        writer.finish(shape, disk).unwrap().unwrap()
    }

    #[test]
    fn every_key_is_found_by_one_block_and_no_other_key_is() {
        let simulation = Simulation::new(1);
        let mut disk = disk(&simulation);
        let fixed: Vec<Vec<u8>> = (0..5_120u64).map(|n| n.to_be_bytes().to_vec()).collect();
        let varied: Vec<Vec<u8>> =
            (0..5_000usize).map(|n| format!("key{n:0width$}", width = n % 40).into_bytes()).collect();
        for (shape, keys) in [(Shape { width: Some(8), value: 8 }, fixed), (Shape { width: None, value: 2 }, varied)] {
            let run = run(shape, &keys, &mut disk);
            // Records of 16 bytes fill each block to its last byte; others end one when the next would not fit.
            let starts: Vec<u32> = run.blocks.iter().map(|b| b.start).collect();
            assert!(shape.width.is_none() || starts == (0..20).map(|n| n * 4_096).collect::<Vec<_>>(), "{starts:?}");
            assert!(shape.width.is_some() || starts.len() == 36, "{starts:?}");
            let held = run.blocks.len() * 16;
            assert!((held..held + 200).contains(&run.bytes_held()), "{} bytes", run.bytes_held());
            for key in &keys {
                assert_eq!(run.get(xxh3_64(key), key).unwrap().unwrap(), key[..shape.value]);
                let other: Vec<u8> = key.iter().map(|b| b ^ 0x80).collect();
                assert_eq!(run.get(xxh3_64(&other), &other).unwrap(), None);
            }
            let records = run.load().unwrap();
            assert_eq!((shape.records(&records).count(), run.bytes()), (keys.len(), records.len()));
        }
        // Keys of one hash stand in one block, however many.
        let (mut writer, shape) = (Writer::default(), Shape { width: Some(8), value: 8 });
        (0..600u64).for_each(|n| writer.push(shape, (7, &n.to_be_bytes()), &[0; 8]).unwrap());
        writer.push(shape, (8, &[1; 8]), &[0; 8]).unwrap();
        let run = writer.finish(shape, &mut disk).unwrap().unwrap();
        assert_eq!(run.blocks.iter().map(|b| (b.first, b.start)).collect::<Vec<_>>(), [(7, 0), (8, 9_600)]);
    }

    #[test]
    fn a_changed_byte_is_told_and_a_file_goes_with_the_last_that_needs_it() {
        let simulation = Simulation::new(1);
        let mut disk = disk(&simulation);
        let keys: Vec<Vec<u8>> = (0..5_000u64).map(|n| n.to_be_bytes().to_vec()).collect();
        let shape = Shape { width: Some(8), value: 8 };
        let (first, second) = (run(shape, &keys, &mut disk), run(shape, &keys, &mut disk));
        assert_eq!(simulation.files().paths().len(), 2);
        simulation.files().change("s/t-0.state", |bytes| bytes[100] ^= 1);
        assert!(first.load().unwrap_err().message().contains("s/t-0.state"));
        assert!(keys.iter().any(|key| first.get(xxh3_64(key), key).is_err()));
        assert!(second.load().is_ok());
        drop((first, second));
        assert!(simulation.files().paths().is_empty());
    }
}
