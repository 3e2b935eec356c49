//! The file system as the engine sees it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The file system. Paths are relative to the working folder. Calls block for as long as the disk takes.
pub trait Files: Send + Sync {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// What the file system says, with the path before it.
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>>;
    /// Creates a file for writing, empties one that is there, and makes its folder.
    ///
    /// # Errors
    /// What the file system says, with the path before it.
    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>>;
    /// Opens a file that is there for writing behind its first `length` bytes; what it has beyond them is cut off.
    ///
    /// # Errors
    /// What the file system says, with the path before it, and when the file is shorter than that.
    fn reopen(&self, path: &Path, length: u64) -> Result<Box<dyn WriteFile>> {
        let _ = length;
        Err(Error::unsupported(format!("{}: can't be written behind what it has", path.display())))
    }
    /// Returns when the names in a folder are on the disk: that of a file that was made, renamed or removed there (fsync).
    ///
    /// # Errors
    /// What the file system says, with the path before it. The call must not be tried again.
    fn sync_folder(&self, path: &Path) -> Result<()> {
        Err(Error::unsupported(format!("{}: its names can't be made to stay", path.display())))
    }
    /// Renames a file, in place of one that is there.
    ///
    /// # Errors
    /// What the file system says, with the path before it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Whether something is there that is no plain file: a folder, a device, a pipe. It must not be replaced by one.
    fn is_special(&self, path: &Path) -> bool;
    /// Locks a file, which is created if it is not there; none when another process or another holder in this one has
    /// it. It is free again when what is returned is dropped, which also removes it, or when the process ends.
    ///
    /// # Errors
    /// What the file system says, with the path before it.
    fn lock(&self, path: &Path) -> Result<Option<Box<dyn Send + Sync>>>;
    /// Whether two paths name one plain file that is there, by whatever way.
    fn is_same(&self, one: &Path, other: &Path) -> bool;
    /// Which file is there now; `None` where there is none, or something that is no plain file.
    ///
    /// # Errors
    /// What the file system says, with the path before it.
    fn identify(&self, path: &Path) -> Result<Option<FileId>>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the file system says, with the path before it.
    fn remove(&self, path: &Path) -> Result<()>;
    /// The files that match a pattern with `*`, `?`, `[…]` and `**`, sorted by name. A path without any of these is
    /// itself, whether it exists or not.
    ///
    /// # Errors
    /// When the pattern is none, or a folder can't be read.
    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>>;
}

/// Which file it is, whatever its name: one that is renamed keeps it, one that takes its name has another. It may be
/// given to a new file once this one is removed and nobody has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// The file system that holds it.
    pub device: u64,
    /// Its number there.
    pub number: u64,
}

/// An open file that is read at any place, by many at once.
pub trait ReadFile: Send + Sync {
    /// Its length now, in bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset` on; returns how many bytes, 0 at the end.
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Which file it is.
    ///
    /// # Errors
    /// What the file system says, or that what is read is no file.
    fn id(&self) -> io::Result<FileId> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// All that it holds.
    ///
    /// # Errors
    /// What the file system says.
    fn content(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(self.len()?).map_err(io::Error::other)?];
        let mut read = 0;
        loop {
            match self.read_at(read as u64, &mut content[read..])? {
                // The end: of the file, which may be shorter by now, or of the buffer.
                0 => break,
                count => read += count,
            }
        }
        content.truncate(read);
        Ok(content)
    }
    /// Whether it holds nothing.
    ///
    /// # Errors
    /// What the file system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A file that is written from its beginning.
pub trait WriteFile: Write + Send {
    /// Returns when everything written is on the disk (fsync).
    ///
    /// # Errors
    /// What the file system says. The file must not be trusted any more, and the call not be tried again.
    fn sync(&mut self) -> io::Result<()>;
}

/// What [`Files::reopen`] says of a file that has lost its end.
pub(crate) fn shorter(path: &Path, there: u64, wanted: u64) -> String {
    format!("{}: has {there} bytes, and had {wanted} when they were last counted", path.display())
}
