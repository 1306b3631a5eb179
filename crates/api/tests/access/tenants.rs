//! Two tenants, every id there is, every route of the daemon's own document: what belongs to the one is for the other
//! exactly what does not exist.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kit::{Bridge, Reply, program};

/// What stands in answers only the first tenant may see.
const CANARY: &str = "canary-of-red";
/// Parameters and members of bodies that name something, and what kind of thing.
const NAMES: &[(&str, Kind)] = &[
    ("call_id", Kind::Call),
    ("session_id", Kind::Session),
    ("key_id", Kind::Key),
    ("agent_id", Kind::Agent),
    ("trace_id", Kind::Trace),
    ("name", Kind::Server),
    ("server", Kind::Server),
    ("ref", Kind::Ref),
    ("user", Kind::User),
    ("workspace", Kind::Workspace),
    ("cursor", Kind::Cursor),
    ("after", Kind::Event),
    ("Last-Event-ID", Kind::Event),
    ("idempotency_key", Kind::Idempotency),
    ("confirm_token", Kind::Nothing),
    ("approval_id", Kind::Approval),
    ("ticket", Kind::Nothing),
    ("code", Kind::Nothing),
    ("poll_token", Kind::Nothing),
    ("key", Kind::Nothing),
];
/// One tool needs an approval, so that there is one to ask for.
const GATED: &str = "roles: {admin: {allow: ['*.*'], confirm: ['*.time_now']}}";
/// Those that name nothing of a tenant's.
const PLAIN: &[&str] = &[
    "format",
    "secrets",
    "shared",
    "error",
    "iss",
    "limit",
    "q",
    "kind",
    "since",
    "until",
    "fields",
    "if_hash",
    "types",
    "wait_ms",
    "state",
    "outcome",
    "from",
    "to",
    "uri",
    "lane",
    "timeout_ms",
    "If-Match",
    "If-None-Match",
    "Prefer",
    "Idempotency-Key",
    "Sec-WebSocket-Protocol",
    "arguments",
    "schema_hash",
    "dry_run",
    "ttl_s",
    "definition",
    "version",
    "scopes",
    "expires_in_s",
    "workspaces",
    "label",
    "reset",
    "overlap_s",
    "argument",
    "context",
    "input_responses",
    "responses",
    "value",
    "roles",
    "uri_template",
    "decision",
    "note",
    "hash",
    "description",
    "stderr",
    "template",
    "probe",
];
/// Operations that end only with the client, or are no operation of a tenant.
const APART: &[&str] = &["stream_events", "agent_tunnel", "begin_pairing", "login"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Call,
    Session,
    Key,
    Agent,
    Trace,
    Server,
    Ref,
    User,
    Workspace,
    Cursor,
    Event,
    Idempotency,
    Approval,
    /// Random secrets: there is nothing of another tenant's to present.
    Nothing,
}

/// One thing of the first tenant, and one that does not exist.
type Things = BTreeMap<Kind, (String, String)>;

fn kind_of(name: &str) -> Option<Kind> {
    let known = NAMES.iter().find(|(known, _)| *known == name);
    let kind = known.map(|(_, kind)| *kind);
    assert!(
        kind.is_some() || PLAIN.contains(&name),
        "is `{name}` an id? Say so in NAMES or PLAIN"
    );
    kind.filter(|kind| *kind != Kind::Nothing)
}

struct Tenant {
    user: &'static str,
    workspace: &'static str,
    key: String,
}

impl Tenant {
    async fn new(
        bridge: &Bridge,
        (user, workspace): (&'static str, &'static str),
        role: &str,
    ) -> Self {
        bridge
            .post("/v1/workspaces", &json!({"workspace": workspace}))
            .await;
        let workspaces = json!([{"workspace": workspace, "roles": [role]}]);
        let made = bridge
            .post(
                "/v1/users",
                &json!({"user": user, "workspaces": workspaces}),
            )
            .await;
        assert_eq!(made.status, 201, "{}", made.text());
        let key = bridge.post("/v1/keys", &json!({"user": user})).await.json();
        let key = key["key"].as_str().unwrap().to_owned();
        Self {
            user,
            workspace,
            key,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a place and the parts of a request"
    )]
    async fn send(&self, bridge: &Bridge, line: &str, more: &[&str], body: &str) -> Reply {
        let auth = format!("authorization: Bearer {}", self.key);
        let mut headers = vec![auth.as_str(), "if-match: *"];
        headers.extend_from_slice(more);
        bridge.send(line, &headers, body).await
    }

    async fn post(&self, bridge: &Bridge, path: &str, body: &Value) -> Value {
        let reply = self
            .send(bridge, &format!("POST {path}"), &[], &body.to_string())
            .await;
        assert!(reply.status < 300, "{path}: {}", reply.text());
        reply.json()
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

/// Red owns one thing of every kind.
#[expect(clippy::too_many_lines, reason = "one thing after the other")]
async fn things(bridge: &Bridge, red: &Tenant) -> Things {
    let program = program();
    let command = [program.to_str().unwrap(), "demo-server"];
    let definition = json!({"transport": "stdio", "command": command, "isolation": "user"});
    red.post(
        bridge,
        "/v1/servers",
        &json!({"name": "redserver", "definition": definition}),
    )
    .await;
    let call = json!({"ref": "redserver.echo", "arguments": {"message": CANARY}}).to_string();
    let keyed = ["idempotency-key: key-of-red-1"];
    let done = red.send(bridge, "POST /v1/calls", &keyed, &call).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let done = done.json();
    red.send(bridge, "POST /v1/calls", &[], &call).await;
    let page = red
        .send(bridge, "GET /v1/calls?limit=1", &[], "")
        .await
        .json();
    let sessions = red.send(bridge, "GET /v1/sessions", &[], "").await.json();
    red.post(
        bridge,
        "/v1/agents/tokens",
        &json!({"agent_id": "red-laptop"}),
    )
    .await;
    let events = red
        .send(bridge, "GET /v1/events/history?after=0", &[], "")
        .await
        .json();
    let gated = json!({"ref": "redserver.time_now", "arguments": {}}).to_string();
    let gated = red.send(bridge, "POST /v1/calls", &[], &gated).await;
    assert_eq!(gated.status, 428, "{}", gated.text());
    let gated = gated.json();
    let own = red.key.split('_').nth(1).unwrap().to_owned();
    let uuid = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000";
    BTreeMap::from([
        (Kind::Call, (text(&done["call_id"]), format!("call_{uuid}"))),
        (
            Kind::Session,
            (
                text(&sessions["items"][0]["session_id"]),
                format!("ses_{uuid}"),
            ),
        ),
        (Kind::Key, (own, "0123456789abcdef".to_owned())),
        (
            Kind::Agent,
            ("red-laptop".to_owned(), "not-laptop".to_owned()),
        ),
        (
            Kind::Trace,
            (
                text(&done["trace_id"]),
                "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            ),
        ),
        (
            Kind::Server,
            ("redserver".to_owned(), "notserver".to_owned()),
        ),
        (
            Kind::Ref,
            ("redserver.echo".to_owned(), "notserver.echo".to_owned()),
        ),
        (Kind::User, (red.user.to_owned(), "zoe".to_owned())),
        (
            Kind::Workspace,
            (red.workspace.to_owned(), "not".to_owned()),
        ),
        (
            Kind::Cursor,
            (text(&page["next_cursor"]), format!("call_{uuid}")),
        ),
        (
            Kind::Event,
            (
                text(&events["items"][0]["id"]),
                "00000000000fffff".to_owned(),
            ),
        ),
        (
            Kind::Idempotency,
            ("key-of-red-1".to_owned(), "key-of-not-1".to_owned()),
        ),
        (
            Kind::Approval,
            (text(&gated["approval"]["id"]), format!("apr_{uuid}")),
        ),
    ])
}

/// One place of a request that takes an id.
struct Place {
    operation: String,
    verb: String,
    path: String,
    /// Where the id stands.
    spot: Spot,
    name: String,
    kind: Kind,
    /// Everything else the request needs.
    query: Vec<(String, String)>,
    body: Option<Value>,
}

#[derive(Debug, PartialEq, Eq)]
enum Spot {
    Path,
    Query,
    Body,
}

/// A value for what must be there and is not what is tried.
fn filler(name: &str, things: &Things) -> String {
    match (kind_of(name).and_then(|kind| things.get(&kind)), name) {
        (Some((_, unknown)), _) => unknown.clone(),
        (None, "from" | "to" | "version") => "1".to_owned(),
        (None, _) => "x".to_owned(),
    }
}

/// The whole body an operation takes, as far as it may name something.
fn full_body(operation: &str) -> Value {
    match operation {
        "call_tool" => json!({"ref": "", "arguments": {"message": "x"}}),
        "open_session" => json!({"server": ""}),
        "get_prompt" => json!({"ref": "", "arguments": {}}),
        "complete" => json!({"ref": "", "argument": {"name": "a", "value": "b"}}),
        "create_server" => {
            json!({"name": "", "definition": {"transport": "stdio", "command": ["true"]}})
        }
        "put_server" => json!({"definition": {"transport": "stdio", "command": ["true"]}}),
        "rollback_server" => json!({"version": 1}),
        "create_user" => json!({"user": "", "workspaces": []}),
        "create_key" => json!({"user": ""}),
        "create_workspace" => json!({"workspace": ""}),
        "issue_agent_token" | "set_default_agent" => json!({"agent_id": ""}),
        "confirm_pairing" => json!({"code": "ABCDEFGH"}),
        "poll_pairing" => json!({"poll_token": "x"}),
        "answer_input" => json!({"responses": {}}),
        "decide_approval" => json!({"decision": "approve"}),
        "put_credentials" => json!({"secrets": {"key": "x"}}),
        "approve_pin" => json!({"ref": "", "hash": "0123456789ab"}),
        _ => json!({}),
    }
}

/// Names that are taken for one's own: creating a thing under a name another tenant uses is no look at it.
fn makes_own(operation: &str, name: &str) -> bool {
    matches!(
        (operation, name),
        ("create_server" | "put_server" | "create_key", "name") | ("issue_agent_token", "agent_id")
    )
}

/// Every place of the document that takes an id. Fails at a name nobody has judged.
fn places(document: &Value, things: &Things) -> Vec<Place> {
    let mut places = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            if APART.contains(&id) {
                continue;
            }
            for (spot, name) in named(document, operation) {
                let Some(kind) = kind_of(&name).filter(|_| !makes_own(id, &name)) else {
                    continue;
                };
                let mut query = needed(operation, things);
                query.retain(|(other, _)| *other != name);
                places.push(Place {
                    operation: id.to_owned(),
                    verb: verb.to_uppercase(),
                    path: path.clone(),
                    body: operation.get("requestBody").map(|_| full_body(id)),
                    query,
                    spot,
                    name,
                    kind,
                });
            }
        }
    }
    places
}

fn parameters(operation: &Value) -> impl Iterator<Item = &Value> {
    operation["parameters"].as_array().into_iter().flatten()
}

/// Parameters that must be there, filled in.
fn needed(operation: &Value, things: &Things) -> Vec<(String, String)> {
    let required =
        parameters(operation).filter(|one| one["in"] == "query" && one["required"] == true);
    let filled = required.map(|one| {
        let name = text(&one["name"]);
        let value = filler(&name, things);
        (name, value)
    });
    filled.collect()
}

/// Everything an operation takes, by name and where it stands.
fn named(document: &Value, operation: &Value) -> Vec<(Spot, String)> {
    let of_head = parameters(operation).filter_map(|one| {
        let name = text(&one["name"]);
        match one["in"].as_str().unwrap() {
            "path" => Some((Spot::Path, name)),
            "query" => Some((Spot::Query, name)),
            _ => {
                // A header's name is judged, too; what it holds is no id of ours.
                kind_of(&name);
                None
            }
        }
    });
    let of_body = members(document, operation).into_iter();
    of_head
        .chain(of_body.map(|name| (Spot::Body, name)))
        .collect()
}

/// Members of the body an operation takes.
fn members(document: &Value, operation: &Value) -> Vec<String> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let reference = schema["$ref"].as_str().unwrap_or_default();
    let name = reference.rsplit('/').next().unwrap_or_default();
    let shape = &document["components"]["schemas"][name]["properties"];
    let members = shape
        .as_object()
        .map(|members| members.keys().cloned().collect());
    members.unwrap_or_default()
}

impl Place {
    /// The request with this id in its place, as line and body.
    fn request(&self, id: &str, things: &Things) -> (String, String) {
        let parts = self.path.split('/').map(|part| {
            let name = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'));
            match name {
                Some(name) if self.spot == Spot::Path && name == self.name => id.to_owned(),
                Some(name) => filler(name, things),
                None => part.to_owned(),
            }
        });
        let mut path = parts.collect::<Vec<_>>().join("/");
        let mut query: Vec<String> = self
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if self.spot == Spot::Query {
            query.push(format!("{}={id}", self.name));
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let mut body = self.body.clone();
        if let Some(Value::Object(members)) = &mut body {
            for (name, value) in members.iter_mut() {
                if *value == "" {
                    *value = json!(filler(name, things));
                }
            }
            if self.spot == Spot::Body {
                members.insert(self.name.clone(), json!(id));
            }
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        (format!("{} {path}", self.verb), body)
    }
}

/// An answer without what differs between any two, and with the id it was asked for taken out.
fn plain(reply: &Reply, id: &str) -> (u16, Value) {
    let mut body: Value =
        serde_json::from_slice(&reply.body).unwrap_or_else(|_| json!(reply.text()));
    strip(&mut body);
    let text = body.to_string().replace(id, "<id>");
    (reply.status, serde_json::from_str(&text).unwrap())
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("trace_id");
            members.remove("instance");
            // Of one's own session, seen twice: its memory moves by itself.
            members.remove("rss_bytes");
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// What no answer to somebody else may hold. Short names and numbers of events stand in many texts.
fn secrets<'a>(things: &'a Things, seen: &'a [Kind]) -> impl Iterator<Item = &'a str> {
    let hidden = things
        .iter()
        .filter(|(kind, _)| **kind != Kind::Event && !seen.contains(kind));
    hidden
        .map(|(_, (foreign, _))| foreign.as_str())
        .filter(|text| text.len() > 6)
}

/// Tries every thing of red's in every place, as somebody else.
async fn sweep(bridge: &Bridge, (things, other): (&Things, &Tenant), seen: &[Kind]) -> usize {
    let document = bridge.get("/openapi.json").await.json();
    let mut tried = 0;
    for place in places(&document, things) {
        if seen.contains(&place.kind) {
            continue;
        }
        let (foreign, unknown) = &things[&place.kind];
        let mut answers = Vec::new();
        for id in [foreign, unknown] {
            let (line, body) = place.request(id, things);
            let reply = other.send(bridge, &line, &[], &body).await;
            let whole = format!("{}\n{}", reply.head, reply.text()).replace(id, "<id>");
            for secret in secrets(things, seen) {
                assert!(
                    !whole.contains(secret),
                    "{} tells {secret}: {whole}",
                    place.operation
                );
            }
            let canary = whole.contains(CANARY);
            assert!(!canary, "{}: {whole}", place.operation);
            answers.push(plain(&reply, id));
        }
        assert!(answers[0].0 < 500, "{}: {answers:?}", place.operation);
        // Numbers of events rise in each workspace: a foreign one may be one's own as well.
        if place.kind != Kind::Event {
            let what = (&place.operation, &place.spot, &place.name);
            assert_eq!(answers[0], answers[1], "{what:?}");
        }
        tried += 1;
    }
    tried
}

/// The MCP face, whose routes no document holds.
async fn mcp_sweep(bridge: &Bridge, (red, other): (&Tenant, &Tenant)) {
    let both = "accept: application/json, text/event-stream";
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}).to_string();
    let open = async |tenant: &Tenant| {
        let reply = tenant.send(bridge, "POST /mcp", &[both], &hello).await;
        reply.header("mcp-session-id").unwrap()
    };
    let foreign = open(red).await;
    // Another of the same length: signed for somebody, and for nobody here.
    let mut unknown = foreign.clone();
    let last = if unknown.ends_with('A') { "B" } else { "A" };
    unknown.replace_range(unknown.len() - 1.., last);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    for (line, body) in [
        ("POST /mcp", ping.as_str()),
        ("GET /mcp", ""),
        ("DELETE /mcp", ""),
    ] {
        let mut answers = Vec::new();
        for id in [&foreign, &unknown] {
            let session = format!("mcp-session-id: {id}");
            let accept = if line.starts_with("GET") {
                "accept: text/event-stream"
            } else {
                both
            };
            let reply = other.send(bridge, line, &[&session, accept], body).await;
            assert_eq!(reply.status, 404, "{line}: {}", reply.text());
            answers.push(plain(&reply, id));
        }
        assert_eq!(answers[0], answers[1], "{line}");
    }
    for path in ["POST /message?sessionId=ID", "POST /mcp/ID", "GET /sse/ID"] {
        let pair = if path.contains("sessionId") {
            (foreign.as_str(), unknown.as_str())
        } else {
            ("redserver", "notserver")
        };
        let mut answers = Vec::new();
        for id in [pair.0, pair.1] {
            let accept = if path.starts_with("GET") {
                "accept: text/event-stream"
            } else {
                both
            };
            let reply = other
                .send(bridge, &path.replace("ID", id), &[accept], &hello)
                .await;
            answers.push(plain(&reply, id));
        }
        assert_eq!(answers[0], answers[1], "{path}");
        assert_eq!(answers[0].0, 404, "{path} {answers:?}");
    }
    let session = format!("mcp-session-id: {foreign}");
    let own = red
        .send(bridge, "POST /mcp", &[&session, both], &ping)
        .await;
    assert_eq!(own.status, 200, "its owner's session is what it was");
}

/// Nothing of red's was changed by whoever tried.
async fn all_there(bridge: &Bridge, red: &Tenant, things: &Things) {
    let id = |kind: Kind| things[&kind].0.as_str();
    for path in [
        format!("/v1/calls/{}", id(Kind::Call)),
        format!("/v1/sessions/{}", id(Kind::Session)),
        format!("/v1/agents/{}", id(Kind::Agent)),
        format!("/v1/servers/{}", id(Kind::Server)),
        format!("/v1/traces/{}", id(Kind::Trace)),
    ] {
        let reply = red.send(bridge, &format!("GET {path}"), &[], "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
}

/// No list of another tenant's holds anything of red's, nor can he stand where red stands.
async fn sees_nothing(bridge: &Bridge, (things, other): (&Things, &Tenant)) {
    for path in [
        "/v1/calls",
        "/v1/sessions",
        "/v1/servers",
        "/v1/agents",
        "/v1/keys",
        "/v1/audit",
        "/v1/catalog",
        "/v1/events/history?after=0",
        "/v1/workspaces",
    ] {
        let reply = other.send(bridge, &format!("GET {path}"), &[], "").await;
        for secret in secrets(things, &[]) {
            assert!(!reply.text().contains(secret), "{path}: {}", reply.text());
        }
        for workspace in ["x-workspace: red", "x-workspace: not"] {
            let elsewhere = other
                .send(bridge, &format!("GET {path}"), &[workspace], "")
                .await;
            assert_eq!(
                (elsewhere.status, elsewhere.code().as_str()),
                (404, "resource_not_found"),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_another_workspace_s_does_not_exist_even_for_an_admin_of_his_own() {
    let bridge = Bridge::start(GATED).await;
    let red = Tenant::new(&bridge, ("ann", "red"), "admin").await;
    let blue = Tenant::new(&bridge, ("bob", "blue"), "admin").await;
    let things = things(&bridge, &red).await;
    // Before he tries anything: a refused call is in his own record, with the name he gave.
    sees_nothing(&bridge, (&things, &blue)).await;
    let tried = sweep(&bridge, (&things, &blue), &[]).await;
    assert!(tried > 40, "{tried}");
    mcp_sweep(&bridge, (&red, &blue)).await;
    all_there(&bridge, &red, &things).await;
    bridge.stop().await;
}

#[tokio::test]
async fn what_is_another_user_s_of_the_same_workspace_does_not_exist_either() {
    let bridge = Bridge::start(GATED).await;
    let red = Tenant::new(&bridge, ("ann", "red"), "admin").await;
    let carl = Tenant::new(&bridge, ("carl", "red"), "operator").await;
    let things = things(&bridge, &red).await;
    // Servers are the workspace's, and so are its events' numbers.
    let shared = [Kind::Server, Kind::Ref, Kind::Workspace, Kind::Event];
    let tried = sweep(&bridge, (&things, &carl), &shared).await;
    assert!(tried > 15, "{tried}");
    mcp_only_sessions(&bridge, (&red, &carl)).await;
    all_there(&bridge, &red, &things).await;
    bridge.stop().await;
}

async fn mcp_only_sessions(bridge: &Bridge, (red, carl): (&Tenant, &Tenant)) {
    let both = "accept: application/json, text/event-stream";
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let opened = red
        .send(bridge, "POST /mcp", &[both], &hello.to_string())
        .await;
    let session = format!(
        "mcp-session-id: {}",
        opened.header("mcp-session-id").unwrap()
    );
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    assert_eq!(
        carl.send(bridge, "POST /mcp", &[&session, both], &ping)
            .await
            .status,
        404
    );
    assert_eq!(
        red.send(bridge, "POST /mcp", &[&session, both], &ping)
            .await
            .status,
        200
    );
}
