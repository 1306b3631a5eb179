//! Kept-alive connections to one host, driven by whoever uses them.
//!
//! A connection has no task of its own: the call that holds it polls it together with its answer, so that a call
//! costs one task and no wake-up between tasks. Nobody polls a parked connection: whether its server closed it is
//! looked at when it is taken again, and now and then by the one task that throws old ones away.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Connections parked for each host: as many as calls usually run at once against one server.
const MAX_PARKED: usize = 128;
/// A parked connection is closed after this; common servers close theirs after 5 to 75 seconds anyway.
const PARKED_FOR: Duration = Duration::from_secs(30);
/// How often parked connections are looked through for old and closed ones.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a connection runs on.
pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// One HTTP/1.1 connection.
struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    wire: http1::Connection<Stream, Full<Bytes>>,
    /// The connection ended; it may not be polled again.
    over: bool,
}

impl Line {
    async fn open(stream: Stream) -> hyper::Result<Box<Self>> {
        let (sender, wire) = http1::handshake(stream).await?;
        Ok(Box::new(Self {
            sender,
            wire,
            over: false,
        }))
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.over {
            // How it ended is told to the request that was on it.
            self.over = Pin::new(&mut self.wire).poll(cx).is_ready();
        }
    }

    /// Whether another request may be sent on it. Looks, without asking to be woken.
    fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.over && self.sender.is_ready()
    }
}

/// One host, as its policy's client reaches it.
pub(crate) struct Host {
    /// Scheme and authority.
    pub(crate) uri: Uri,
    header: HeaderValue,
    parked: Mutex<Parked>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Parked {
    /// The one used last is at the back, and is used next.
    lines: VecDeque<(Box<Line>, Instant)>,
    /// Somebody throws old ones away.
    watched: bool,
}

/// How a request failed before its answer's head.
pub(crate) enum Unanswered {
    /// Not one byte of it was written; it may go over another connection.
    Unsent(Box<Request<Full<Bytes>>>),
    /// It may have been written.
    Lost(hyper::Error),
}

impl Host {
    /// The host of an absolute URI; `None` when there is none in it.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(uri.scheme()?.clone());
        parts.authority = Some(uri.authority()?.clone());
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let usual = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        let name = uri.host()?;
        let header = match uri.port_u16() {
            Some(port) if port != usual => HeaderValue::try_from(format!("{name}:{port}")),
            _ => HeaderValue::from_str(name),
        };
        Some(Self {
            uri: Uri::from_parts(parts).ok()?,
            header: header.ok()?,
            parked: Mutex::default(),
        })
    }

    /// The value of the `Host` header.
    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Sends over a parked connection, if there is one that still lives; else gives the request back.
    pub(crate) async fn send_parked(
        self: &Arc<Self>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Result<Response<Answer>, hyper::Error>, Request<Full<Bytes>>> {
        while let Some(line) = self.take() {
            match self.send(line, request).await {
                Ok(response) => return Ok(Ok(response)),
                Err(Unanswered::Lost(error)) => return Ok(Err(error)),
                Err(Unanswered::Unsent(back)) => request = *back,
            }
        }
        Err(request)
    }

    /// Sends over a connection just opened.
    pub(crate) async fn send_over(
        self: &Arc<Self>,
        stream: Stream,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Answer>, Unanswered> {
        let line = Line::open(stream).await.map_err(Unanswered::Lost)?;
        self.send(line, request).await
    }

    async fn send(
        self: &Arc<Self>,
        mut line: Box<Line>,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Answer>, Unanswered> {
        let sending = line.sender.try_send_request(request);
        let sent = {
            let mut sending = pin!(sending);
            poll_fn(|cx| {
                line.drive(cx);
                // Only the connection can make it ready, and that was just polled.
                sending
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
            })
            .await
        };
        match sent {
            Ok(response) => {
                // The connection now waits to be asked for the body, and would wake this task when it is. It is
                // looked at right then anyway.
                line.drive(&mut Context::from_waker(Waker::noop()));
                Ok(response.map(|body| Answer::new(body, line, self)))
            }
            Err(mut error) => match error.take_message() {
                Some(request) => Err(Unanswered::Unsent(Box::new(request))),
                None => Err(Unanswered::Lost(error.into_error())),
            },
        }
    }

    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Box<Line>> {
        loop {
            // One at a time: a dead one's socket is closed outside of the lock.
            let (mut line, since) = self.parked().lines.pop_back()?;
            if since.elapsed() < PARKED_FOR && line.is_free() {
                return Some(line);
            }
        }
    }

    fn park(self: &Arc<Self>, mut line: Box<Line>) {
        if !line.is_free() {
            return;
        }
        let mut parked = self.parked();
        if parked.lines.len() >= MAX_PARKED {
            return;
        }
        parked.lines.push_back((line, Instant::now()));
        if !parked.watched
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            parked.watched = true;
            runtime.spawn(throw_away(Arc::downgrade(self)));
        }
    }
}

/// Closes what is old or was closed by the server, until nothing is parked any more.
async fn throw_away(host: Weak<Host>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(host) = host.upgrade() else { return };
        let mut parked = host.parked();
        parked
            .lines
            .retain_mut(|(line, since)| since.elapsed() < PARKED_FOR && line.is_free());
        if parked.lines.is_empty() {
            parked.watched = false;
            return;
        }
    }
}

/// The body of an answer. Holds its connection, drives it while it is read, and parks it at the end;
/// dropped before that, it closes the connection.
pub(crate) struct Answer {
    body: Incoming,
    line: Option<Box<Line>>,
    host: Arc<Host>,
}

impl Answer {
    fn new(body: Incoming, line: Box<Line>, host: &Arc<Host>) -> Self {
        let mut answer = Self {
            body,
            line: Some(line),
            host: Arc::clone(host),
        };
        if answer.body.is_end_stream() {
            answer.finish();
        }
        answer
    }

    fn finish(&mut self) {
        if let Some(line) = self.line.take() {
            self.host.park(line);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Asking first tells the connection that more is wanted; it is then asked for it.
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending()
            && let Some(line) = &mut self.line
        {
            line.drive(cx);
            frame = Pin::new(&mut self.body).poll_frame(cx);
        }
        match &frame {
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.finish(),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
