//! The one HTTP client of the process: pooled kept-alive connections, guarded addresses, bounded bodies.
//!
//! Never follows a redirect, never reads a proxy variable, never repeats a request that may have been
//! written. Clients are shared by outbound policy, not by server: a connection opened under a wider
//! policy must not be handed to a server with a narrower one.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use tower_service::Service as _;

use crate::http_pool::{Answer, Host, Stream, Unanswered};
use crate::outbound::{GuardedResolver, Lookup, OutboundError, Rules};
use crate::spec::OutboundPolicy;

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

/// What reaches hosts under one outbound policy.
#[derive(Debug)]
pub(crate) struct HttpClient {
    connector: Connector,
    /// Shared by all who go there; gone with the last of them.
    hosts: Mutex<HashMap<Uri, Weak<Host>>>,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    host: Arc<Host>,
    /// Path and query, as the request line says them.
    path: Uri,
}

impl HttpClient {
    /// The client for this policy. Its connections close when the last user is gone.
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
        let client = Arc::new(Self {
            connector: Connector::new(
                Arc::new(Rules::new(policy)),
                Lookup::system(),
                connect_timeout,
            ),
            hosts: Mutex::default(),
        });
        if shared.len() < MAX_SHARED_CLIENTS {
            shared.push((policy.clone(), connect_timeout, Arc::downgrade(&client)));
        }
        client
    }

    /// Where an absolute `http` or `https` URI leads; `None` for anything else.
    pub(crate) fn destination(&self, uri: &Uri) -> Option<Destination> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().ok()?;
        let host = Host::of(uri)?;
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(&host.uri).and_then(Weak::upgrade) {
            return Some(Destination { host, path });
        }
        hosts.retain(|_, host| host.strong_count() > 0);
        let host = Arc::new(host);
        hosts.insert(host.uri.clone(), Arc::downgrade(&host));
        Some(Destination { host, path })
    }

    /// Sends one request and waits for the head of its answer. The caller holds the deadline.
    pub(crate) async fn send(
        &self,
        (method, to): (Method, &Destination),
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Answer>, SendFault> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = to.path.clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::HOST, to.host.header());
        let request = match to.host.send_parked(request).await {
            Ok(answered) => return answered.map_err(|error| fault(&error)),
            Err(request) => request,
        };
        // Boxed: opening is rare, and its state is large.
        let stream = Box::pin(self.connector.connect(to.host.uri.clone()));
        let stream = stream.await.map_err(|error| SendFault {
            unsent: true,
            stale: false,
            detail: explain(&*error, true),
        })?;
        let sent = Box::pin(to.host.send_over(stream, request)).await;
        sent.map_err(|error| match error {
            Unanswered::Lost(error) => fault(&error),
            Unanswered::Unsent(_) => SendFault {
                unsent: true,
                stale: false,
                detail: "the connection closed before it was used".to_owned(),
            },
        })
    }
}

fn fault(error: &hyper::Error) -> SendFault {
    SendFault {
        unsent: was_never_written(error),
        stale: was_cut_off(error),
        detail: explain(error, false),
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
pub(crate) async fn read_body(mut body: Answer, limit_bytes: usize) -> Result<Bytes, BodyFault> {
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
    fn new(rules: Arc<Rules>, lookup: Lookup, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver {
            rules: Arc::clone(&rules),
            lookup,
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

    async fn connect(&self, uri: Uri) -> Result<Stream, BoxError> {
        tokio::time::timeout(self.timeout, self.clone().open(uri))
            .await
            .map_err(|_| ConnectFault::Timeout(self.timeout))?
    }

    async fn open(mut self, uri: Uri) -> Result<Stream, BoxError> {
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

/// Built at the first `https` connection: reading the system's roots costs time and memory.
pub(crate) fn tls_config() -> Option<Arc<ClientConfig>> {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use tokio::net::TcpListener;

    use super::*;

    async fn listening(address: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Opens only 127.0.0.1; everything else that is closed stays closed.
    fn connector(lookup: Lookup) -> Connector {
        let policy = OutboundPolicy {
            allow: vec!["127.0.0.1/32".to_owned()],
            ..OutboundPolicy::default()
        };
        Connector::new(
            Arc::new(Rules::new(&policy)),
            lookup,
            Duration::from_secs(5),
        )
    }

    #[tokio::test]
    async fn a_name_that_answers_differently_the_second_time_gains_nothing() {
        let (open, at) = listening("127.0.0.1:0").await;
        let (sentinel, closed) = listening(&format!("127.0.0.2:{}", at.port())).await;
        let asked = AtomicUsize::new(0);
        let flips = Lookup::scripted(move |_| {
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            vec![if first { at } else { closed }]
        });
        let connector = connector(flips);
        let uri: Uri = format!("http://flips.example:{}/", at.port())
            .parse()
            .unwrap();
        connector.connect(uri.clone()).await.unwrap();
        open.accept().await.unwrap();
        let refused = connector.connect(uri).await.err().unwrap();
        let words = explain(&*refused, true);
        assert!(words.contains("outbound policy"), "{words}");
        let hit = std::future::poll_fn(|cx| Poll::Ready(sentinel.poll_accept(cx).is_ready()));
        assert!(!hit.await, "nothing came to the closed address");
    }

    #[tokio::test]
    async fn one_closed_address_among_others_refuses_the_whole_answer() {
        let (sentinel, at) = listening("127.0.0.2:0").await;
        let public: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let connector = connector(Lookup::scripted(move |_| vec![public, at]));
        let uri: Uri = format!("http://mixed.example:{}/", at.port())
            .parse()
            .unwrap();
        assert!(connector.connect(uri).await.is_err());
        let hit = std::future::poll_fn(|cx| Poll::Ready(sentinel.poll_accept(cx).is_ready()));
        assert!(!hit.await);
    }
}
