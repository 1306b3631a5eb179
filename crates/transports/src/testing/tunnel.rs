//! A line of a tunnel inside this process, to be broken at will.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::tunnel::limits::FRAME_BYTES;
use crate::tunnel::{FrameSocket, SocketError};

/// Messages on their way in one direction; a writer waits for its reader then.
const ON_THE_WAY: usize = 64;

/// One end of a line.
#[derive(Debug)]
pub struct MemorySocket {
    inward: Arc<Lane>,
    outward: Arc<Lane>,
    /// What [`FrameSocket::is_local`] says.
    pub local: bool,
}

#[derive(Debug, Default)]
struct Lane(Mutex<Traffic>);

#[derive(Debug, Default)]
struct Traffic {
    messages: VecDeque<Message>,
    ended: bool,
    closed_with: Option<(u16, String)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
enum Message {
    Text(String),
    Binary,
}

impl Lane {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut traffic = self.traffic();
        traffic.ended = true;
        let wakers = [traffic.reader.take(), traffic.writer.take()];
        drop(traffic);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn put(&self, message: Message) {
        let mut traffic = self.traffic();
        traffic.messages.push_back(message);
        if let Some(reader) = traffic.reader.take() {
            reader.wake();
        }
    }
}

/// Both ends of a line.
#[must_use]
pub fn socket_pair() -> (MemorySocket, MemorySocket) {
    let (one, other) = (Arc::<Lane>::default(), Arc::<Lane>::default());
    let end = |inward: &Arc<Lane>, outward: &Arc<Lane>| MemorySocket {
        inward: Arc::clone(inward),
        outward: Arc::clone(outward),
        local: false,
    };
    (end(&one, &other), end(&other, &one))
}

impl MemorySocket {
    /// Sends a message that is no text.
    pub fn send_binary(&self) {
        self.outward.put(Message::Binary);
    }

    /// Sends a text whether the other side reads or not.
    pub fn force(&self, text: String) {
        self.outward.put(Message::Text(text));
    }

    /// What the other side closed with.
    #[must_use]
    pub fn closed_with(&self) -> Option<(u16, String)> {
        self.inward.traffic().closed_with.clone()
    }

    /// Cuts the line: what is on its way is lost, in both directions.
    pub fn cut(&self) {
        for lane in [&self.inward, &self.outward] {
            lane.traffic().messages.clear();
            lane.end();
        }
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.inward.end();
        self.outward.end();
    }
}

impl FrameSocket for MemorySocket {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, SocketError>>> {
        let mut traffic = self.inward.traffic();
        let Some(message) = traffic.messages.pop_front() else {
            if traffic.ended {
                return Poll::Ready(None);
            }
            traffic.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if let Some(writer) = traffic.writer.take() {
            writer.wake();
        }
        Poll::Ready(Some(match message {
            Message::Text(text) if text.len() > FRAME_BYTES => Err(SocketError::TooLarge),
            Message::Text(text) => Ok(text),
            Message::Binary => Err(SocketError::NotText),
        }))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        let mut traffic = self.outward.traffic();
        if traffic.ended {
            return Poll::Ready(Err(SocketError::Lost("the line was cut".to_owned())));
        }
        if traffic.messages.len() < ON_THE_WAY {
            return Poll::Ready(Ok(()));
        }
        traffic.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn start_send(&mut self, text: String) -> Result<(), SocketError> {
        self.force(text);
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, code: u16, reason: &str) -> Poll<()> {
        let closed = (code, reason.to_owned());
        self.outward.traffic().closed_with.get_or_insert(closed);
        self.outward.end();
        Poll::Ready(())
    }

    fn is_local(&self) -> bool {
        self.local
    }
}
