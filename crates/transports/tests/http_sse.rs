//! HTTP+SSE of 2024-11-05, reached by name and as the fallback from streamable HTTP.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use transports::{
    CloseReason, ConnectError, ConnectOptions, Connection, Endpoint, EraChoice, HttpSpec, Inbound,
    OutboundPolicy, Params, Request, RequestError, ServerName, ServerSpec, Timeouts, WireLimits,
    connect,
};

const QUICK: Duration = Duration::from_secs(2);
const FRAME_BYTES: usize = 16 * 1024;

/// What the server does with `tools/call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    WrongId,
    Refuse,
    Ends,
    Huge,
    Silent,
    /// The POST is only answered once its result was read from the stream.
    AnswersFirst,
}

#[derive(Clone)]
struct Server {
    fault: Arc<Mutex<Fault>>,
    stream: Arc<Mutex<Option<mpsc::Sender<String>>>>,
    endpoint: Option<&'static str>,
    cancelled: Arc<Notify>,
}

impl Server {
    async fn start(endpoint: Option<&'static str>) -> (Self, String) {
        let server = Self {
            fault: Arc::new(Mutex::new(Fault::None)),
            stream: Arc::default(),
            endpoint,
            cancelled: Arc::default(),
        };
        let app = Router::new()
            .route("/sse", get(stream))
            .route("/message", post(message))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/sse", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (server, url)
    }

    fn fault(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    async fn say(&self, message: &Value) {
        let stream = self.stream.lock().unwrap().clone();
        if let Some(stream) = stream {
            let _ = stream
                .send(format!("event: message\ndata: {message}\n\n"))
                .await;
        }
    }
}

async fn stream(State(server): State<Server>) -> Response {
    let (sender, receiver) = mpsc::channel(64);
    if let Some(endpoint) = server.endpoint {
        let _ = sender
            .send(format!("event: endpoint\ndata: {endpoint}\n\n"))
            .await;
    }
    *server.stream.lock().unwrap() = Some(sender);
    let events = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver
            .recv()
            .await
            .map(|event| (Ok::<_, Infallible>(event), receiver))
    });
    (
        [(header::CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(events),
    )
        .into_response()
}

async fn message(State(server): State<Server>, body: Bytes) -> StatusCode {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let answer = |result: Value| json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
    let echo =
        json!({"content": [{"type": "text", "text": asked["params"]["arguments"]["message"]}]});
    match asked["method"].as_str().unwrap_or_default() {
        "initialize" => {
            let info = json!({"name": "old", "version": "1"});
            server.say(&answer(json!({"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": info}))).await;
        }
        "notifications/cancelled" => server.cancelled.notify_one(),
        "tools/call" => {
            let fault = *server.fault.lock().unwrap();
            match fault {
                Fault::None => server.say(&answer(echo)).await,
                Fault::WrongId => {
                    let wrong = json!({"jsonrpc": "2.0", "id": 999_999, "result": echo});
                    server.say(&wrong).await;
                }
                Fault::Refuse => return StatusCode::INTERNAL_SERVER_ERROR,
                Fault::Ends => drop(server.stream.lock().unwrap().take()),
                Fault::Huge => server.say(&answer(json!("x".repeat(FRAME_BYTES)))).await,
                Fault::Silent => {}
                Fault::AnswersFirst => {
                    server.say(&answer(echo)).await;
                    std::future::pending::<()>().await;
                }
            }
        }
        _ => {}
    }
    StatusCode::ACCEPTED
}

fn spec(url: &str, by_name: bool) -> ServerSpec {
    let http = HttpSpec {
        url: url.parse().unwrap(),
        headers: Vec::new(),
        outbound: OutboundPolicy {
            allow_private: true,
            ..OutboundPolicy::default()
        },
        bearer: None,
    };
    ServerSpec {
        name: ServerName::new("old").unwrap(),
        endpoint: if by_name {
            Endpoint::LegacySse(http)
        } else {
            Endpoint::StreamableHttp(http)
        },
        era: EraChoice::Auto,
        timeouts: Timeouts::default(),
        limits: WireLimits {
            frame_bytes: FRAME_BYTES,
            in_flight: 100,
        },
    }
}

async fn open(
    url: &str,
    by_name: bool,
) -> Result<(Arc<Connection>, mpsc::Receiver<Inbound>), ConnectError> {
    let (inbound, heard) = mpsc::channel(16);
    let connection = connect(
        &spec(url, by_name),
        ConnectOptions {
            known_era: None,
            inbound,
        },
    )
    .await?;
    Ok((connection, heard))
}

fn call(message: &str) -> Request {
    let arguments = RawValue::from_string(json!({ "message": message }).to_string()).unwrap();
    Request {
        params: Params::default()
            .with_text("name", "echo")
            .with("arguments", arguments),
        ..Request::new("tools/call", Duration::from_secs(30))
    }
}

fn text_of(result: &RawValue) -> String {
    let result: Value = serde_json::from_str(result.get()).unwrap();
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn calls_are_answered_on_the_stream_by_name_and_by_fallback() {
    for (by_name, endpoint) in [(true, "/message?s=1"), (false, "message?s=1")] {
        let (server, url) = Server::start(Some(endpoint)).await;
        let (connection, mut heard) = open(&url, by_name).await.unwrap();
        assert_eq!(connection.info().transport, "legacy_sse");
        assert_eq!(connection.info().protocol_version, "2024-11-05");
        let calls = (0..32).map(|number| {
            let connection = Arc::clone(&connection);
            async move {
                let result = connection.request(call(&number.to_string())).await.unwrap();
                assert_eq!(text_of(&result), number.to_string());
            }
        });
        futures_util::future::join_all(calls).await;
        server
            .say(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
            .await;
        assert!(matches!(heard.recv().await, Some(Inbound::Notification(_))));
        connection.close().await;
        assert_eq!(connection.closed().await, CloseReason::Asked);
    }
}

#[tokio::test]
async fn faults_fail_their_call_at_once() {
    for fault in [Fault::WrongId, Fault::Refuse, Fault::Ends, Fault::Huge] {
        let (server, url) = Server::start(Some("/message")).await;
        let (connection, _heard) = open(&url, true).await.unwrap();
        server.fault(fault);
        let answer = tokio::time::timeout(QUICK, connection.request(call("x")))
            .await
            .expect("a quick error");
        let error = answer.unwrap_err();
        match fault {
            Fault::Huge => assert!(matches!(error, RequestError::TooLarge { .. }), "{error:?}"),
            _ => assert!(
                matches!(error, RequestError::Protocol { .. }),
                "{fault:?}: {error:?}"
            ),
        }
        if fault == Fault::Ends {
            assert!(matches!(connection.closed().await, CloseReason::Lost(_)));
        }
    }
}

#[tokio::test]
async fn a_result_counts_although_its_post_is_never_answered() {
    let (server, url) = Server::start(Some("/message")).await;
    let (connection, _heard) = open(&url, true).await.unwrap();
    server.fault(Fault::AnswersFirst);
    let answer = tokio::time::timeout(QUICK, connection.request(call("x")))
        .await
        .expect("a quick answer");
    assert_eq!(text_of(&answer.unwrap()), "x");
}

#[tokio::test]
async fn a_silent_call_ends_at_its_deadline_and_is_cancelled_upstream() {
    let (server, url) = Server::start(Some("/message")).await;
    let (connection, _heard) = open(&url, true).await.unwrap();
    server.fault(Fault::Silent);
    let request = Request {
        timeout: Duration::from_millis(50),
        ..call("x")
    };
    assert!(matches!(
        connection.request(request).await,
        Err(RequestError::Timeout { .. })
    ));
    server.cancelled.notified().await;
}

#[tokio::test]
async fn an_endpoint_elsewhere_or_with_user_information_is_refused() {
    for endpoint in [
        "http://127.0.0.1:9/message",
        "https://example.com/message",
        "//example.com/message",
        "//user@127.0.0.1/message",
    ] {
        let (_server, url) = Server::start(Some(endpoint)).await;
        let refused = open(&url, true).await;
        assert!(
            matches!(refused, Err(ConnectError::Protocol { .. })),
            "{endpoint}"
        );
    }
}

#[tokio::test]
async fn a_stream_without_its_endpoint_event_ends_at_the_connect_deadline() {
    let (_server, url) = Server::start(None).await;
    let mut hasty = spec(&url, true);
    hasty.timeouts.connect = Duration::from_millis(300);
    let (inbound, _heard) = mpsc::channel(1);
    let options = ConnectOptions {
        known_era: None,
        inbound,
    };
    let late = tokio::time::timeout(QUICK, connect(&hasty, options))
        .await
        .expect("a quick error");
    assert!(matches!(
        late,
        Err(ConnectError::Timeout {
            step: "connect",
            ..
        })
    ));
}
