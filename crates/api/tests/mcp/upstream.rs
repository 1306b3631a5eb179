//! A hand-written MCP server of either era over streamable HTTP, which counts everything it is told.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use crate::jobs::Jobs;

const META: &str = "io.modelcontextprotocol/";
const TASKS: &str = "io.modelcontextprotocol/tasks";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Modern,
    Legacy,
}

/// What the server was told, in order.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) params: Value,
}

#[derive(Debug)]
struct Inner {
    era: Era,
    seen: Mutex<Vec<Seen>>,
    cancelled: Mutex<Vec<Value>>,
    /// Questions on their way to the client, by id.
    asked: Mutex<Vec<(String, oneshot::Sender<Value>)>>,
    tools: Mutex<Vec<Value>>,
    said: broadcast::Sender<Value>,
    /// Lets one call of `ask` go on that asks late.
    released: Notify,
    jobs: Jobs,
    /// It knows no tasks of any kind.
    taskless: AtomicBool,
    /// How it tells its lists.
    listing: Mutex<Listing>,
}

/// How a server tells its lists.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// `ttlMs` and `cacheScope`.
    pub(crate) fresh: Option<(u64, &'static str)>,
    /// Each list of tools has a tool that no other has: `list_` and a number.
    pub(crate) numbered: bool,
    /// Tools come in two pages.
    pub(crate) paged: bool,
    /// How many lists were told.
    pub(crate) told: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    inner: Arc<Inner>,
    url: String,
}

fn tool(name: &str, properties: &Value, read_only: bool) -> Value {
    json!({
        "name": name, "description": format!("The tool {name}."), "x-unknown": {"kept": 1.50},
        "inputSchema": {"type": "object", "properties": properties},
        "annotations": {"readOnlyHint": read_only}
    })
}

fn tools(era: Era) -> Vec<Value> {
    let text = json!({"message": {"type": "string"}});
    let mut tools = vec![
        tool("echo", &text, true),
        tool("progress", &json!({}), true),
        tool("ask", &json!({}), true),
        tool("slow", &json!({}), true),
        tool("fail", &json!({}), true),
        tool("job", &json!({}), true),
        tool("write", &text, false),
        json!({
            "name": "add", "description": "Adds.", "annotations": {"readOnlyHint": true},
            "inputSchema": {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}
        }),
    ];
    if era == Era::Modern {
        let mirrored = json!({"region": {"type": "string", "x-mcp-header": "Region"}});
        tools.push(tool("mirrored", &mirrored, true));
        tools.push(tool("odd.name/x", &json!({}), true));
    }
    tools
}

impl Upstream {
    pub(crate) async fn start(era: Era) -> Self {
        let inner = Arc::new(Inner {
            era,
            seen: Mutex::default(),
            cancelled: Mutex::default(),
            asked: Mutex::default(),
            tools: Mutex::new(tools(era)),
            said: broadcast::channel(64).0,
            released: Notify::new(),
            jobs: Jobs::default(),
            taskless: AtomicBool::new(false),
            listing: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let routes = post(told)
            .get(listen)
            .delete(async || StatusCode::NO_CONTENT);
        let app = Router::new()
            .route("/mcp", routes)
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { inner, url }
    }

    /// A server of the configuration.
    pub(crate) fn definition(&self, more: &str) -> String {
        let era = if self.inner.era == Era::Modern {
            "modern"
        } else {
            "legacy"
        };
        format!(
            "{{transport: streamable_http, url: \"{}\", allow_private: true, era: {era}{more}}}",
            self.url
        )
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        let seen = self.inner.seen.lock().unwrap();
        seen.iter().filter(|one| one.method == method).count()
    }

    /// Everything but listings and the handshake.
    pub(crate) fn calls(&self) -> usize {
        let seen = self.inner.seen.lock().unwrap();
        let quiet = [
            "initialize",
            "server/discover",
            "subscriptions/listen",
            "ping",
        ];
        let loud = |one: &&Seen| {
            !quiet.contains(&one.method.as_str())
                && !one.method.ends_with("/list")
                && !one.method.starts_with("notifications/")
        };
        seen.iter().filter(loud).count()
    }

    /// Parameters of the last message of a method.
    pub(crate) fn last(&self, method: &str) -> Option<Value> {
        let seen = self.inner.seen.lock().unwrap();
        seen.iter()
            .rev()
            .find(|one| one.method == method)
            .map(|one| one.params.clone())
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.inner.cancelled.lock().unwrap().len()
    }

    /// What it was told so far does not count.
    pub(crate) fn forget_calls(&self) {
        self.inner.seen.lock().unwrap().clear();
    }

    /// From now on it knows no tasks of any kind.
    pub(crate) fn forget_tasks(&self) {
        self.inner.taskless.store(true, Ordering::SeqCst);
    }

    /// From now on it tells its lists like this.
    pub(crate) fn list_as(&self, listing: Listing) {
        *self.inner.listing.lock().unwrap() = listing;
    }

    /// From now on `job` says that it runs as a task only.
    pub(crate) fn demand_task(&self) {
        let mut tools = self.inner.tools.lock().unwrap();
        let job = tools.iter_mut().find(|tool| tool["name"] == "job").unwrap();
        job["execution"] = json!({"taskSupport": "required"});
    }

    /// Lets one call of `ask` go on that asks late, or one task end.
    pub(crate) fn release(&self) {
        self.inner.released.notify_one();
        self.inner.jobs.release();
    }

    pub(crate) fn add_tool(&self, name: &str) {
        self.inner
            .tools
            .lock()
            .unwrap()
            .push(tool(name, &json!({}), true));
        self.say(json!({"method": "notifications/tools/list_changed"}));
    }

    /// Says something by itself.
    pub(crate) fn say(&self, mut notification: Value) {
        notification["jsonrpc"] = "2.0".into();
        let _ = self.inner.said.send(notification);
    }
}

impl Inner {
    fn fresh(&self, mut list: Value) -> Value {
        if let Some((ttl, scope)) = self.listing.lock().unwrap().fresh {
            list["ttlMs"] = ttl.into();
            list["cacheScope"] = scope.into();
        }
        list
    }

    fn tools(&self, cursor: &Value) -> Value {
        let mut tools = self.tools.lock().unwrap().clone();
        let mut listing = self.listing.lock().unwrap();
        if listing.numbered {
            listing.told += 1;
            let name = format!("list_{}", listing.told);
            tools.push(tool(&name, &json!({}), true));
        }
        match (listing.paged, cursor.as_str()) {
            (false, _) => json!({ "tools": tools }),
            (true, None) => json!({"tools": tools[..3], "nextCursor": "3"}),
            (true, Some(cursor)) => {
                assert_eq!(cursor, "3");
                json!({"tools": tools[3..]})
            }
        }
    }
}

fn stream(messages: mpsc::Receiver<Value>) -> Response {
    let frames = futures_util::stream::unfold(messages, |mut messages| async move {
        let message = messages.recv().await?;
        let frame = Bytes::from(format!("data: {message}\n\n"));
        Some((Ok::<_, Infallible>(frame), messages))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(frames))
        .unwrap()
}

/// The legacy GET stream.
async fn listen(State(inner): State<Arc<Inner>>) -> Response {
    if inner.era == Era::Modern {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let mut said = inner.said.subscribe();
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok(message) = said.recv().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    stream(receiver)
}

async fn told(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap();
    let Some(method) = message["method"].as_str() else {
        answered(&inner, &message);
        return StatusCode::ACCEPTED.into_response();
    };
    inner.seen.lock().unwrap().push(Seen {
        method: method.to_owned(),
        params: message["params"].clone(),
    });
    if method == "notifications/cancelled" {
        inner
            .cancelled
            .lock()
            .unwrap()
            .push(message["params"].clone());
    }
    if message.get("id").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    let modern = headers
        .get("mcp-protocol-version")
        .is_some_and(|v| v == "2026-07-28");
    if inner.era == Era::Modern && !modern {
        return (StatusCode::BAD_REQUEST, "modern only").into_response();
    }
    if inner.era == Era::Legacy && modern {
        return (StatusCode::BAD_REQUEST, "legacy only").into_response();
    }
    answer(&inner, &message).await
}

fn answered(inner: &Inner, message: &Value) {
    let mut asked = inner.asked.lock().unwrap();
    let id = message["id"].as_str().unwrap_or_default();
    if let Some(at) = asked.iter().position(|(known, _)| known == id) {
        let _ = asked.remove(at).1.send(message.clone());
    }
}

fn result(message: &Value, mut result: Value, era: Era) -> Value {
    if era == Era::Modern && result.get("resultType").is_none() {
        result["resultType"] = "complete".into();
    }
    json!({"jsonrpc": "2.0", "id": message["id"], "result": result})
}

fn whole(body: &Value) -> Response {
    ([("content-type", "application/json")], body.to_string()).into_response()
}

fn error(message: &Value, code: i64, data: &Value) -> Response {
    whole(&json!({"jsonrpc": "2.0", "id": message["id"],
        "error": {"code": code, "message": "no", "data": data}}))
}

fn capabilities(inner: &Inner) -> Value {
    let mut capabilities = json!({
        "tools": {"listChanged": true}, "resources": {"subscribe": true, "listChanged": true},
        "prompts": {}, "logging": {}, "completions": {}, "x-unknown": {"a": 1.0}
    });
    if inner.taskless.load(Ordering::SeqCst) {
        return capabilities;
    }
    match inner.era {
        Era::Legacy => capabilities["tasks"] = json!({"requests": {"tools": {"call": {}}}}),
        Era::Modern => capabilities["extensions"] = json!({ TASKS: {} }),
    }
    capabilities
}

async fn answer(inner: &Arc<Inner>, message: &Value) -> Response {
    let era = inner.era;
    let page = |member: &str, items: Value| whole(&result(message, json!({ member: items }), era));
    let list = |list| whole(&result(message, inner.fresh(list), era));
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => {
            let told = json!({
                "protocolVersion": "2025-11-25", "capabilities": capabilities(inner),
                "serverInfo": {"name": "fake", "version": "7", "x": 1.0}, "instructions": "Be kind."
            });
            let mut response = whole(&result(message, told, era));
            response
                .headers_mut()
                .insert("mcp-session-id", "s1".parse().unwrap());
            response
        }
        "server/discover" => whole(&result(
            message,
            json!({
                "supportedVersions": ["2026-07-28"], "capabilities": capabilities(inner), "ttlMs": 1000,
                "cacheScope": "public", "instructions": "Be kind.",
                "_meta": {format!("{META}serverInfo"): {"name": "fake", "version": "7", "x": 1.0}}
            }),
            era,
        )),
        "subscriptions/listen" => subscription(inner, message),
        "tools/list" => list(inner.tools(&message["params"]["cursor"])),
        "resources/list" => list(json!({"resources": [{"uri": "a://b", "name": "b", "x": 1.0}]})),
        "resources/templates/list" => list(json!({"resourceTemplates": []})),
        "prompts/list" => list(json!({"prompts": [{"name": "greet"}]})),
        "resources/read" if message["params"]["uri"] == "a://b" => page(
            "contents",
            json!([{"uri": "a://b", "text": "hello", "x": 1.0}]),
        ),
        "resources/read" => error(message, -32002, &json!({"uri": message["params"]["uri"]})),
        "prompts/get" => page(
            "messages",
            json!([{"role": "user", "content": {"type": "text", "text": "Greet."}}]),
        ),
        "completion/complete" => page("completion", json!({"values": ["x"], "y": 1.0})),
        "tools/call" => call(inner, message).await,
        method if method.starts_with("tasks/") => about_task(inner, message).await,
        "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" | "ping" => {
            whole(&result(message, json!({}), era))
        }
        _ => error(message, -32601, &Value::Null),
    }
}

fn subscription(inner: &Arc<Inner>, message: &Value) -> Response {
    let id = json!({format!("{META}subscriptionId"): message["id"]});
    let (sender, receiver) = mpsc::channel(64);
    let mut said = inner.said.subscribe();
    let wanted = message["params"]["notifications"].clone();
    tokio::spawn(async move {
        let acknowledged = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": {"_meta": id, "notifications": wanted}});
        if sender.send(acknowledged).await.is_err() {
            return;
        }
        while let Ok(mut notification) = said.recv().await {
            notification["params"]["_meta"] = id.clone();
            if sender.send(notification).await.is_err() {
                return;
            }
        }
    });
    stream(receiver)
}

/// A task of 2025-11-25.
fn task(status: &str) -> Value {
    json!({"taskId": "t1", "status": status, "x": 1.0, "ttl": 60000})
}

async fn about_task(inner: &Inner, message: &Value) -> Response {
    let (era, params) = (inner.era, &message["params"]);
    let told = match (message["method"].as_str().unwrap_or_default(), era) {
        ("tasks/get", Era::Modern) => inner.jobs.told(params),
        ("tasks/update", Era::Modern) => {
            inner.jobs.update(params);
            json!({})
        }
        ("tasks/cancel", Era::Modern) => json!({}),
        ("tasks/get", Era::Legacy) => task("completed"),
        ("tasks/result", Era::Legacy) => {
            if params["taskId"] == "late" {
                inner.released.notified().await;
            }
            json!({"content": [{"type": "text", "text": "the result"}]})
        }
        ("tasks/cancel", Era::Legacy) => task("cancelled"),
        _ => return error(message, -32601, &Value::Null),
    };
    whole(&result(message, told, era))
}

/// A job that becomes a task for those who can follow one.
fn job(inner: &Inner, message: &Value) -> Response {
    let params = &message["params"];
    let extensions = &params["_meta"][format!("{META}clientCapabilities")]["extensions"];
    let unasked = params["arguments"]["how"] == "unasked";
    let taskless = inner.taskless.load(Ordering::SeqCst);
    let told = match inner.era {
        _ if params["arguments"]["how"] == "badly" => {
            json!({"content": [{"type": "text", "text": "broken"}], "isError": true})
        }
        _ if taskless => json!({"content": [{"type": "text", "text": "at once"}]}),
        Era::Legacy if params["task"].is_object() => {
            let mut task = task("working");
            if params["arguments"]["how"] == "late" {
                task["taskId"] = "late".into();
            }
            json!({ "task": task })
        }
        Era::Modern if unasked || extensions[TASKS].is_object() => {
            Jobs::begun(&params["arguments"]["how"])
        }
        Era::Legacy | Era::Modern => json!({"content": [{"type": "text", "text": "at once"}]}),
    };
    whole(&result(message, told, inner.era))
}

async fn call(inner: &Arc<Inner>, message: &Value) -> Response {
    let params = &message["params"];
    let arguments = &params["arguments"];
    let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
    match params["name"].as_str().unwrap_or_default() {
        "slow" => {
            tokio::time::sleep(Duration::from_mins(10)).await;
            whole(&result(message, text("late"), inner.era))
        }
        "fail" => error(message, -32050, &json!({"why": 1.0})),
        "progress" => {
            if arguments["how"] == "late" {
                inner.released.notified().await;
            }
            progress(inner, message)
        }
        "ask" => match arguments["how"].as_str().unwrap_or_default() {
            "late" => {
                if params.get("inputResponses").is_none() {
                    inner.released.notified().await;
                }
                ask(inner, message)
            }
            "together" => pair(inner, message),
            "in turn" => in_turn(inner, message),
            "the model" => sample(inner, message),
            _ => ask(inner, message),
        },
        "job" => job(inner, message),
        _ => {
            let mut told = text(arguments["message"].as_str().unwrap_or("-"));
            let unknown = json!({"type": "x-unknown", "weight": 1.50});
            told["content"].as_array_mut().unwrap().push(unknown);
            told["unknown"] = json!({"kept": 2.0});
            whole(&result(message, told, inner.era))
        }
    }
}

fn progress(inner: &Arc<Inner>, message: &Value) -> Response {
    let (sender, receiver) = mpsc::channel(64);
    let (message, era) = (message.clone(), inner.era);
    tokio::spawn(async move {
        let token = message["params"]["_meta"]["progressToken"].clone();
        for step in 1..=3 {
            let told = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                "params": {"progressToken": token, "progress": step, "x": 1.0}});
            let _ = sender.send(told).await;
        }
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "info", "data": "working"}});
        let _ = sender.send(log).await;
        let told = json!({"content": [{"type": "text", "text": "done"}]});
        let _ = sender.send(result(&message, told, era)).await;
    });
    stream(receiver)
}

/// Asks for a name: in the middle of the call, or by another round.
fn ask(inner: &Arc<Inner>, message: &Value) -> Response {
    let asked = json!({"message": "Who?", "requestedSchema": {"type": "object",
        "properties": {"name": {"type": "string"}}}});
    let greeted = |answer: &Value| {
        let name = answer["content"]["name"].as_str().unwrap_or("nobody");
        let said = format!("{} {name}", answer["action"].as_str().unwrap_or("none"));
        json!({"content": [{"type": "text", "text": said}]})
    };
    if inner.era == Era::Modern {
        let told = match message["params"]["inputResponses"].get("who") {
            Some(answer) if message["params"]["requestState"] == "opaque" => greeted(answer),
            _ => json!({"resultType": "input_required", "requestState": "opaque",
                "inputRequests": {"who": {"method": "elicitation/create", "params": asked}}}),
        };
        return whole(&result(message, told, inner.era));
    }
    let (sender, receiver) = mpsc::channel(64);
    let (message, inner) = (message.clone(), Arc::clone(inner));
    tokio::spawn(async move {
        let id = format!("q-{}", message["id"]);
        let answer = put(&inner, &sender, (&id, "elicitation/create", asked)).await;
        let _ = sender
            .send(result(&message, greeted(&answer["result"]), Era::Legacy))
            .await;
    });
    stream(receiver)
}

/// Puts a question on a call's stream and waits for the answer.
async fn put(
    inner: &Inner,
    sender: &mpsc::Sender<Value>,
    (id, method, params): (&str, &str, Value),
) -> Value {
    let (reply, answer) = oneshot::channel();
    inner.asked.lock().unwrap().push((id.to_owned(), reply));
    let question = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let _ = sender.send(question).await;
    answer.await.unwrap_or_default()
}

fn sure() -> Value {
    json!({"message": "Sure?", "requestedSchema": {"type": "object",
        "properties": {"sure": {"type": "boolean"}}}})
}

fn both_said(user: &Value, roots: &Value) -> Value {
    let said = format!(
        "{} {}",
        user["result"]["content"]["sure"], roots["result"]["roots"]
    );
    json!({"content": [{"type": "text", "text": said}]})
}

/// Asks the user and the client at once, as only old servers do.
fn pair(inner: &Arc<Inner>, message: &Value) -> Response {
    let (sender, receiver) = mpsc::channel(64);
    let (message, inner) = (message.clone(), Arc::clone(inner));
    tokio::spawn(async move {
        let (user, roots) = tokio::join!(
            put(&inner, &sender, ("p-1", "elicitation/create", sure())),
            put(&inner, &sender, ("p-2", "roots/list", json!({}))),
        );
        let told = both_said(&user, &roots);
        let _ = sender.send(result(&message, told, Era::Legacy)).await;
    });
    stream(receiver)
}

/// Asks the user, and the client once that is answered.
fn in_turn(inner: &Arc<Inner>, message: &Value) -> Response {
    let (sender, receiver) = mpsc::channel(64);
    let (message, inner) = (message.clone(), Arc::clone(inner));
    tokio::spawn(async move {
        let user = put(&inner, &sender, ("t-1", "elicitation/create", sure())).await;
        let roots = put(&inner, &sender, ("t-2", "roots/list", json!({}))).await;
        let told = both_said(&user, &roots);
        let _ = sender.send(result(&message, told, Era::Legacy)).await;
    });
    stream(receiver)
}

/// Asks the client's model, and fails without it.
fn sample(inner: &Arc<Inner>, message: &Value) -> Response {
    let (sender, receiver) = mpsc::channel(64);
    let (message, inner) = (message.clone(), Arc::clone(inner));
    tokio::spawn(async move {
        let asked = json!({"maxTokens": 1, "messages": []});
        let answer = put(&inner, &sender, ("s-1", "sampling/createMessage", asked)).await;
        let told = match answer.get("error") {
            Some(_) => json!({"jsonrpc": "2.0", "id": message["id"],
                "error": {"code": -32603, "message": "nobody samples"}}),
            None => result(&message, json!({"content": []}), Era::Legacy),
        };
        let _ = sender.send(told).await;
    });
    stream(receiver)
}
