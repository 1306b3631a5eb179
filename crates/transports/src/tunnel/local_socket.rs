//! A tunnel over a Unix socket: each message with its length before it, in four bytes, the highest first.
//! A length of `0xffff_ffff` begins the close: a code in two bytes, and a reason to the end of the message
//! that follows as any other.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::AsyncWrite as _;
use tokio::net::UnixStream;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::limits::FRAME_BYTES;
use super::socket::{FrameSocket, SocketError};

/// The length that begins a close.
const CLOSE: u32 = u32::MAX;
/// Bytes asked for in one read.
const READ_CHUNK_BYTES: usize = 8 * 1024;
/// Bytes that may wait to be written before a writer waits.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// Longest reason of a close.
const REASON_BYTES: usize = 123;
/// Bytes before a message, and before a close's reason.
const HEADER_BYTES: usize = 4;

/// One end of a tunnel on this machine.
#[derive(Debug)]
pub struct LocalSocket {
    stream: UnixStream,
    inward: BytesMut,
    outward: BytesMut,
    closed: Option<(u16, String)>,
    closing: bool,
    /// What came cannot be told apart any more.
    broken: bool,
}

impl LocalSocket {
    /// A connected stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            inward: BytesMut::new(),
            outward: BytesMut::new(),
            closed: None,
            closing: false,
            broken: false,
        }
    }

    /// What the other side closed with.
    #[must_use]
    pub fn closed_with(&self) -> Option<(u16, &str)> {
        let (code, reason) = self.closed.as_ref()?;
        Some((*code, reason))
    }

    /// The user at the other end, as the kernel knows it.
    ///
    /// # Errors
    /// As [`UnixStream::peer_cred`].
    pub fn peer_uid(&self) -> std::io::Result<u32> {
        Ok(self.stream.peer_cred()?.uid())
    }

    /// The next message of what was read, if it is whole.
    fn next_message(&mut self) -> Option<Result<String, SocketError>> {
        let header = self.inward.first_chunk::<HEADER_BYTES>()?;
        let length = u32::from_be_bytes(*header);
        if length == CLOSE {
            return self.take_close();
        }
        let length = length as usize;
        if length > FRAME_BYTES {
            self.broken = true;
            return Some(Err(SocketError::TooLarge));
        }
        if self.inward.len() < HEADER_BYTES + length {
            self.inward
                .reserve(HEADER_BYTES + length - self.inward.len());
            return None;
        }
        self.inward.advance(HEADER_BYTES);
        let text = self.inward.split_to(length);
        if self.inward.is_empty() {
            // An idle line holds no buffer.
            self.inward = BytesMut::new();
        }
        let text = String::from_utf8(text.into()).map_err(|_| SocketError::NotText);
        Some(text)
    }

    fn take_close(&mut self) -> Option<Result<String, SocketError>> {
        let rest = self.inward.get(HEADER_BYTES..)?;
        let code = u16::from_be_bytes(*rest.first_chunk::<2>()?);
        let length = usize::from(u16::from_be_bytes(*rest.get(2..)?.first_chunk::<2>()?));
        let reason = rest.get(4..4 + length.min(REASON_BYTES))?;
        let reason = String::from_utf8_lossy(reason).into_owned();
        self.closed.get_or_insert((code, reason));
        self.broken = true;
        None
    }

    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        down_to: usize,
    ) -> Poll<Result<(), SocketError>> {
        while self.outward.len() > down_to {
            let stream = Pin::new(&mut self.stream);
            match ready!(poll_write_buf(stream, cx, &mut self.outward)) {
                Ok(0) => return Poll::Ready(Err(lost("nothing more can be written"))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(lost(&error.kind().to_string()))),
            }
        }
        if self.outward.is_empty() {
            self.outward = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

fn lost(why: &str) -> SocketError {
    SocketError::Lost(why.to_owned())
}

impl FrameSocket for LocalSocket {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, SocketError>>> {
        loop {
            if self.broken {
                return Poll::Ready(None);
            }
            if let Some(message) = self.next_message() {
                return Poll::Ready(Some(message));
            }
            if self.broken {
                return Poll::Ready(None);
            }
            if self.inward.capacity() == self.inward.len() {
                self.inward.reserve(READ_CHUNK_BYTES);
            }
            let stream = Pin::new(&mut self.stream);
            match ready!(poll_read_buf(stream, cx, &mut self.inward)) {
                Ok(0) if self.inward.is_empty() => return Poll::Ready(None),
                Ok(0) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(lost("the line ended inside a message"))));
                }
                Ok(_) => {}
                Err(error) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(lost(&error.kind().to_string()))));
                }
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.poll_drain(cx, WRITE_BUFFER_BYTES)
    }

    fn start_send(&mut self, text: String) -> Result<(), SocketError> {
        let length = u32::try_from(text.len()).map_err(|_| SocketError::TooLarge)?;
        self.outward.reserve(HEADER_BYTES + text.len());
        self.outward.put_u32(length);
        self.outward.put_slice(text.as_bytes());
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.poll_drain(cx, 0)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, code: u16, reason: &str) -> Poll<()> {
        if !std::mem::replace(&mut self.closing, true) {
            let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
            self.outward.put_u32(CLOSE);
            self.outward.put_u16(code);
            // Not longer than its bound, which is small.
            self.outward
                .put_u16(u16::try_from(reason.len()).unwrap_or(0));
            self.outward.put_slice(reason.as_bytes());
        }
        if ready!(self.poll_drain(cx, 0)).is_ok() {
            // It may be gone already.
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
        }
        Poll::Ready(())
    }

    fn is_local(&self) -> bool {
        true
    }

    fn close_code(&self) -> Option<u16> {
        self.closed.as_ref().map(|(code, _)| *code)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn pair() -> (LocalSocket, LocalSocket) {
        let (one, other) = UnixStream::pair().unwrap();
        (LocalSocket::new(one), LocalSocket::new(other))
    }

    #[tokio::test]
    async fn messages_come_whole_and_the_close_says_why() {
        let (mut one, mut other) = pair();
        let texts = ["", "x", &"é".repeat(FRAME_BYTES / 2)];
        let said = texts.map(str::to_owned);
        let writing = tokio::spawn(async move {
            for text in said {
                one.send(text).await.unwrap();
            }
            one.close(4409, "replaced").await;
            one
        });
        for text in texts {
            assert!(other.recv().await.unwrap().unwrap() == text);
        }
        assert_eq!(other.recv().await, None);
        assert_eq!(other.closed_with(), Some((4409, "replaced")));
        assert_eq!(other.close_code(), Some(4409));
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_message_is_told_from_one_that_is_too_large() {
        let (mut one, mut other) = pair();
        one.stream.write_all(&[0, 0, 0, 1, 0xff]).await.unwrap();
        assert_eq!(other.recv().await, Some(Err(SocketError::NotText)));
        one.send("good".to_owned()).await.unwrap();
        assert_eq!(other.recv().await, Some(Ok("good".to_owned())));
        one.stream.write_all(&[0, 0x11, 0, 0]).await.unwrap();
        assert_eq!(other.recv().await, Some(Err(SocketError::TooLarge)));
        assert_eq!(other.recv().await, None);
    }

    #[tokio::test]
    async fn a_line_cut_inside_a_message_is_lost() {
        let (mut one, mut other) = pair();
        one.stream.write_all(&[0, 0, 0, 9, b'x']).await.unwrap();
        drop(one);
        assert!(matches!(
            other.recv().await,
            Some(Err(SocketError::Lost(_)))
        ));
    }

    #[tokio::test]
    async fn both_may_write_much_at_once() {
        let (mut one, mut other) = pair();
        let much = || "x".repeat(FRAME_BYTES);
        let side = |socket: &mut LocalSocket| {
            // Reads while it writes: neither waits for the other.
            let mut socket = std::mem::replace(socket, pair().0);
            tokio::spawn(async move {
                let (mut sent, mut got) = (0, 0);
                std::future::poll_fn(move |cx| {
                    while sent < 8 && socket.poll_ready(cx).is_ready() {
                        socket.start_send(much()).unwrap();
                        sent += 1;
                    }
                    let flushed = socket.poll_flush(cx).is_ready();
                    while let Poll::Ready(Some(Ok(text))) = socket.poll_recv(cx) {
                        assert_eq!(text.len(), FRAME_BYTES);
                        got += 1;
                    }
                    if sent < 8 && flushed {
                        cx.waker().wake_by_ref();
                    }
                    if got == 8 && sent == 8 && flushed {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
            })
        };
        let (a, b) = (side(&mut one), side(&mut other));
        a.await.unwrap();
        b.await.unwrap();
    }
}
