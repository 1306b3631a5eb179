//! Whether the other end of a connection is still there.
//!
//! A FIN means two things: the client closed its sending half and waits for the answer, or it is gone.
//! TCP tells them apart only when something is sent: a client that is gone answers with a reset. So after
//! a FIN, while a handler still works, an interim `100 Continue` (which every HTTP/1.1 client must skip)
//! is sent from time to time; a reset drops the connection and with it the handler's future, which cancels
//! the call.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Version;
use hyper::rt::{Read, ReadBufCursor, Write};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Sleep;

/// After the FIN quick answers go out undisturbed.
const FIRST_PROBE: Duration = Duration::from_millis(400);
/// How long a reset may take to come back.
const RESET_WAIT: Duration = Duration::from_millis(100);
/// Pause after bytes were seen, so that a busy connection is looked at twice a second.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// Pause between probes.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// Probes before a half-closed client is believed for good: an hour of calls.
const MAX_PROBES: usize = 3600;
/// A client that takes no byte of its answer for this long holds the connection for nothing.
pub const WRITE_STALL: Duration = Duration::from_mins(1);
/// Largest single read: request heads and most bodies fit.
const READ_BYTES: usize = 16 * 1024;
/// What is sent to find out.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    /// What is read passes through here: cleared once a thread, not at each read.
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// A handler works and nothing of its answer was written.
const WORKING: u8 = 1;
/// The answer is being written.
const ANSWERING: u8 = 2;

/// What is known of the other end. Cheap to clone; handlers find it among the request's extensions.
#[derive(Debug, Clone, Default)]
pub struct Peer(Arc<State>);

#[derive(Debug, Default)]
struct State {
    half_closed: AtomicBool,
    closes_half: Notify,
    phase: AtomicU8,
}

impl Peer {
    /// The peer of a request.
    #[must_use]
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// The client closed its sending half, or is gone.
    #[must_use]
    pub fn half_closed(&self) -> bool {
        self.0.half_closed.load(Ordering::Relaxed)
    }

    /// Returns when the sending half closes; never when it already has.
    pub async fn closes_half(&self) {
        if self.half_closed() {
            return std::future::pending().await;
        }
        self.0.closes_half.notified().await;
    }

    /// HTTP/1.0 knows no interim answers: such a client is believed to be there.
    pub(super) fn request_began(&self, version: Version) {
        let phase = if version == Version::HTTP_11 {
            WORKING
        } else {
            ANSWERING
        };
        self.0.phase.store(phase, Ordering::Relaxed);
    }

    pub(super) fn request_answered(&self) {
        self.0.phase.store(ANSWERING, Ordering::Relaxed);
    }

    fn read_end(&self) {
        self.0.half_closed.store(true, Ordering::Relaxed);
        self.0.closes_half.notify_waiters();
        self.0.closes_half.notify_one();
    }

    /// Looks for the FIN by itself: hyper does not read while a handler works. False when the connection broke.
    async fn until_half_closed(&self, stream: &TcpStream) -> bool {
        while !self.half_closed() {
            if stream.readable().await.is_err() {
                return false;
            }
            match receive(stream, &mut [0], MsgFlags::MSG_PEEK) {
                Ok(0) => self.read_end(),
                // Bytes hyper has still to read, or has read: nothing to learn for now.
                Ok(_) => tokio::time::sleep(LOOK_PAUSE).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Returns when the client is surely gone.
    pub(super) async fn gone(&self, stream: &TcpStream) {
        if !self.until_half_closed(stream).await {
            return;
        }
        tokio::time::sleep(FIRST_PROBE).await;
        for _ in 0..MAX_PROBES {
            if failed(stream) {
                return;
            }
            // Between answers, or in the middle of one, hyper's own writes find out.
            if self.0.phase.load(Ordering::Relaxed) == WORKING {
                match stream.try_write(PROBE) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
                tokio::time::sleep(RESET_WAIT).await;
                if failed(stream) {
                    return;
                }
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
        std::future::pending::<()>().await;
    }
}

fn failed(stream: &TcpStream) -> bool {
    !matches!(stream.take_error(), Ok(None))
}

/// A TCP stream for hyper that tells a [`Peer`] what it sees.
#[derive(Debug)]
pub(super) struct PeerIo {
    stream: Arc<TcpStream>,
    peer: Peer,
    stall: Option<Pin<Box<Sleep>>>,
}

impl PeerIo {
    pub(super) fn new(stream: Arc<TcpStream>, peer: Peer) -> Self {
        Self {
            stream,
            peer,
            stall: None,
        }
    }
}

impl Read for PeerIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(READ_BYTES);
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let read = CHUNK.with_borrow_mut(|chunk| {
                let read = receive(&self.stream, &mut chunk[..room], MsgFlags::empty());
                if let Ok(count) = read {
                    buffer.put_slice(&chunk[..count]);
                }
                read
            });
            match read {
                Ok(0) if room > 0 => {
                    self.peer.read_end();
                    return Poll::Ready(Ok(()));
                }
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Receives what is there. Less than there is room for means that it was all: the stream then counts as empty until
/// the kernel says otherwise, which saves the read that would only find that out (tokio's own `poll_read` does the
/// same, but wants the stream for itself).
fn receive(stream: &TcpStream, room: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
    let mut all = None;
    let received = stream.try_io(Interest::READABLE, || {
        let count = loop {
            match recv(stream.as_raw_fd(), room, flags) {
                Err(Errno::EINTR) => {}
                received => break received?,
            }
        };
        if count == 0 || count == room.len() {
            return Ok(count);
        }
        all = Some(count);
        Err(io::ErrorKind::WouldBlock.into())
    });
    all.map_or(received, Ok)
}

impl PeerIo {
    /// Writes when there is room; a client that takes nothing for [`WRITE_STALL`] is let go.
    fn write_with(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(ready) = self.stream.poll_write_ready(cx) else {
                let stall = self
                    .stall
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_STALL)));
                ready!(stall.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            };
            ready?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    self.stall = None;
                    return Poll::Ready(outcome);
                }
            }
        }
    }
}

impl Write for PeerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_with(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_with(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket that is already gone needs no farewell.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
