//! Lines written by a thread of their own: what arrives during one write is the next.

use std::io::{self, Write};
use std::thread::Builder;

use bourn_engine::{Error, Result};
use futures::channel::{mpsc, oneshot};
use futures::executor::block_on;
use futures::{SinkExt as _, StreamExt as _};

use crate::failure::stdout_error;

/// How many texts may wait for the thread.
const WAITING_MAX: usize = 256;
/// No more than this is written at once, in bytes.
const AT_ONCE: usize = 256 << 10;

/// Hands texts to the thread. It waits when the thread is behind, which is how a slow reader slows the job.
pub struct Writer {
    texts: mpsc::Sender<Order>,
    /// What ended the thread before its time.
    failed: oneshot::Receiver<io::Error>,
}

enum Order {
    Write(Vec<u8>),
    /// Answered when everything before it was written.
    Flush(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread; it ends with the writer.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(mut to: impl Write + Send + 'static) -> Result<Self> {
        let (texts, mut orders) = mpsc::channel(WAITING_MAX);
        let (fail, failed) = oneshot::channel();
        let work = move || {
            if let Err(e) = block_on(write_all(&mut orders, &mut to)) {
                // A writer that is gone does not want to know.
                let _ = fail.send(e);
            }
        };
        Builder::new().name("bourn-stdout".into()).spawn(work)?;
        Ok(Self { texts, failed })
    }

    /// Writes a text, soon.
    ///
    /// # Errors
    /// When this or an earlier text could not be written.
    pub async fn write(&mut self, text: Vec<u8>) -> Result<()> {
        match self.texts.send(Order::Write(text)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.reason().await),
        }
    }

    /// Ends when everything is written.
    ///
    /// # Errors
    /// When something could not be written.
    pub async fn flush(&mut self) -> Result<()> {
        let (done, written) = oneshot::channel();
        // The answer fails when the order could not be given, too.
        let _ = self.texts.send(Order::Flush(done)).await;
        match written.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.reason().await),
        }
    }

    async fn reason(&mut self) -> Error {
        match (&mut self.failed).await {
            Ok(e) => stdout_error(e),
            Err(_) => Error::engine("the thread that writes has ended without a word"),
        }
    }
}

async fn write_all(orders: &mut mpsc::Receiver<Order>, to: &mut impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    while let Some(first) = orders.next().await {
        let (mut next, mut flushes) = (Some(first), Vec::new());
        while let Some(order) = next {
            match order {
                Order::Write(more) => text.extend_from_slice(&more),
                Order::Flush(done) => flushes.push(done),
            }
            next = if text.len() < AT_ONCE { orders.try_recv().ok() } else { None };
        }
        to.write_all(&text)?;
        to.flush()?;
        text.clear();
        for done in flushes {
            // Who asked may have been stopped.
            let _ = done.send(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bourn_engine::Kind;

    use super::*;

    /// Takes so many bytes, then its reader is gone.
    #[derive(Clone)]
    struct Taking(Arc<Mutex<Vec<u8>>>, usize);

    impl Write for Taking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut taken = self.0.lock().unwrap();
            if taken.len() + bytes.len() > self.1 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            taken.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_written_in_order_before_a_flush_ends() {
        let to = Taking(Arc::default(), usize::MAX);
        let mut writer = Writer::start(to.clone()).unwrap();
        let expected: Vec<u8> = (0..2_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        block_on(async {
            for n in 0..2_000 {
                writer.write(format!("{n}\n").into_bytes()).await.unwrap();
            }
            writer.flush().await.unwrap();
        });
        assert_eq!(*to.0.lock().unwrap(), expected);
    }

    #[test]
    fn a_reader_that_goes_away_cancels_what_is_flushed() {
        let mut writer = Writer::start(Taking(Arc::default(), 3)).unwrap();
        let flushed = block_on(async {
            writer.write(b"1\n".to_vec()).await.unwrap();
            writer.write(b"2\n".to_vec()).await.unwrap();
            writer.flush().await
        });
        assert_eq!(flushed.unwrap_err().kind(), Kind::Canceled);
    }
}
