//! The way from an agent to its bridge: a WebSocket, encrypted unless it stays on this machine.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink as _, Stream as _};
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use rustls::pki_types::ServerName as TlsName;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::{Host, Url};

use crate::tunnel::limits::{FRAME_BYTES, SUBPROTOCOL, close};
use crate::tunnel::socket::{FrameSocket, SocketError};

/// Name resolution, TCP, TLS and the upgrade together.
const DIAL_DEADLINE: Duration = Duration::from_secs(15);
/// Bytes read at once. A frame is smaller as a rule.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Bytes gathered into one write.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Bytes waiting for a slow line, over which no more frames are taken: two of the largest.
const MAX_WRITE_BYTES: usize = 2 * FRAME_BYTES + WRITE_BUFFER_BYTES;
/// Longest part of a bridge's words about a close that is kept.
const MAX_REASON_CHARS: usize = 120;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address is none an agent may dial.
    #[error("{0}")]
    Address(&'static str),
    /// Nobody answers there, or not in time.
    #[error("the bridge cannot be reached: {0}")]
    Unreachable(String),
    /// What answers there is no bridge of this protocol, or one that takes no agents.
    #[error("the bridge answered {0}")]
    Refused(String),
    /// The token cannot be had.
    #[error("the token: {0}")]
    Token(String),
}

/// Opens lines, and knows what to say first on them.
pub trait Dialer: Send + Sync + 'static {
    /// The kind of line.
    type Socket: FrameSocket;

    /// Opens one.
    ///
    /// # Errors
    /// [`DialError`]; it is tried again later.
    fn dial(&self) -> impl Future<Output = Result<Self::Socket, DialError>> + Send;

    /// The token for AUTH. Asked for with each line, so that a new one is taken up without a restart.
    ///
    /// # Errors
    /// [`DialError::Token`].
    fn token(&self) -> Result<SecretString, DialError>;
}

type TokenReader = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// Dials a bridge's WebSocket.
#[derive(Clone)]
pub struct WebSocketDialer {
    url: Url,
    token: TokenReader,
}

impl fmt::Debug for WebSocketDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketDialer({})", self.url)
    }
}

impl WebSocketDialer {
    /// A bridge at `wss://…`, or `ws://…` on this machine; `token` reads the token anew each time.
    ///
    /// # Errors
    /// [`DialError::Address`] for any other address.
    pub fn new(
        url: Url,
        token: impl Fn() -> Result<SecretString, String> + Send + Sync + 'static,
    ) -> Result<Self, DialError> {
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(DialError::Address("the address names no host")),
        };
        match (url.scheme(), local) {
            ("wss", _) | ("ws", true) => Ok(Self {
                url,
                token: Arc::new(token),
            }),
            ("ws", false) => Err(DialError::Address("beyond this machine it must be wss://")),
            _ => Err(DialError::Address("the address is no ws:// or wss://")),
        }
    }

    async fn open(&self) -> Result<WebSocketLine, DialError> {
        let host = self.url.host_str().unwrap_or_default();
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_or_known_default().unwrap_or(443);
        let tcp = TcpStream::connect((bare, port)).await;
        let tcp = tcp.map_err(|error| DialError::Unreachable(error.to_string()))?;
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn Bytes> = if self.url.scheme() == "wss" {
            Box::new(encrypted(tcp, bare).await?)
        } else {
            Box::new(tcp)
        };
        let mut request = self
            .url
            .as_str()
            .into_client_request()
            .map_err(|error| DialError::Refused(error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
        let agent = concat!("paperbot-agent/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let opened = client_async_with_config(request, stream, Some(bounds())).await;
        let (socket, _) = opened.map_err(|error| refused(&error))?;
        Ok(WebSocketLine {
            socket,
            closed_with: None,
            closing: false,
        })
    }
}

impl Dialer for WebSocketDialer {
    type Socket = WebSocketLine;

    async fn dial(&self) -> Result<WebSocketLine, DialError> {
        let late = |_| DialError::Unreachable(format!("no answer within {DIAL_DEADLINE:?}"));
        let opened = tokio::time::timeout(DIAL_DEADLINE, self.open()).await;
        opened.map_err(late)?
    }

    fn token(&self) -> Result<SecretString, DialError> {
        (self.token)().map_err(DialError::Token)
    }
}

fn bounds() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BYTES)
        .max_message_size(Some(FRAME_BYTES))
        .max_frame_size(Some(FRAME_BYTES))
}

async fn encrypted(
    tcp: TcpStream,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, DialError> {
    let unreachable = |words: String| DialError::Unreachable(words);
    let config = crate::http_client::tls_config()
        .ok_or_else(|| unreachable("this machine's certificates cannot be read".to_owned()))?;
    let name = TlsName::try_from(host.to_owned())
        .map_err(|_| unreachable("its name is none a certificate can have".to_owned()))?;
    let connected = TlsConnector::from(config).connect(name, tcp).await;
    connected.map_err(|error| unreachable(format!("TLS: {error}")))
}

/// An HTTP answer is told by its status alone: its body is untrusted text of whatever answers there.
fn refused(error: &tungstenite::Error) -> DialError {
    match error {
        tungstenite::Error::Http(answer) => DialError::Refused(format!("HTTP {}", answer.status())),
        tungstenite::Error::Io(error) => DialError::Unreachable(error.to_string()),
        other => DialError::Refused(other.to_string()),
    }
}

/// A stream of bytes, encrypted or not.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A line over a WebSocket.
pub struct WebSocketLine {
    socket: WebSocketStream<Box<dyn Bytes>>,
    closed_with: Option<u16>,
    closing: bool,
}

impl fmt::Debug for WebSocketLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebSocketLine")
    }
}

impl WebSocketLine {
    /// What the bridge said when it closed.
    fn closed(&mut self, frame: Option<CloseFrame>) -> Option<Result<String, SocketError>> {
        let frame = frame?;
        let code = u16::from(frame.code);
        self.closed_with = Some(code);
        let printable = frame.reason.chars().filter(|c| !c.is_control());
        let words: String = printable.take(MAX_REASON_CHARS).collect();
        let hint = if code == close::REVOKED || words.contains("token") {
            "; `paperbot-mcp agent pair` gets another token"
        } else {
            ""
        };
        let why = format!("the bridge closed the line ({code}): {words}{hint}");
        Some(Err(SocketError::Lost(why)))
    }
}

impl FrameSocket for WebSocketLine {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, SocketError>>> {
        loop {
            let received = std::task::ready!(Pin::new(&mut self.socket).poll_next(cx));
            return Poll::Ready(match received {
                None => None,
                Some(Ok(Message::Text(text))) => Some(Ok(text.as_str().to_owned())),
                Some(Ok(Message::Binary(_))) => Some(Err(SocketError::NotText)),
                Some(Ok(Message::Close(frame))) => self.closed(frame),
                // Answered by the library; the tunnel has its own.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => failed(&error).map(Err),
            });
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.socket)
            .poll_ready(cx)
            .map_err(|e| lost(&e))
    }

    fn start_send(&mut self, text: String) -> Result<(), SocketError> {
        let message = Message::Text(text.into());
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(|error| lost(&error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.socket)
            .poll_flush(cx)
            .map_err(|e| lost(&e))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, code: u16, reason: &str) -> Poll<()> {
        if !self.closing {
            if std::task::ready!(Pin::new(&mut self.socket).poll_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            self.closing = true;
            let frame = CloseFrame {
                code: code.into(),
                reason: reason.to_owned().into(),
            };
            let close = Message::Close(Some(frame));
            if Pin::new(&mut self.socket).start_send(close).is_err() {
                return Poll::Ready(());
            }
        }
        Pin::new(&mut self.socket).poll_close(cx).map(drop)
    }

    fn close_code(&self) -> Option<u16> {
        self.closed_with
    }
}

/// `None` when it was an orderly end.
fn failed(error: &tungstenite::Error) -> Option<SocketError> {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => None,
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            Some(SocketError::TooLarge)
        }
        other => Some(lost(other)),
    }
}

fn lost(error: &tungstenite::Error) -> SocketError {
    SocketError::Lost(error.to_string())
}
