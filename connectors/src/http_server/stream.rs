//! The bytes of a connection, and word of when those of an answer are with the system.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::answer::Leaving;

/// A stream that tells whoever waits for an answer once it is flushed: a process that ends behind that has sent it, however
/// late the thread that wrote it runs again.
pub struct Stream<S = TcpStream> {
    stream: S,
    leaving: Leaving,
}

impl<S> Stream<S> {
    pub fn new(stream: S, leaving: Leaving) -> Self {
        Self { stream, leaving }
    }
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        self.leaving.left();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.leaving.left();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::channel::oneshot;
    use http_body_util::BodyExt;
    use tokio::io::AsyncWriteExt;

    use super::super::answer::taken;
    use super::*;

    #[tokio::test]
    async fn an_answer_has_left_when_it_is_flushed() {
        let leaving = Leaving::default();
        let (waits, mut left) = oneshot::channel();
        let mut stream = Stream::new(tokio::io::BufWriter::new(tokio::io::sink()), leaving.clone());
        let answer = taken(3, Some((waits, leaving)));
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        stream.write_all(&text).await.unwrap();
        assert!((&mut left).now_or_never().is_none(), "it is taken over, and nowhere yet");
        stream.flush().await.unwrap();
        assert_eq!(left.now_or_never(), Some(Ok(())));
    }

    #[tokio::test]
    async fn the_answers_of_a_connection_that_breaks_are_not_waited_for() {
        let leaving = Leaving::default();
        let (waits, left) = oneshot::channel();
        let stream = Stream::new(tokio::io::sink(), leaving.clone());
        drop(taken(3, Some((waits, leaving))));
        drop(stream);
        assert_eq!(left.now_or_never(), Some(Ok(())));
    }
}
