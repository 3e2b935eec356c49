//! Where people read: stdout, or a buffer that a program looks into.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};

/// A place to write text to; a clone is the same place.
#[derive(Clone)]
pub struct Output(Arc<Mutex<dyn Write + Send>>);

/// Stdout.
impl Default for Output {
    fn default() -> Self {
        Self::to(io::stdout())
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// Writes to `place`.
    pub fn to(place: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(place)))
    }

    /// Writes into a buffer.
    pub fn captured() -> (Self, Captured) {
        let captured = Captured::default();
        (Self::to(captured.clone()), captured)
    }

    /// Writes all of `text` at once, where it may block, and gives the emptied buffer back.
    ///
    /// # Errors
    /// [`Kind::Canceled`] when the reader has gone: that is its right (`| head`), and ends the job without noise.
    pub async fn write(&self, text: Vec<u8>, env: &Env) -> Result<Vec<u8>> {
        let place = self.0.clone();
        let (mut text, written) = env
            .blocking(move || {
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                let written = place.write_all(&text).and_then(|()| place.flush());
                drop(place);
                (text, written)
            })
            .await?;
        written.map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Error::new(Kind::Canceled, "stdout was closed by its reader"),
            _ => Error::from(e).context("stdout"),
        })?;
        text.clear();
        Ok(text)
    }
}

/// What was written so far.
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// As it is.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
