//! Bytes that go out together.
//!
//! Owns: keeping a few bytes back until more follow or all are to go. Does not own: the connection.
//!
//! HTTP/2 puts every answer into frames: headers, data, trailers. To a stream that takes several parts at a time, `h2` gives data
//! of more than 256 bytes, and then the trailers on their own: two calls of the system and two packets for one small answer. To one that
//! takes one part at a time, it gives what is below 1,024 bytes as one part, but the nine bytes before longer data on their own. Those are
//! kept here and go out with the data.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that wait for more at most; a part that is longer does not wait.
const KEPT_MAX: usize = 32;

/// A stream that takes one part at a time, and gives short ones on with those behind them.
pub(super) struct Gathering<S> {
    stream: S,
    kept: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, kept: Vec::new() }
    }

    /// Writes the bytes that wait.
    fn poll_kept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.kept))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, kept } = &mut *self;
        if kept.len() + bytes.len() <= KEPT_MAX {
            kept.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !kept.is_empty() {
            let parts = [IoSlice::new(kept), IoSlice::new(bytes)];
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(context, &parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_bytes = written.saturating_sub(kept.len());
            kept.drain(..written.min(kept.len()));
            if of_bytes > 0 {
                return Poll::Ready(Ok(of_bytes));
            }
        }
        Pin::new(stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Takes so many bytes of a call, and only every other call.
    #[derive(Default)]
    struct Slow {
        most: usize,
        calls: Vec<Vec<u8>>,
        refused: bool,
    }

    impl Slow {
        fn take(&mut self, context: &mut Context<'_>, parts: &[&[u8]]) -> Poll<io::Result<usize>> {
            self.refused = !self.refused;
            if self.refused && self.most < usize::MAX {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut taken = parts.concat();
            taken.truncate(self.most);
            let length = taken.len();
            self.calls.push(taken);
            Poll::Ready(Ok(length))
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(context, &[bytes])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
            self.take(context, &parts)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn every_byte_goes_out_once_and_in_order() {
        let bytes: Vec<u8> = (0..2_000_u32).map(|n| (n % 251) as u8).collect();
        for most in [1, 7, 9, 40, 1_000, usize::MAX] {
            let mut stream = Gathering::new(Slow { most, ..Slow::default() });
            let mut rest = bytes.as_slice();
            for (number, length) in [9, 500, 9, 9, 30, 3, 32, 33, 1, 0, 700].into_iter().enumerate() {
                let (part, left) = rest.split_at(length);
                stream.write_all(part).await.unwrap();
                if number % 4 == 3 {
                    stream.flush().await.unwrap();
                }
                rest = left;
            }
            stream.write_all(rest).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(stream.kept.is_empty());
            assert_eq!(stream.stream.calls.concat(), bytes, "{most} at a time");
        }
    }

    #[tokio::test]
    async fn short_parts_go_with_what_follows() {
        let mut stream = Gathering::new(Slow { most: usize::MAX, ..Slow::default() });
        stream.write_all(b"head").await.unwrap();
        assert!(stream.stream.calls.is_empty());
        stream.write_all(&[7; 100]).await.unwrap();
        stream.write_all(b"tail").await.unwrap();
        stream.flush().await.unwrap();
        let lengths: Vec<usize> = stream.stream.calls.iter().map(Vec::len).collect();
        assert_eq!(lengths, [104, 4]);
    }
}
