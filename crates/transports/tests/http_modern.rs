//! What a modern server sees of us over streamable HTTP: headers that match the body, whatever is asked.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use transports::{
    ConnectOptions, Connection, Endpoint, Era, EraChoice, HttpSpec, Inbound, OutboundPolicy,
    Params, Request, RequestError, ServerName, ServerSpec, Timeouts, WireLimits, connect,
};

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// A server that notes everything and answers with as little as it can.
#[derive(Clone, Default)]
struct Server {
    seen: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    arrived: Arc<Notify>,
    tools: Arc<Mutex<Value>>,
    /// Requests still to be refused for their revision.
    too_new: Arc<Mutex<usize>>,
    streams: Arc<Mutex<Vec<mpsc::Sender<String>>>>,
}

impl Server {
    async fn start() -> (Self, String) {
        let server = Self::default();
        *server.tools.lock().unwrap() = json!([]);
        let app = axum::Router::new()
            .fallback(serve)
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (server, url)
    }

    /// The messages of this method, with their headers.
    fn seen(&self, method: &str) -> Vec<(HeaderMap, Value)> {
        let seen = self.seen.lock().unwrap();
        let of_method = seen.iter().filter(|(_, body)| body["method"] == method);
        of_method.cloned().collect()
    }

    async fn wait_seen(&self, method: &str, times: usize) {
        while self.seen(method).len() < times {
            self.arrived.notified().await;
        }
    }

    /// Opens the stream of a `subscriptions/listen`.
    fn listen(&self, body: &Value) -> Response {
        let (sender, receiver) = mpsc::channel::<String>(8);
        let meta = json!({"io.modelcontextprotocol/subscriptionId": body["id"]});
        let params = json!({"notifications": body["params"]["notifications"], "_meta": meta});
        let method = "notifications/subscriptions/acknowledged";
        let acknowledged = json!({"jsonrpc": "2.0", "method": method, "params": params});
        sender
            .try_send(format!("data: {acknowledged}\n\n"))
            .unwrap();
        self.streams.lock().unwrap().push(sender);
        let events = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let event = receiver.recv().await?;
            Some((Ok::<_, Infallible>(event), receiver))
        });
        let kind = [(header::CONTENT_TYPE, "text/event-stream")];
        (kind, Body::from_stream(events)).into_response()
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body.to_string()).into_response()
}

async fn serve(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    };
    server.seen.lock().unwrap().push((headers, body.clone()));
    server.arrived.notify_one();
    let result = |result: Value| {
        answer(
            StatusCode::OK,
            &json!({"jsonrpc": "2.0", "id": body["id"], "result": result}),
        )
    };
    let refuse = |status: StatusCode, error: Value| {
        answer(
            status,
            &json!({"jsonrpc": "2.0", "id": body["id"], "error": error}),
        )
    };
    {
        let mut left = server.too_new.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            let data = json!({"supported": ["2026-07-28"], "requested": "2026-07-28"});
            let error = json!({"code": -32022, "message": "no such revision", "data": data});
            return refuse(StatusCode::BAD_REQUEST, error);
        }
    }
    match body["method"].as_str().unwrap_or_default() {
        "server/discover" => {
            let capabilities =
                json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}});
            result(
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities}),
            )
        }
        "subscriptions/listen" => server.listen(&body),
        "tools/list" => {
            result(json!({"resultType": "complete", "tools": *server.tools.lock().unwrap()}))
        }
        "no/such" => {
            let error = json!({"code": -32601, "message": "no such method", "data": {"x": 1}});
            refuse(StatusCode::NOT_FOUND, error)
        }
        _ if body["id"].is_null() => StatusCode::ACCEPTED.into_response(),
        _ => result(json!({"resultType": "complete"})),
    }
}

async fn open(url: &str) -> (Arc<Connection>, mpsc::Receiver<Inbound>) {
    let http = HttpSpec {
        url: url.parse().unwrap(),
        headers: Vec::new(),
        outbound: OutboundPolicy {
            allow_private: true,
            ..OutboundPolicy::default()
        },
        bearer: None,
    };
    let spec = ServerSpec {
        name: ServerName::new("modern").unwrap(),
        endpoint: Endpoint::StreamableHttp(http),
        era: EraChoice::Auto,
        timeouts: Timeouts::default(),
        limits: WireLimits::default(),
    };
    let (inbound, heard) = mpsc::channel(16);
    let options = ConnectOptions {
        known_era: None,
        inbound,
    };
    let connection = connect(&spec, options).await.unwrap();
    assert_eq!(connection.info().era, Era::Modern);
    (connection, heard)
}

fn request(method: &'static str, params: Params) -> Request {
    Request {
        params,
        ..Request::new(method, Duration::from_secs(30))
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn every_message_has_the_headers_that_its_body_asks_for() {
    let (server, url) = Server::start().await;
    let (connection, _heard) = open(&url).await;
    let named = |name: &'static str, value: &str| Params::default().with_text(name, value);
    let asked = [
        ("tools/list", Params::default(), None),
        (
            "tools/call",
            named("name", "my-hyphenated-tool"),
            Some("my-hyphenated-tool"),
        ),
        (
            "prompts/get",
            named("name", "Привет"),
            Some("=?base64?0J/RgNC40LLQtdGC?="),
        ),
        (
            "resources/read",
            named("uri", "file:///a%20b?c=1"),
            Some("file:///a%20b?c=1"),
        ),
        ("tasks/get", named("taskId", "t-1"), Some("t-1")),
        ("tasks/update", named("taskId", "t-1"), Some("t-1")),
        ("tasks/cancel", named("taskId", "t-1"), Some("t-1")),
        ("completion/complete", named("name", "x"), None),
        ("resources/list", named("uri", "x"), None),
        ("resources/templates/list", Params::default(), None),
        ("prompts/list", Params::default(), None),
    ];
    for (method, params, name) in asked {
        connection.request(request(method, params)).await.unwrap();
        let (headers, _) = &server.seen(method)[0];
        assert_eq!(header(headers, "mcp-name"), name, "{method}");
    }
    let roots = "notifications/roots/list_changed";
    connection.notify(roots, &Params::default()).await.unwrap();
    server.wait_seen("subscriptions/listen", 1).await;
    for (headers, body) in &*server.seen.lock().unwrap() {
        assert_eq!(header(headers, "mcp-method"), body["method"].as_str());
        assert_eq!(header(headers, "mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(
            header(headers, "accept"),
            Some("application/json, text/event-stream")
        );
        assert_eq!(header(headers, "content-type"), Some("application/json"));
        assert!(header(headers, "mcp-session-id").is_none());
        if body["id"].is_u64() {
            let meta = &body["params"]["_meta"];
            assert_eq!(meta[VERSION], "2026-07-28");
            assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
            assert!(meta["io.modelcontextprotocol/clientInfo"]["name"].is_string());
        }
    }
}

/// One of each kind that is written in its own way.
fn awkward_arguments() -> Value {
    json!({
        "region": "us-west1", "priority": 42, "verbose": false, "debug": true, "empty": "",
        "method": "test-method", "float": 3.25, "foreign": "Hello, 世界", "padded": " padded ",
        "trailing": "us-west1 ", "inner": "us west 1", "lines": "line1\r\nline2", "tab": "\tindented",
        "sentinel": "=?base64?eA==?=", "query": "SELECT 1", "null": null,
    })
}

/// How the specification wants one of them in its header.
fn mirrored_text(name: &str, value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if ["foreign", "padded", "trailing", "lines", "tab", "sentinel"].contains(&name) {
        return Some(format!("=?base64?{}?=", STANDARD.encode(text)));
    }
    Some(text)
}

#[tokio::test]
async fn designated_arguments_are_mirrored_encoded_or_left_out() {
    let (server, url) = Server::start().await;
    let (connection, _heard) = open(&url).await;
    let arguments = awkward_arguments();
    let property = |name: &str| {
        let kind = match &arguments[name] {
            Value::Number(_) => "integer",
            Value::Bool(_) => "boolean",
            _ => "string",
        };
        let header = format!("H-{name}");
        (
            name.to_owned(),
            json!({"type": kind, "x-mcp-header": header}),
        )
    };
    let mirrored: Vec<&String> = arguments
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| !["query", "float"].contains(&name.as_str()))
        .collect();
    let properties: serde_json::Map<_, _> = mirrored.iter().map(|name| property(name)).collect();
    let schema = json!({"type": "object", "properties": properties});
    *server.tools.lock().unwrap() = json!([{"name": "t", "inputSchema": schema}]);
    connection
        .request(request("tools/list", Params::default()))
        .await
        .unwrap();
    let params = Params::default()
        .with_text("name", "t")
        .with("arguments", raw(&arguments));
    connection
        .request(request("tools/call", params))
        .await
        .unwrap();
    let (headers, body) = &server.seen("tools/call")[0];
    assert_eq!(body["params"]["arguments"], arguments);
    for name in mirrored {
        let sent = header(headers, &format!("mcp-param-h-{name}"));
        let expected = mirrored_text(name, &arguments[name]);
        assert_eq!(sent, expected.as_deref(), "{name}");
    }
    let params = headers
        .keys()
        .filter(|name| name.as_str().starts_with("mcp-param-"));
    assert_eq!(
        params.count(),
        properties.len() - 1,
        "null alone is not sent"
    );
}

#[tokio::test]
async fn a_tool_whose_annotations_are_forbidden_is_not_listed() {
    let (server, url) = Server::start().await;
    let (connection, _heard) = open(&url).await;
    let tool = |name: &str, header: &str| {
        let property = json!({"type": "string", "x-mcp-header": header});
        json!({"name": name, "inputSchema": {"properties": {"a": property}}})
    };
    *server.tools.lock().unwrap() =
        json!([tool("bad", "a b"), tool("good", "A"), tool("worse", "")]);
    let list = connection
        .request(request("tools/list", Params::default()))
        .await
        .unwrap();
    let list: Value = serde_json::from_str(list.get()).unwrap();
    assert_eq!(
        list,
        json!({"resultType": "complete", "tools": [tool("good", "A")]})
    );
}

#[tokio::test]
async fn a_server_that_refuses_the_revision_it_names_is_asked_once_more() {
    let (server, url) = Server::start().await;
    *server.too_new.lock().unwrap() = 1;
    let (_connection, _heard) = open(&url).await;
    let seen = server.seen("server/discover");
    assert_eq!(seen.len(), 2);
    for (headers, body) in seen {
        assert_eq!(header(&headers, "mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(body["params"]["_meta"][VERSION], "2026-07-28");
    }
}

#[tokio::test]
async fn an_unknown_method_keeps_the_servers_words_under_404() {
    let (_server, url) = Server::start().await;
    let (connection, _heard) = open(&url).await;
    let refused = connection
        .request(request("no/such", Params::default()))
        .await;
    let Err(RequestError::Rpc {
        code,
        message,
        data,
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(
        (code, &*message, data.unwrap().get()),
        (-32601, "no such method", "{\"x\":1}")
    );
}

#[tokio::test]
async fn resources_are_watched_on_one_stream_and_the_old_one_is_let_go() {
    let (server, url) = Server::start().await;
    let (connection, mut heard) = open(&url).await;
    server.wait_seen("subscriptions/listen", 1).await;
    let timeout = Duration::from_secs(30);
    for uri in ["file:///a", "file:///b"] {
        connection.subscribe_resource(uri, timeout).await.unwrap();
    }
    let listens = server.seen("subscriptions/listen");
    let (_, last) = listens.last().unwrap();
    assert_eq!(
        last["params"]["notifications"],
        json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a", "file:///b"]})
    );
    let streams = server.streams.lock().unwrap().clone();
    let (last, old) = streams.split_last().unwrap();
    for stream in old {
        stream.closed().await;
    }
    let params = json!({"uri": "file:///b"});
    let updated =
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params});
    last.send(format!("data: {updated}\n\n")).await.unwrap();
    let told = heard.recv().await;
    assert!(
        matches!(&told, Some(Inbound::Notification(told)) if told.method.ends_with("updated")),
        "{told:?}"
    );
    connection.close().await;
    last.closed().await;
}
