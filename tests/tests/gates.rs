//! Gates through the real daemon: what must be approved, tokens and what they are bound to, held calls, keys, and
//! `kill -9` at every moment of a confirmed call that acts.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use nix::sys::signal::Signal;
use rand::RngExt as _;
use serde_json::{Value, json};
use testkit::chaos::seeded;
use testkit::upstreams::{Upstream, built};
use testkit::{Bridge, BridgeOptions, Reply, eventually};
use tokio::task::JoinSet;

/// Everything that may act must be confirmed; operators by themselves, users of the role `careful` by another.
const ROLES: &str = r#"
roles:
  operator: {allow: ["*.*"], confirm: not_read_only, self_confirm: true}
  careful:
    allow: ["*.*"]
    confirm: not_read_only
    rules:
      - {tools: ["bank.slow"], when: [{arg: /ms, op: gt, value: 100}], decision: deny}
  keyed: {allow: ["*.*"], require_idempotency_key: true}
"#;

/// A daemon over the server whose effects are counted.
struct Rig {
    bridge: Bridge,
    effects: PathBuf,
    _folder: tempfile::TempDir,
}

fn bank(effects: &Path) -> Upstream {
    let (server, effects) = (built("chaos-server"), effects.display());
    let command = json!([server, effects.to_string()]);
    Upstream {
        name: "bank",
        yaml: format!("    transport: stdio\n    command: {command}\n    isolation: shared\n"),
    }
}

impl Rig {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let effects = folder.path().join("effects");
        let bridge = Bridge::start_with(BridgeOptions {
            upstreams: vec![bank(&effects)],
            extra: ROLES.to_owned(),
            ..BridgeOptions::default()
        })
        .await;
        bridge.wait_for_ref("bank.quick").await;
        Self {
            bridge,
            effects,
            _folder: folder,
        }
    }

    /// A key of a new user with one role.
    async fn key(&self, user: &str, role: &str) -> String {
        let wish = json!({"user": user, "workspaces": [{"workspace": "default", "roles": [role]}]});
        let made = self.bridge.send("POST", "/v1/users", Some(wish)).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = self
            .bridge
            .send("POST", "/v1/keys", Some(json!({"user": user})))
            .await;
        made.json()["key"].as_str().unwrap().to_owned()
    }

    fn lines(&self) -> HashMap<String, usize> {
        counted(&self.effects)
    }
}

fn counted(effects: &Path) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in std::fs::read_to_string(effects).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

async fn send(bridge: &Bridge, key: &str, line: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {key}");
    let body = (!body.is_null()).then(|| body.clone());
    bridge
        .send_with(line, &[("authorization", &bearer)], body)
        .await
}

async fn call(bridge: &Bridge, key: &str, body: &Value) -> Reply {
    send(bridge, key, "POST /v1/calls", body).await
}

fn quick(line: &str) -> Value {
    json!({"ref": "bank.quick", "arguments": {"line": line}})
}

fn with(mut body: Value, member: &str, value: &Value) -> Value {
    body[member] = value.clone();
    body
}

/// Asks and says what must be approved.
async fn asked(bridge: &Bridge, key: &str, body: &Value) -> Value {
    let refused = call(bridge, key, body).await;
    assert_eq!(refused.status, 428, "{}", refused.text());
    let problem = refused.json();
    assert_eq!(problem["code"], "confirmation_required");
    assert_eq!(
        (&problem["executed"], &problem["retryable"]),
        (&json!("no"), &json!(true))
    );
    problem["approval"].clone()
}

/// A token for one's own call, where policy leaves it to the caller.
async fn token(bridge: &Bridge, key: &str, body: &Value) -> Value {
    let approval = asked(bridge, key, body).await;
    assert_eq!(approval["self_confirm"], true);
    let token = approval["confirm_token"].clone();
    assert!(token.is_string(), "{approval}");
    token
}

async fn decide(bridge: &Bridge, key: &str, approval: &Value, decision: &str) -> Reply {
    let line = format!("POST /v1/approvals/{}", approval["id"].as_str().unwrap());
    send(bridge, key, &line, &json!({"decision": decision})).await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn another_person_approves_and_only_they() {
    let rig = Rig::start().await;
    let bridge = &rig.bridge;
    let (ann, bob) = (
        rig.key("ann", "careful").await,
        rig.key("bob", "careful").await,
    );
    let eve = rig.key("eve", "approver").await;
    let body = quick("one");
    let approval = asked(bridge, &ann, &body).await;
    assert_eq!(approval["self_confirm"], false);
    assert!(approval["confirm_token"].is_null(), "{approval}");
    let preview = &approval["preview"];
    assert_eq!(preview["summary"], "ann calls bank.quick (may destroy)");
    assert_eq!(preview["arguments"]["line"], "one");
    assert_eq!(preview["annotations"]["destructive"], true);
    assert_eq!(
        asked(bridge, &ann, &body).await["id"],
        approval["id"],
        "asked once for the same call"
    );
    // Nobody else may see it, the caller may not decide it, and an approver may.
    let id = approval["id"].as_str().unwrap();
    let unknown = send(
        bridge,
        &bob,
        &format!("GET /v1/approvals/{id}"),
        &Value::Null,
    )
    .await;
    assert_eq!(unknown.status, 404);
    assert_eq!(decide(bridge, &bob, &approval, "approve").await.status, 404);
    assert_eq!(decide(bridge, &ann, &approval, "approve").await.status, 403);
    let listed = send(
        bridge,
        &eve,
        "GET /v1/approvals?state=pending",
        &Value::Null,
    )
    .await
    .json();
    assert_eq!(listed["items"][0]["approval_id"], approval["id"]);
    assert_eq!(listed["items"][0]["decidable"], true);
    let decided = decide(bridge, &eve, &approval, "approve").await;
    assert_eq!(decided.status, 200, "{}", decided.text());
    let token = decided.json()["confirm_token"].clone();
    assert_eq!(
        decide(bridge, &eve, &approval, "deny").await.status,
        409,
        "decided once"
    );
    assert!(rig.lines().is_empty());
    let done = call(bridge, &ann, &with(body.clone(), "confirm_token", &token)).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let again = call(bridge, &ann, &with(body.clone(), "confirm_token", &token)).await;
    assert_eq!(again.json()["code"], "confirmation_invalid");
    assert_eq!(rig.lines()["one"], 1);
    // What was called before is told to whoever decides next, and a denial ends it.
    let next = asked(bridge, &ann, &quick("two")).await;
    assert_eq!(next["preview"]["history"][0]["state"], "succeeded");
    let denied = decide(bridge, &eve, &next, "deny").await.json();
    assert!(denied["confirm_token"].is_null(), "{denied}");
    let audit = bridge.get("/v1/audit?limit=200").await.to_string();
    for act in [
        "approval_approved",
        "approval_denied",
        "policy_changed",
        "confirmation_required",
    ] {
        assert!(audit.contains(act), "{act}");
    }
    let events = bridge.get("/v1/events/history?limit=500").await.to_string();
    assert!(events.contains("approval_requested") && events.contains("approval_decided"));
}

#[tokio::test]
async fn a_token_is_bound_to_each_of_its_parts_and_wrong_tries_do_not_spend_it() {
    let rig = Rig::start().await;
    let bridge = &rig.bridge;
    let (ann, bob) = (
        rig.key("ann", "operator").await,
        rig.key("bob", "operator").await,
    );
    let body = with(quick("bound"), "arguments", &json!({"line": "bound"}));
    let token = token(bridge, &ann, &body).await;
    let text = token.as_str().unwrap();
    let flipped = if text.ends_with('A') { "B" } else { "A" };
    let forged = json!(format!("{}{flipped}", &text[..text.len() - 1]));
    let confirmed = with(body.clone(), "confirm_token", &token);
    let other = with(confirmed.clone(), "arguments", &json!({"line": "other"}));
    let tool = json!({"ref": "bank.slow", "arguments": {"line": "bound", "ms": 0}, "confirm_token": token});
    for (key, wrong, what) in [
        (&ann, other, "arguments"),
        (&ann, tool, "tool"),
        (&bob, confirmed.clone(), "user"),
        (
            &ann,
            with(body.clone(), "confirm_token", &forged),
            "signature",
        ),
        (
            &ann,
            with(body.clone(), "confirm_token", &json!("pbc_")),
            "nothing",
        ),
        (
            &ann,
            with(body.clone(), "confirm_token", &json!("x".repeat(10_000))),
            "length",
        ),
    ] {
        let refused = call(bridge, key, &wrong).await;
        assert_eq!(refused.status, 403, "{what}: {}", refused.text());
        assert_eq!(refused.json()["code"], "confirmation_invalid", "{what}");
    }
    assert!(rig.lines().is_empty());
    let reordered =
        json!({"confirm_token": token, "arguments": {"line": "bound"}, "ref": "bank.quick"});
    let done = call(bridge, &ann, &reordered).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(rig.lines(), HashMap::from([("bound".to_owned(), 1)]));
}

#[tokio::test]
async fn of_fifty_uses_of_one_token_at_once_one_wins() {
    let rig = Rig::start().await;
    let ann = rig.key("ann", "operator").await;
    let token = token(&rig.bridge, &ann, &quick("race")).await;
    let body = with(quick("race"), "confirm_token", &token);
    let bridge = Arc::new(rig.bridge);
    let mut tries = JoinSet::new();
    for _ in 0..50 {
        let (bridge, ann, body) = (Arc::clone(&bridge), ann.clone(), body.clone());
        tries.spawn(async move { call(&bridge, &ann, &body).await });
    }
    let ends = tries.join_all().await;
    let won = ends.iter().filter(|reply| reply.status == 200).count();
    let lost = ends
        .iter()
        .filter(|reply| reply.json()["code"] == "confirmation_invalid")
        .count();
    let codes: Vec<_> = ends.iter().map(Reply::text).collect();
    assert_eq!((won, lost), (1, 49), "{codes:?}");
    let late = call(&bridge, &ann, &body).await;
    assert_eq!(late.status, 403, "{}", late.text());
    assert_eq!(counted(&rig.effects)["race"], 1);
}

#[tokio::test]
async fn a_hundred_equal_requests_with_one_key_have_one_effect_and_one_answer() {
    let rig = Rig::start().await;
    let key = rig.key("ann", "keyed").await;
    let unkeyed = call(&rig.bridge, &key, &quick("none")).await;
    assert_eq!(
        (unkeyed.status.as_u16(), &unkeyed.json()["code"]),
        (400, &json!("invalid_request"))
    );
    assert!(
        unkeyed.json()["hint"]
            .as_str()
            .unwrap()
            .contains("Idempotency-Key")
    );
    let bridge = Arc::new(rig.bridge);
    let mut tries = JoinSet::new();
    for _ in 0..100 {
        let (bridge, key) = (Arc::clone(&bridge), key.clone());
        tries.spawn(async move {
            let bearer = format!("Bearer {key}");
            let headers = [
                ("authorization", bearer.as_str()),
                ("idempotency-key", "same"),
            ];
            let reply = bridge
                .send_with("POST /v1/calls", &headers, Some(quick("keyed")))
                .await;
            (reply.status.as_u16(), reply.json()["call_id"].clone())
        });
    }
    let ends = tries.join_all().await;
    // Sixty-four of one user may be in flight; those over it were refused before anything was written.
    let ids: Vec<&Value> = ends
        .iter()
        .filter(|(status, _)| *status == 200)
        .map(|(_, id)| id)
        .collect();
    assert!(
        ids.len() >= 64 && ids.iter().all(|id| *id == ids[0]),
        "{ends:?}"
    );
    assert_eq!(counted(&rig.effects)["keyed"], 1);
}

/// The keyed and confirmed call is answered from the first run before any token is asked for.
#[tokio::test]
async fn a_repeat_is_answered_before_a_token_is_asked_and_a_refusal_uses_no_key_up() {
    let rig = Rig::start().await;
    let bridge = &rig.bridge;
    let ann = rig.key("ann", "operator").await;
    let bearer = format!("Bearer {ann}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k")];
    let keyed = async |body: Value| {
        bridge
            .send_with("POST /v1/calls", &headers, Some(body))
            .await
    };
    let refused = keyed(quick("repeat")).await;
    assert_eq!(refused.status, 428, "{}", refused.text());
    let token = refused.json()["approval"]["confirm_token"].clone();
    let first = keyed(with(quick("repeat"), "confirm_token", &token)).await;
    assert_eq!(first.status, 200, "{}", first.text());
    for body in [
        quick("repeat"),
        with(quick("repeat"), "confirm_token", &token),
    ] {
        let again = keyed(body).await;
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(again.json()["replayed"], true);
        assert_eq!(again.json()["call_id"], first.json()["call_id"]);
    }
    let other = keyed(quick("another")).await;
    assert_eq!(other.json()["code"], "idempotency_mismatch");
    assert_eq!(rig.lines(), HashMap::from([("repeat".to_owned(), 1)]));
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_held_call_runs_when_it_is_approved_and_ends_when_it_is_not() {
    let mut rig = Rig::start().await;
    let ann = rig.key("ann", "careful").await;
    let eve = rig.key("eve", "approver").await;
    let bearer = format!("Bearer {ann}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("prefer", "respond-async"),
        ("idempotency-key", "held"),
    ];
    let put_off = async |bridge: &Bridge, line: &str, headers: &[(&str, &str)]| {
        let held = bridge
            .send_with("POST /v1/calls", headers, Some(quick(line)))
            .await;
        assert_eq!(held.status, 202, "{}", held.text());
        let held = held.json();
        assert_eq!(held["state"], "awaiting_approval", "{held}");
        (
            format!(
                "GET /v1/calls/{}?wait_ms=20000",
                held["call_id"].as_str().unwrap()
            ),
            held,
        )
    };
    let (path, held) = put_off(&rig.bridge, "held", &headers).await;
    let decided = decide(&rig.bridge, &eve, &held["approval"], "approve")
        .await
        .json();
    assert_eq!(decided["call_id"], held["call_id"], "{decided}");
    assert!(decided["confirm_token"].is_null(), "{decided}");
    let end = send(&rig.bridge, &ann, &path, &Value::Null).await.json();
    assert_eq!(end["state"], "succeeded", "{end}");
    let keyless = &headers[..2];
    let (path, held) = put_off(&rig.bridge, "denied", keyless).await;
    assert_eq!(
        decide(&rig.bridge, &eve, &held["approval"], "deny")
            .await
            .status,
        200
    );
    let end = send(&rig.bridge, &ann, &path, &Value::Null).await.json();
    assert_eq!(
        (&end["state"], &end["error"]["code"]),
        (&json!("failed"), &json!("policy_denied")),
        "{end}"
    );
    // Roles that were taken away meanwhile count.
    let (path, held) = put_off(&rig.bridge, "demoted", keyless).await;
    let viewer =
        json!({"user": "ann", "workspaces": [{"workspace": "default", "roles": ["viewer"]}]});
    rig.bridge.send("POST", "/v1/users", Some(viewer)).await;
    assert_eq!(
        decide(&rig.bridge, &eve, &held["approval"], "approve")
            .await
            .status,
        200
    );
    let end = send(&rig.bridge, &ann, &path, &Value::Null).await.json();
    assert_eq!(
        (&end["state"], &end["error"]["code"]),
        (&json!("failed"), &json!("policy_denied")),
        "{end}"
    );
    // One that is held when the bridge is killed ends with it, and its key is free again.
    let careful =
        json!({"user": "ann", "workspaces": [{"workspace": "default", "roles": ["careful"]}]});
    rig.bridge.send("POST", "/v1/users", Some(careful)).await;
    let headers = [headers[0], headers[1], ("idempotency-key", "killed")];
    let (path, held) = put_off(&rig.bridge, "killed", &headers).await;
    rig.bridge.crash_and_restart().await;
    let end = send(&rig.bridge, &ann, &path, &Value::Null).await.json();
    assert_eq!(
        (&end["state"], &end["error"]["executed"]),
        (&json!("cancelled"), &json!("no")),
        "{end}"
    );
    assert_eq!(
        decide(&rig.bridge, &eve, &held["approval"], "approve")
            .await
            .status,
        409
    );
    let (_, anew) = put_off(&rig.bridge, "killed", &headers).await;
    assert_ne!(anew["call_id"], held["call_id"]);
    assert_eq!(rig.lines(), HashMap::from([("held".to_owned(), 1)]));
}

#[tokio::test]
async fn without_a_signing_key_nothing_passes() {
    let mut rig = Rig::start().await;
    let ann = rig.key("ann", "operator").await;
    let token = token(&rig.bridge, &ann, &quick("closed")).await;
    let path = format!("{}/data/paperbot/bridge.db", rig.bridge.home().display());
    rig.bridge.signal(Signal::SIGKILL);
    rig.bridge.wait_exit().await;
    let gone = "UPDATE signing_secrets SET secret = '' WHERE name = 'confirm-token'";
    let changed = testkit::sqlite::execute(Path::new(&path), gone).await;
    assert_eq!(changed, 1, "the key stands where the test looks for it");
    rig.bridge.restart().await;
    for body in [
        quick("closed"),
        with(quick("closed"), "confirm_token", &token),
    ] {
        let refused = call(&rig.bridge, &ann, &body).await;
        assert_eq!(refused.status, 500, "{}", refused.text());
        assert!(refused.json()["approval"].is_null(), "{}", refused.text());
    }
    assert!(rig.lines().is_empty());
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_dry_run_explains_and_a_reload_changes_what_is_allowed() {
    let rig = Rig::start().await;
    let bridge = &rig.bridge;
    let ann = rig.key("ann", "careful").await;
    let dry = async |ms: u64| {
        let body =
            json!({"ref": "bank.slow", "arguments": {"line": "dry", "ms": ms}, "dry_run": true});
        let said = call(bridge, &ann, &body).await;
        assert_eq!(said.status, 200, "{}", said.text());
        (said.json()["decision"].clone(), said.json()["rule"].clone())
    };
    assert_eq!(
        dry(5).await,
        (json!("confirm"), json!("roles.careful.confirm"))
    );
    assert_eq!(
        dry(500).await,
        (json!("deny"), json!("roles.careful.rules[0]"))
    );
    let slow = json!({"ref": "bank.slow", "arguments": {"line": "slow", "ms": 500}});
    assert_eq!(
        call(bridge, &ann, &slow).await.json()["code"],
        "policy_denied"
    );
    let shown = send(bridge, &ann, "GET /v1/catalog?fields=names", &Value::Null)
        .await
        .text();
    assert!(
        shown.contains("bank.quick") && shown.contains("bank.slow"),
        "{shown}"
    );
    let token = {
        let eve = rig.key("eve", "approver").await;
        let approval = asked(bridge, &ann, &quick("late")).await;
        decide(bridge, &eve, &approval, "approve").await.json()["confirm_token"].clone()
    };
    let file = bridge.config_path();
    let before = std::fs::read_to_string(&file).unwrap();
    let hidden = before.replace(
        "  careful:\n",
        "  careful:\n    hide: [\"bank.quick\", \"bank.noisy\"]\n",
    );
    std::fs::write(&file, &hidden).unwrap();
    bridge.post("/v1/admin/reload", json!({})).await;
    let shown = send(bridge, &ann, "GET /v1/catalog?fields=names", &Value::Null)
        .await
        .text();
    assert!(
        !shown.contains("bank.quick") && shown.contains("bank.slow"),
        "{shown}"
    );
    // The token of before is dead with the tool.
    let late = call(bridge, &ann, &with(quick("late"), "confirm_token", &token)).await;
    assert_eq!(late.status, 404, "{}", late.text());
    // A rule that cannot be read changes nothing and is told with its place.
    let bad = hidden.replace("op: gt", "op: above");
    std::fs::write(&file, &bad).unwrap();
    let refused = bridge
        .send("POST", "/v1/admin/reload", Some(json!({})))
        .await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(
        refused.json()["errors"][0]["pointer"]
            .as_str()
            .unwrap()
            .starts_with("bridge.yaml:"),
        "{}",
        refused.text()
    );
    assert_eq!(dry(500).await.0, "deny");
    assert!(rig.lines().is_empty());
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_model_on_either_mcp_face_is_given_no_token_and_passes_with_one() {
    let rig = Rig::start().await;
    let bridge = &rig.bridge;
    let ann = rig.key("ann", "operator").await;
    let bearer = format!("Bearer {ann}");
    let rpc = async |path: &str, params: Value| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", params["name"].as_str().unwrap()),
        ];
        let mut params = params.clone();
        let meta = params
            .as_object_mut()
            .unwrap()
            .entry("_meta")
            .or_insert_with(|| json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "t", "version": "1"});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let reply = bridge
            .send_with(&format!("POST {path}"), &headers, Some(body))
            .await;
        let text = reply.text();
        let json = text
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .unwrap_or(&text);
        serde_json::from_str::<Value>(json).unwrap_or_else(|_| panic!("{text}"))
    };
    let own = json!({"name": "quick", "arguments": {"line": "own"}});
    let any = json!({"name": "call_tool", "arguments": {"ref": "bank.quick", "arguments": {"line": "any"}}});
    // Few tools are passed through whole, so the deferred face is asked by its own name and by theirs.
    for (path, params, line) in [("/mcp/bank", own, "own"), ("/mcp", any, "any")] {
        let refused = rpc(path, params.clone()).await;
        assert_eq!(refused["result"]["isError"], true, "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("confirmation_required") && text.contains("apr_"),
            "{text}"
        );
        assert!(
            !text.contains("pbc_"),
            "a model was given the token: {text}"
        );
        let token = token(bridge, &ann, &quick(line)).await;
        let mut confirmed = params.clone();
        if path == "/mcp" {
            confirmed["arguments"]["confirm_token"] = token;
        } else {
            confirmed["_meta"] = json!({"io.paperbot/confirm_token": token});
        }
        let done = rpc(path, confirmed).await;
        assert_eq!(
            done["result"]["content"][0]["text"],
            format!("did {line}"),
            "{done}"
        );
    }
    assert_eq!(rig.lines().len(), 2);
}

#[tokio::test]
async fn the_command_line_tells_what_to_approve_and_approves_at_a_terminal_only() {
    let rig = Rig::start().await;
    let run = async |arguments: &[&str]| rig.bridge.cli(arguments).await;
    let refused = run(&["call", "bank.quick", "line=cli"]).await;
    assert_eq!(refused.code, 7, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("paperbot-mcp approve apr_"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("pbc_"), "{}", refused.stderr);
    let line = refused.stderr.lines().last().unwrap();
    let error: Value = serde_json::from_str(line).unwrap();
    let id = error["error"]["approval"]["id"].as_str().unwrap();
    let listed = run(&["approve"]).await;
    assert!(listed.stdout.contains(id), "{}", listed.stdout);
    for verb in ["approve", "deny"] {
        let decided = run(&[verb, id]).await;
        assert_eq!(decided.code, 2, "{}", decided.stderr);
        assert!(decided.stderr.contains("terminal"), "{}", decided.stderr);
    }
    let admin = rig.bridge.admin_key.clone();
    let token = token(&rig.bridge, &admin, &quick("cli")).await;
    let done = run(&[
        "call",
        "bank.quick",
        "line=cli",
        "--confirm",
        token.as_str().unwrap(),
    ])
    .await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(rig.lines()["cli"], 1);
}

/// Sixty confirmed calls, the bridge killed at another moment of each: before, while and after the server acts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn sixty_kills_during_confirmed_calls_double_no_effect_and_free_no_token() {
    const ROUNDS: usize = 60;
    let mut random = seeded("kills during confirmed calls");
    let mut rig = Rig::start().await;
    let ann = rig.key("ann", "operator").await;
    let (mut reached, mut done) = (0, 0);
    for round in 0..ROUNDS {
        let line = format!("round-{round}");
        let body = json!({"ref": "bank.slow", "arguments": {"line": line, "ms": random.random_range(0..12)}});
        let token = token(&rig.bridge, &ann, &body).await;
        let confirmed = with(body, "confirm_token", &token);
        let wait = Duration::from_micros(random.random_range(0..25_000));
        let authority = rig.bridge.authority.clone();
        let request = post(&rig.bridge, &ann, &confirmed);
        // It goes on until the kill: a caller who leaves would cancel the call.
        let calling = tokio::spawn(async move {
            let reply = testkit::http::try_request(&authority, request).await;
            reply.is_ok_and(|reply| reply.status == 200)
        });
        tokio::time::sleep(wait).await;
        rig.bridge.crash_and_restart().await;
        done += usize::from(calling.await.unwrap());
        rig.bridge.wait_for_ref("bank.slow").await;
        let effects = rig.lines().get(&line).copied().unwrap_or(0);
        assert!(effects <= 1, "{line}: {effects} effects");
        let begun = counted(&rig.effects.with_added_extension("begun"));
        let acted = begun.get(&line).copied().unwrap_or(0);
        assert!(acted <= 1, "{line} was begun {acted} times");
        // No effect without an intent: every round that reached the server is in the ledger.
        let ledger = send(
            &rig.bridge,
            &ann,
            "GET /v1/calls?ref=bank.slow&limit=500",
            &Value::Null,
        )
        .await
        .json();
        let intents = intents(&ledger);
        reached += acted;
        assert!(
            intents >= reached,
            "{line}: {intents} intents for {reached} effects"
        );
        // What was spent stays spent; what was not is good once more, and then never again.
        let again = call(&rig.bridge, &ann, &confirmed).await;
        let spent = again.json()["code"] == "confirmation_invalid";
        assert!(
            spent || (acted == 0 && again.status == 200),
            "{line}: {}",
            again.text()
        );
        if !spent {
            reached += 1;
        }
        let third = call(&rig.bridge, &ann, &confirmed).await;
        assert_eq!(third.json()["code"], "confirmation_invalid", "{line}");
    }
    // A server that was killed with its bridge may still finish what it began.
    eventually("the last effects", || async {
        rig.lines().values().all(|count| *count == 1).then_some(())
    })
    .await;
    eprintln!(
        "{ROUNDS} kills: {reached} calls reached the server, {done} were answered before the kill"
    );
    assert!(reached > 0);
}

/// Calls that were let through to the server.
fn intents(ledger: &Value) -> usize {
    let calls = ledger["items"].as_array().unwrap();
    let passed = |call: &&Value| {
        let code = call["error"]["code"].as_str().unwrap_or_default();
        !code.starts_with("confirmation_")
    };
    calls.iter().filter(passed).count()
}

fn post(bridge: &Bridge, key: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post("/v1/calls")
        .header("host", &bridge.authority)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}
