//! Streamable HTTP against servers on the official SDK, whose protocol we did not write.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use transports::{
    ConnectOptions, Connection, Endpoint, Era, EraChoice, HttpSpec, Inbound, OutboundPolicy,
    Params, Request, RequestError, ServerName, ServerSpec, Timeouts, WireLimits, connect,
};

#[derive(Clone)]
struct Peer {
    modern: bool,
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn tools() -> Vec<Value> {
    let region = json!({"type": "string", "x-mcp-header": "Region"});
    let properties = json!({"message": {"type": "string"}, "region": region});
    let echo = json!({"type": "object", "properties": properties});
    vec![
        json!({"name": "écho", "inputSchema": echo}),
        json!({"name": "grow", "inputSchema": {"type": "object"}}),
    ]
}

impl ServerHandler for Peer {
    fn get_info(&self) -> ServerConfig {
        typed(json!({
            "protocolVersion": if self.modern { "2026-07-28" } else { "2025-11-25" },
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "peer", "version": "1"},
        }))
        .unwrap_or_default()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let version = if self.modern {
            ProtocolVersion::V_2026_07_28
        } else {
            ProtocolVersion::V_2025_11_25
        };
        Cow::Owned(vec![version])
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        typed(json!({"tools": tools()}))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let found = tools().into_iter().find(|tool| tool["name"] == name)?;
        typed(found).ok()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name == "grow" {
            let _ = context.peer.notify_tool_list_changed().await;
        }
        if let Some(token) = context.meta.get_progress_token() {
            for step in 1..=3_u8 {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(step));
                let _ = context.peer.notify_progress(progress).await;
            }
        }
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let text = arguments["message"].as_str().unwrap_or_default().to_owned();
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// What went over the wire.
#[derive(Default)]
struct Seen {
    posts: AtomicUsize,
    regions: std::sync::Mutex<Vec<String>>,
}

async fn note(State(seen): State<Arc<Seen>>, request: HttpRequest, next: Next) -> Response {
    if request.method() == http::Method::POST {
        seen.posts.fetch_add(1, Ordering::SeqCst);
    }
    if let Some(region) = request
        .headers()
        .get("mcp-param-region")
        .and_then(|value| value.to_str().ok())
    {
        seen.regions.lock().unwrap().push(region.to_owned());
    }
    next.run(request).await
}

async fn serve(peer: Peer, json_response: bool) -> (String, Arc<Seen>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let config = StreamableHttpServerConfig::default().with_json_response(json_response);
    let service = StreamableHttpService::new(
        move || Ok(peer.clone()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    let seen = Arc::new(Seen::default());
    let app = axum::Router::new()
        .nest_service("/mcp", service)
        .layer(from_fn_with_state(Arc::clone(&seen), note));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
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
        name: ServerName::new("peer").unwrap(),
        endpoint: Endpoint::StreamableHttp(http),
        era: EraChoice::Auto,
        timeouts: Timeouts::default(),
        limits: WireLimits::default(),
    };
    let (inbound, heard) = mpsc::channel(16);
    (
        connect(
            &spec,
            ConnectOptions {
                known_era: None,
                inbound,
            },
        )
        .await
        .unwrap(),
        heard,
    )
}

fn request(method: &'static str, params: Params) -> Request {
    Request {
        params,
        repeatable: true,
        ..Request::new(method, Duration::from_secs(30))
    }
}

fn call(name: &str, arguments: &Value) -> Request {
    let arguments = RawValue::from_string(arguments.to_string()).unwrap();
    request(
        "tools/call",
        Params::default()
            .with_text("name", name)
            .with("arguments", arguments),
    )
}

fn value(result: &RawValue) -> Value {
    serde_json::from_str(result.get()).unwrap()
}

#[tokio::test]
async fn both_eras_and_both_shapes_of_answer_list_and_call() {
    for (modern, json_response) in [(true, true), (true, false), (false, true), (false, false)] {
        let (url, seen) = serve(Peer { modern }, json_response).await;
        let (connection, _heard) = open(&url).await;
        let era = if modern { Era::Modern } else { Era::Legacy };
        assert_eq!(connection.info().era, era);
        assert_eq!(connection.info().mcp_session_id.is_some(), !modern);
        let tools = value(
            &connection
                .request(request("tools/list", Params::default()))
                .await
                .unwrap(),
        );
        assert_eq!(tools["tools"][0]["name"], "écho");
        let before = seen.posts.load(Ordering::SeqCst);
        let calls = (0..16).map(|number| {
            let connection = Arc::clone(&connection);
            async move {
                let arguments = json!({"message": number.to_string(), "region": "Zürich"});
                let result = connection.request(call("écho", &arguments)).await.unwrap();
                assert_eq!(value(&result)["content"][0]["text"], number.to_string());
            }
        });
        futures_util::future::join_all(calls).await;
        // The listener of the modern era may post its subscription meanwhile; a call is one exchange.
        let posts = seen.posts.load(Ordering::SeqCst) - before;
        assert!(
            (16..=17).contains(&posts),
            "{modern} {json_response}: {posts}"
        );
        let regions = seen.regions.lock().unwrap().clone();
        assert_eq!(
            regions,
            vec!["=?base64?WsO8cmljaA==?="; if modern { 16 } else { 0 }]
        );
        connection.ping(Duration::from_secs(5)).await.unwrap();
        connection.close().await;
    }
}

#[tokio::test]
async fn progress_comes_in_order_and_a_change_of_the_list_is_heard() {
    for modern in [true, false] {
        let (url, _seen) = serve(Peer { modern }, false).await;
        let (connection, mut heard) = open(&url).await;
        let (sender, mut notes) = mpsc::channel(16);
        let asked = Request {
            progress: Some(sender),
            ..call("écho", &json!({"message": "x"}))
        };
        connection.request(asked).await.unwrap();
        let mut steps = Vec::new();
        while let Some(note) = notes.recv().await {
            let params = value(&note.params.unwrap());
            steps.extend(params["progress"].as_f64());
        }
        assert_eq!(steps, [1.0, 2.0, 3.0]);
        // The stream for notifications may open after the call: grow until one is heard.
        let changed = async {
            loop {
                connection.request(call("grow", &json!({}))).await.unwrap();
                let told = tokio::time::timeout(Duration::from_millis(50), heard.recv()).await;
                if let Ok(Some(Inbound::Notification(told))) = told {
                    return told.method;
                }
            }
        };
        let method = tokio::time::timeout(Duration::from_secs(10), changed)
            .await
            .unwrap();
        assert_eq!(
            method, "notifications/tools/list_changed",
            "modern {modern}"
        );
        connection.close().await;
    }
}

#[tokio::test]
async fn an_unknown_method_is_an_error_of_the_server_and_costs_no_session() {
    for modern in [true, false] {
        let (url, seen) = serve(Peer { modern }, false).await;
        let (connection, _heard) = open(&url).await;
        let error = connection
            .request(request("no/such", Params::default()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, RequestError::Rpc { code: -32601, .. }),
            "modern {modern}: {error:?}"
        );
        let before = seen.posts.load(Ordering::SeqCst);
        connection
            .request(call("écho", &json!({"message": "x"})))
            .await
            .unwrap();
        assert!(seen.posts.load(Ordering::SeqCst) - before <= 2);
        connection.close().await;
    }
}

#[tokio::test]
async fn a_tool_never_listed_here_is_called_with_its_mirrored_argument_all_the_same() {
    let (url, seen) = serve(Peer { modern: true }, false).await;
    let (connection, _heard) = open(&url).await;
    let asked = json!({"message": "x", "region": "west"});
    for _ in 0..2 {
        let result = connection.request(call("écho", &asked)).await.unwrap();
        assert_eq!(value(&result)["content"][0]["text"], "x");
    }
    assert_eq!(*seen.regions.lock().unwrap(), ["west", "west"]);
    connection.close().await;
}
