//! A bundle as bytes: files in a tar archive under Zstandard, the same for the same files.
#![expect(clippy::disallowed_methods, reason = "the file that the command line names is written at once")]

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use bourn_engine::time::Timestamp;
use bourn_engine::{Error, Kind};
use tar::{Archive, Builder, EntryType, Header};

use super::File;
use crate::failure::Failure;
use crate::given;

/// A bundle that is longer, or becomes longer when it is unpacked, is none, in bytes.
const BYTES_MAX: u64 = 1 << 30;
/// The most files of one.
const FILES_MAX: usize = 10_000;

/// Writes the files, in this order; each is as old as the run.
///
/// # Errors
/// When the file can't be written.
pub(super) fn write(path: &Path, files: &[File], at: Timestamp) -> Result<(), Failure> {
    let pack = || -> io::Result<()> {
        let mut packed = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
        packed.include_checksum(true)?;
        let mut archive = Builder::new(packed);
        for file in files {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_size(file.bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(u64::try_from(at.0 / 1_000_000).unwrap_or(0));
            archive.append_data(&mut header, &file.name, file.bytes.as_slice())?;
        }
        std::fs::write(path, archive.into_inner()?.finish()?)
    };
    pack().map_err(|e| Failure::Failed(Error::from(e).context(path.display())))
}

/// The files of a bundle by name.
///
/// # Errors
/// When it can't be read, or is no archive.
pub(super) fn read(path: &str) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let bytes = given::bytes(path, BYTES_MAX, false)?;
    let unpack = || -> io::Result<BTreeMap<String, Vec<u8>>> {
        let unpacked = zstd::Decoder::new(bytes.as_slice())?;
        let (mut files, mut left) = (BTreeMap::new(), BYTES_MAX);
        for entry in Archive::new(unpacked.take(2 * BYTES_MAX)).entries()? {
            let entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.take(left + 1).read_to_end(&mut bytes)?;
            left = left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
            files.insert(name, bytes);
            if files.len() > FILES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(files)
    };
    unpack().map_err(|e| {
        let message = format!("{path} is no bundle of `bourn runs diagnose RUN -o FILE.tar.zst`: {e}");
        Failure::Invalid(Error::new(Kind::Validation, message))
    })
}
