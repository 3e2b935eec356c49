//! A file that knows how much was written to it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bourn_engine::env::WriteFile;

/// A file and its length so far, which others may watch.
pub struct Counted {
    file: Box<dyn WriteFile>,
    count: Arc<AtomicU64>,
}

impl Counted {
    /// A file that was just created.
    pub fn new(file: Box<dyn WriteFile>) -> Self {
        Self { file, count: Arc::default() }
    }

    /// A file that forgets everything, to try a writer on.
    pub fn nowhere() -> Self {
        Self::new(Box::new(Nowhere))
    }

    /// How many bytes were written.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// The same number, for whoever has given the file away.
    pub fn watch(&self) -> Arc<AtomicU64> {
        self.count.clone()
    }

    /// See [`WriteFile::sync`].
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.count.fetch_add(count as u64, Relaxed);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Nowhere {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
