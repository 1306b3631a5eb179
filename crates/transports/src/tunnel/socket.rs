//! A line that carries frames: text in, text out, each with a bound.

use std::future::Future;
use std::task::{Context, Poll};

/// How a line failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// A message over [`super::limits::FRAME_BYTES`], whole or in fragments.
    #[error("a message over the bound")]
    TooLarge,
    /// A message that is no text. The line is still good.
    #[error("a message that is no text")]
    NotText,
    /// The line broke.
    #[error("{0}")]
    Lost(String),
}

/// One line to the other side of a tunnel. Reading and writing go on side by side, or two sides that
/// both write would wait for each other: hence polls. Nothing is lost when a poll is not repeated.
///
/// Implementations bound the size of a message that comes in by [`super::limits::FRAME_BYTES`].
pub trait FrameSocket: Send + Unpin + 'static {
    /// The next message; `None` when the other side closed.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, SocketError>>>;

    /// Whether a message may be handed over.
    ///
    /// # Errors
    /// [`SocketError`] when the line is gone.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>>;

    /// Hands a message over, after [`FrameSocket::poll_ready`] said so. It may wait for a flush.
    ///
    /// # Errors
    /// [`SocketError`] when the line is gone.
    fn start_send(&mut self, text: String) -> Result<(), SocketError>;

    /// Writes what was handed over.
    ///
    /// # Errors
    /// [`SocketError`] when the line is gone.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>>;

    /// Says why and closes. Polled until it is done, always with the same words.
    fn poll_close(&mut self, cx: &mut Context<'_>, code: u16, reason: &str) -> Poll<()>;

    /// Whether both ends are on this machine, so that secrets may cross.
    fn is_local(&self) -> bool {
        false
    }

    /// The code the other side closed with, once it has.
    fn close_code(&self) -> Option<u16> {
        None
    }

    /// As [`FrameSocket::poll_recv`]. Dropping the future loses nothing.
    fn recv(&mut self) -> impl Future<Output = Option<Result<String, SocketError>>> + Send {
        std::future::poll_fn(|cx| self.poll_recv(cx))
    }

    /// Sends a message and flushes.
    ///
    /// # Errors
    /// [`SocketError`] when the line is gone.
    fn send(&mut self, text: String) -> impl Future<Output = Result<(), SocketError>> + Send {
        let mut text = Some(text);
        std::future::poll_fn(move |cx| {
            if text.is_some() {
                match self.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    other => return other,
                }
                if let Some(text) = text.take()
                    && let Err(error) = self.start_send(text)
                {
                    return Poll::Ready(Err(error));
                }
            }
            self.poll_flush(cx)
        })
    }

    /// As [`FrameSocket::poll_close`].
    fn close(&mut self, code: u16, reason: &str) -> impl Future<Output = ()> + Send {
        std::future::poll_fn(move |cx| self.poll_close(cx, code, reason))
    }
}
