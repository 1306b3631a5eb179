//! Messages on their way out of either side: handed to the line one by one, flushed once.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use super::socket::{FrameSocket, SocketError};

/// Messages taken from a machine before they are written.
pub(super) const BATCH: usize = 32;

/// What is to be written next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    texts: VecDeque<String>,
    unflushed: bool,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.texts.len() >= BATCH
    }

    /// Nothing waits to be handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Everything is written.
    pub(super) fn is_written(&self) -> bool {
        self.texts.is_empty() && !self.unflushed
    }

    pub(super) fn push(&mut self, text: String) {
        self.texts.push_back(text);
    }

    /// Writes all of it. Ready when it is written.
    pub(super) fn poll_write<S: FrameSocket>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SocketError>> {
        while !self.texts.is_empty() {
            ready!(socket.poll_ready(cx))?;
            if let Some(text) = self.texts.pop_front() {
                socket.start_send(text)?;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            ready!(socket.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
