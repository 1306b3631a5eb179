//! The listener: accepts, bounds, serves HTTP/1.1, drains.
//!
//! hyper is driven directly because `axum::serve` sets no timer: a half-sent header would stay open for
//! ever. Knows no route.

pub mod peer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::peer::{Peer, PeerIo};
use crate::app::Shared;
use crate::front::Front;
use crate::front::address::Remote;

/// A request's head must be there within this time of the connection or of the answer before; an idle
/// kept connection ends by the same clock.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Most headers of a request; browsers send about 20.
const MAX_HEADERS: usize = 100;
/// Largest request head and read buffer: long query strings fit, header floods do not.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Connections at once; over it new ones wait in the kernel's backlog. Half of a raised fd limit.
const MAX_CONNECTIONS: usize = 8192;
/// Pause after `accept` failed, which is mostly a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After the drain's deadline connections have this long to be dropped.
const ABORT_GRACE: Duration = Duration::from_millis(500);

/// A listening server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    tracker: TaskTracker,
    closing: CancellationToken,
    abort: CancellationToken,
}

impl Server {
    /// Serves a listener until [`Server::drain`].
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(listener: TcpListener, front: Front, app: Shared) -> std::io::Result<Self> {
        let server = Self {
            address: listener.local_addr()?,
            tracker: TaskTracker::new(),
            closing: app.closing.clone(),
            abort: CancellationToken::new(),
        };
        let accept = Accept {
            listener,
            front,
            app,
            tracker: server.tracker.clone(),
            abort: server.abort.clone(),
        };
        server.tracker.spawn(accept.run());
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener at once, lets requests in flight finish within `grace`, drops the rest.
    pub async fn drain(self, grace: Duration) {
        self.closing.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_err()
        {
            self.abort.cancel();
            let _ = tokio::time::timeout(ABORT_GRACE, self.tracker.wait()).await;
        }
    }
}

struct Accept {
    listener: TcpListener,
    front: Front,
    app: Shared,
    tracker: TaskTracker,
    abort: CancellationToken,
}

impl Accept {
    async fn run(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let closing = self.app.closing.clone();
        loop {
            let accepted = tokio::select! {
                () = closing.cancelled() => return,
                accepted = self.accept(&places) => accepted,
            };
            let Some((stream, place)) = accepted else {
                continue;
            };
            let connection = Connection {
                front: self.front.clone(),
                app: self.app.clone(),
                abort: self.abort.clone(),
            };
            self.tracker.spawn(async move {
                connection.serve(stream).await;
                drop(place);
            });
        }
    }

    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let place = places.clone().acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, _)) => Some((stream, place)),
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// What a connection has to hear of besides its requests.
enum Interrupt {
    /// The listener closes: no request after the present one.
    Closing,
    /// The client is gone, or the drain's time is over.
    Gone,
}

struct Connection {
    front: Front,
    app: Shared,
    abort: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Answers are written whole: waiting for more to send only adds latency.
        let _ = stream.set_nodelay(true);
        self.app.connections.fetch_add(1, Ordering::Relaxed);
        let peer = Peer::default();
        // A connection that is gone already has no address, and no answer reaches it.
        let remote = stream.peer_addr().ok().map(Remote);
        let stream = Arc::new(stream);
        let service = service_fn(|mut request: Request<Incoming>| {
            peer.request_began(request.version());
            request.extensions_mut().insert(peer.clone());
            if let Some(remote) = remote {
                request.extensions_mut().insert(remote);
            }
            let front = self.front.clone();
            let peer = peer.clone();
            // Boxed: hyper keeps room for it while nothing is asked, and most connections wait most of the time.
            Box::pin(async move {
                let response = front.answer(request.map(Body::new)).await;
                peer.request_answered();
                Ok::<_, std::convert::Infallible>(response)
            })
        });
        let io = PeerIo::new(stream.clone(), peer.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            // A client may close its sending half and still wait for the answer (rulings.md).
            .half_close(true)
            .serve_connection(io, service)
            // For the tunnel of agents, which goes on by itself (`tunnels`).
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        // Looked at only when something of it happened, not at each step of each request.
        let mut interrupts = FuturesUnordered::new();
        interrupts.push(self.interrupted(&peer, &stream, true).boxed());
        loop {
            tokio::select! {
                biased;
                // The outcome is the client's business: a broken connection is no error of ours.
                _ = connection.as_mut() => break,
                Some(interrupt) = interrupts.next() => match interrupt {
                    Interrupt::Gone => break,
                    Interrupt::Closing => {
                        connection.as_mut().graceful_shutdown();
                        interrupts.push(self.interrupted(&peer, &stream, false).boxed());
                    }
                },
            }
        }
        drop(interrupts);
        self.app.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The next thing that ends this connection, or with `listening` begins its end.
    async fn interrupted(&self, peer: &Peer, stream: &TcpStream, listening: bool) -> Interrupt {
        tokio::select! {
            () = self.app.closing.cancelled(), if listening => Interrupt::Closing,
            () = peer.gone(stream) => Interrupt::Gone,
            () = self.abort.cancelled() => Interrupt::Gone,
        }
    }
}
