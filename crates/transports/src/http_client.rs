//! The one HTTP client of the process: pooled kept-alive connections, guarded addresses, bounded bodies.
//!
//! Never follows a redirect, never reads a proxy variable, never repeats a request that may have been
//! written. Clients are shared by outbound policy, not by server: a connection opened under a wider
//! policy must not be handed to a server with a narrower one.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::outbound::{GuardedResolver, OutboundError, Rules};
use crate::spec::OutboundPolicy;

/// Idle connections kept for each host: as many as calls usually run at once against one server.
const MAX_IDLE_PER_HOST: usize = 128;
/// Idle connections are closed after this; common servers close theirs after 5 to 75 seconds anyway.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// After this much silence the kernel asks whether a peer behind a held stream is still there.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);
/// Clients that are remembered for sharing; one more policy than this gets a client of its own.
const MAX_SHARED_CLIENTS: usize = 64;

/// A request could not be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SendFault {
    /// Surely not one byte of the request was written.
    pub(crate) unsent: bool,
    /// Kept-alive connection that the server closed just as it was used again.
    pub(crate) stale: bool,
    /// In words, without anything the peer sent.
    pub(crate) detail: String,
}

/// A body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// Longer than the bound.
    TooLarge,
    /// Broke off before its announced end.
    Truncated,
}

type Shared = (OutboundPolicy, Duration, Weak<HttpClient>);
static SHARED: LazyLock<Mutex<Vec<Shared>>> = LazyLock::new(Mutex::default);

/// A pool of connections under one outbound policy.
#[derive(Debug)]
pub(crate) struct HttpClient {
    pool: Client<Connector, Full<Bytes>>,
}

impl HttpClient {
    /// The client for this policy. Its pool closes when the last connection using it is gone.
    pub(crate) fn shared(policy: &OutboundPolicy, connect_timeout: Duration) -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|(_, _, client)| client.strong_count() > 0);
        let found = shared.iter().find_map(|(known, timeout, client)| {
            let same = known == policy && *timeout == connect_timeout;
            same.then(|| client.upgrade()).flatten()
        });
        if let Some(client) = found {
            return client;
        }
        let client = Arc::new(Self::new(policy, connect_timeout));
        if shared.len() < MAX_SHARED_CLIENTS {
            shared.push((policy.clone(), connect_timeout, Arc::downgrade(&client)));
        }
        client
    }

    fn new(policy: &OutboundPolicy, connect_timeout: Duration) -> Self {
        let pool = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(Connector::new(
                Arc::new(Rules::new(policy)),
                connect_timeout,
            ));
        Self { pool }
    }

    /// Sends one request and waits for the head of its answer. The caller holds the deadline.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendFault> {
        self.pool.request(request).await.map_err(|error| {
            let connect = error.is_connect();
            SendFault {
                unsent: connect || was_never_written(&error),
                stale: !connect && was_cut_off(&error),
                detail: explain(&error, connect),
            }
        })
    }
}

/// hyper gives a request back as "canceled" when its connection went before it took it.
fn was_never_written(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|cause| {
        cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(|e| e.is_canceled() || e.is_user())
    })
}

fn was_cut_off(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|cause| {
        let closed = cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(|e| e.is_incomplete_message() || e.is_closed());
        let reset = cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
        closed || reset
    })
}

fn explain(error: &(dyn StdError + 'static), connect: bool) -> String {
    for cause in chain(error) {
        if let Some(known) = cause.downcast_ref::<ConnectFault>() {
            return known.to_string();
        }
        if let Some(refused) = cause.downcast_ref::<OutboundError>() {
            return refused.to_string();
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return format!("TLS failed: {tls}");
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && connect
            && io.get_ref().is_none()
        {
            return format!("could not connect: {}", io.kind());
        }
    }
    let what = if connect {
        "could not connect"
    } else {
        "the connection broke before an answer came"
    };
    what.to_owned()
}

/// An error and its causes; looks into `io::Error`, which hides the error it wraps.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |current: &&'a (dyn StdError + 'static)| {
        let current: &'a (dyn StdError + 'static) = *current;
        match current.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => current.source(),
        }
    })
}

/// Reads a whole body of at most `limit_bytes`; one that came in one piece is not copied.
pub(crate) async fn read_body(mut body: Incoming, limit_bytes: usize) -> Result<Bytes, BodyFault> {
    let announced = body.size_hint();
    let over = |bytes: u64| usize::try_from(bytes).map_or(true, |bytes| bytes > limit_bytes);
    if over(announced.lower()) {
        return Err(BodyFault::TooLarge);
    }
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyFault::Truncated)?.into_data() else {
            continue;
        };
        if first.len() + joined.len() + data.len() > limit_bytes {
            return Err(BodyFault::TooLarge);
        }
        if first.is_empty() && joined.is_empty() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            // The announced length is the peer's word, but not above the bound (checked above).
            let capacity = usize::try_from(announced.lower()).unwrap_or(0);
            joined.reserve(capacity.max(first.len() + data.len()));
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
enum ConnectFault {
    #[error("could not connect within {0:?}")]
    Timeout(Duration),
    #[error("no TLS could be set up")]
    Tls,
}

/// Opens guarded TCP, then TLS for `https`, all under one deadline.
#[derive(Debug, Clone)]
struct Connector {
    tcp: HttpConnector<GuardedResolver>,
    rules: Arc<Rules>,
    timeout: Duration,
}

impl Connector {
    fn new(rules: Arc<Rules>, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver {
            rules: Arc::clone(&rules),
        });
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.enforce_http(false);
        Self {
            tcp,
            rules,
            timeout,
        }
    }

    async fn open(mut self, uri: Uri) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError> {
        // Literal addresses never reach the resolver, so they are judged here.
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            self.rules.judge(host, address)?;
        }
        if uri.scheme() == Some(&http::uri::Scheme::HTTPS) {
            let config = tls_config().ok_or(ConnectFault::Tls)?;
            return HttpsConnector::from((self.tcp, config)).call(uri).await;
        }
        Ok(MaybeHttpsStream::Http(self.tcp.call(uri).await?))
    }
}

type BoxError = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        let timeout = self.timeout;
        Box::pin(async move {
            tokio::time::timeout(timeout, connector.open(uri))
                .await
                .map_err(|_| ConnectFault::Timeout(timeout))?
        })
    }
}

/// Built at the first `https` connection: reading the system's roots costs time and memory.
fn tls_config() -> Option<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let build = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
        };
        let roots = match versions().ok()?.with_native_roots() {
            Ok(roots) => roots,
            // A container without a certificate store.
            Err(_) => versions().ok()?.with_webpki_roots(),
        };
        Some(Arc::new(roots.with_no_client_auth()))
    };
    CONFIG.get_or_init(build).clone()
}
