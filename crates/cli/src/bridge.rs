//! The one way to the bridge: HTTP/1.1, one request at a time, every wait and body bounded.
//! Turns what is no answer into a `Failure`; never prints and never retries.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::failure::{Executed, Failure};
use crate::settings::Settings;
use crate::trace;

/// Name resolution and TCP; a bridge that is there answers at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The bridge's results end at 16 MiB by default; base64 and an owner's higher limit need room.
const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;

/// A whole answer with a success status.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// 2xx or 304.
    pub(crate) status: StatusCode,
    /// The body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text.
    ///
    /// # Errors
    /// A protocol failure when it is not UTF-8.
    pub(crate) fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.body)
            .map_err(|_| Failure::protocol("the bridge's answer is not UTF-8"))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// A protocol failure when it is none.
    pub(crate) fn value(&self) -> Result<Value, Failure> {
        self.read()
    }

    /// The body as a known shape.
    ///
    /// # Errors
    /// A protocol failure when it is another.
    pub(crate) fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::protocol(format!("the bridge's answer is not readable: {error}"))
        })
    }
}

/// A client of one bridge, under one trace; copies share its connections.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    settings: Settings,
    trace_id: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Bridge {
    /// Prepares the client; connects to nothing yet.
    ///
    /// # Errors
    /// When https is wanted and this machine's certificates cannot be read.
    pub(crate) fn new(settings: Settings) -> Result<Self, Failure> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new();
        // Reading the certificates costs milliseconds that a bridge on loopback does not need.
        let connector = if settings.url.scheme() == "https" {
            tls.with_native_roots()
                .map_err(|error| Failure::local_io("certificates", &error))?
                .https_only()
                .enable_http1()
                .wrap_connector(tcp)
        } else {
            let none = rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            tls.with_tls_config(none)
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp)
        };
        Ok(Self {
            trace_id: trace::id(),
            client: Client::builder(TokioExecutor::new()).build(connector),
            settings,
        })
    }

    /// Whom this client talks to, and as whom.
    #[must_use]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The trace every request of this process belongs to.
    #[must_use]
    pub(crate) fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The same client under a trace of its own: for a program that asks on behalf of others.
    #[must_use]
    pub(crate) fn under_new_trace(&self) -> Self {
        Self {
            trace_id: trace::id(),
            ..self.clone()
        }
    }

    /// The same client without a credential: for what the bridge tells everybody.
    #[must_use]
    pub(crate) fn anonymous(&self) -> Self {
        let mut other = self.clone();
        other.settings.token = None;
        other
    }

    /// Asks and reads the whole answer.
    ///
    /// # Errors
    /// The bridge's problem, or why there was no answer.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, Failure> {
        let wait = ask.wait;
        let whole = async { Self::whole(self.open(ask).await?).await };
        match tokio::time::timeout(wait, whole).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Failure::bridge_timeout(wait.as_millis())),
        }
        .map_err(|failure| failure.traced(Some(self.trace_id.clone())))
    }

    /// Reads an open answer to its end.
    ///
    /// # Errors
    /// A protocol failure when it breaks off or is too long.
    pub(crate) async fn whole(response: Response<Incoming>) -> Result<Answer, Failure> {
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status,
            body: read_body(body).await?,
        })
    }

    /// Asks and hands back the open answer, for streams; a refusal is read to its end.
    ///
    /// # Errors
    /// As [`Bridge::ask`]. The caller bounds the wait.
    pub(crate) async fn open(&self, ask: Ask) -> Result<Response<Incoming>, Failure> {
        let response = self.send(ask).await?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let mut failure = refusal(&parts, &read_body(body).await?);
        if status == StatusCode::UNAUTHORIZED && failure.hint.is_none() {
            failure.hint = Some(self.settings.credential_advice());
        }
        Err(failure)
    }

    /// Asks and hands back the open answer, whatever it is.
    ///
    /// # Errors
    /// When there is none. The caller bounds the wait.
    pub(crate) async fn send(&self, ask: Ask) -> Result<Response<Incoming>, Failure> {
        let safe = ask.method == Method::GET;
        let request = self.request(ask)?;
        self.client.request(request).await.map_err(|error| {
            let failure = Failure::unreachable(self.settings.url.as_str(), &root_cause(&error));
            let sent = !error.is_connect() && !safe;
            failure.executed(if sent {
                Executed::Unknown
            } else {
                Executed::No
            })
        })
    }

    fn request(&self, ask: Ask) -> Result<Request<Full<Bytes>>, Failure> {
        let mut url = self.settings.address(&ask.path);
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        let mut request = Request::builder()
            .method(ask.method)
            .uri(url.as_str())
            .header(
                USER_AGENT,
                concat!("paperbot-mcp/", env!("CARGO_PKG_VERSION")),
            )
            .header("traceparent", trace::parent(&self.trace_id));
        if !ask.headers.iter().any(|(name, _)| name == "accept") {
            request = request.header(ACCEPT, "application/json");
        }
        if ask.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.settings.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
                .map_err(|_| Failure::usage("the token holds characters no header may hold"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(workspace) = &self.settings.workspace {
            request = request.header("x-workspace", workspace);
        }
        for (name, value) in ask.headers {
            request = request.header(name.as_ref(), value);
        }
        request
            .body(Full::new(ask.body.unwrap_or_default()))
            .map_err(|error| Failure::usage(format!("this cannot be sent: {error}")))
    }
}

/// A path segment, with everything that could end or split it escaped.
#[must_use]
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A header's text.
#[must_use]
pub(crate) fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// Reads a body to its end.
///
/// # Errors
/// A protocol failure when it breaks off or is too long.
pub(crate) async fn read_body(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) => Err(Failure::protocol(format!(
            "the bridge's answer broke off or is longer than {MAX_BODY_BYTES} bytes: {error}"
        ))),
    }
}

/// What an answer that is no success says.
#[must_use]
pub(crate) fn refusal(head: &Parts, body: &[u8]) -> Failure {
    let mut problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let retry_after = header_text(&head.headers, RETRY_AFTER.as_str());
    if let (Some(members), Some(after)) = (problem.as_object_mut(), retry_after) {
        members.insert("retry_after_s".to_owned(), json!(after.parse::<u64>().ok()));
    }
    Failure::from_problem(&problem)
        .unwrap_or_else(|| {
            Failure::protocol(format!("HTTP {} without a problem body", head.status))
        })
        .traced(header_text(&head.headers, "x-trace-id"))
}

/// The innermost cause: "Connection refused" says more than "client error (Connect)".
fn root_cause(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_segment_cannot_leave_its_place() {
        assert_eq!(segment("../a b?c#d/é"), "..%2Fa%20b%3Fc%23d%2F%C3%A9");
        assert_eq!(segment("call_0199-a"), "call_0199-a");
    }
}
