//! What `/openapi.json` promises, held against the real daemon by schemathesis: nothing it can think of, well
//! formed or not, is answered with a 5xx (but 502 to 504, which tell of a server behind the bridge), or with a
//! status, a media type or a body that is not in the document.
//!
//! Left out, and only these: operations that the document itself gives as endless (`text/event-stream`, the WebSocket),
//! and those that would end the run's own key or take its roles.
//! Of the checks, whether valid requests are accepted and invalid ones refused is left out: bounds such as `limit`
//! 1 to 500 stand in words, and an empty parameter counts as none.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::path::Path;
use std::process::Stdio;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::{Bridge, BridgeOptions, request, upstreams};
use tokio::process::Command;

/// Of the run that failed the same requests are made again.
const SEED: u32 = 20_260_728;
/// Where the document is read from; schemathesis does not test that.
const DOCUMENT: &str = "/openapi.json";
/// Requests thought up for each operation, beside the systematic ones.
const EXAMPLES: u32 = 10;
/// How long one run may take; both together stay within two minutes.
const SECONDS: u32 = 50;
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      unsupported_method,ignored_auth";

#[tokio::test]
async fn an_admin_is_answered_as_the_document_says() {
    let bridge = bridge().await;
    let key = bridge.admin_key.clone();
    holds(&bridge, &key).await;
}

#[tokio::test]
async fn a_viewer_is_answered_as_the_document_says() {
    let bridge = bridge().await;
    let user =
        json!({"user": "vera", "workspaces": [{"workspace": "default", "roles": ["viewer"]}]});
    let made = bridge.send("POST", "/v1/users", Some(user)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = bridge
        .send("POST", "/v1/keys", Some(json!({"user": "vera"})))
        .await;
    let key = made.json()["key"].as_str().unwrap().to_owned();
    holds(&bridge, &key).await;
}

async fn bridge() -> Bridge {
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams: vec![upstreams::fixture("modern")],
        extra: String::new(),
        ..BridgeOptions::default()
    })
    .await;
    bridge.wait_for_ref("modern.add").await;
    bridge
}

/// Runs schemathesis over every operation that comes to an end.
async fn holds(bridge: &Bridge, key: &str) {
    let document = bridge.get(DOCUMENT).await;
    let (left_out, tested) = operations(&document);
    assert!(tested > 50, "the document holds {tested} operations");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("rest/.venv/bin/st");
    assert!(
        program.exists(),
        "{} is missing: run `tests/install.sh rest`",
        program.display()
    );
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rest");
    command
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .arg("run")
        .arg(format!("http://{}{DOCUMENT}", bridge.authority))
        .args(["--header", &format!("Authorization: Bearer {key}")])
        .args(["--phases", "coverage,fuzzing", "--checks", CHECKS])
        .args(["--seed", &SEED.to_string()])
        .args(["--max-examples", &EXAMPLES.to_string()])
        .args(["--max-time", &SECONDS.to_string()])
        .args(["--request-timeout", "20", "--workers", "1"])
        // Those judge how easily requests are made up, and how fast, not what is answered.
        .args(["--suppress-health-check", "all"])
        .args(["--continue-on-failure", "--no-color", "--warnings", "off"]);
    for path in &left_out {
        command.args(["--exclude-path", path]);
    }
    command
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace(key, "…");
    assert!(
        output.status.success(),
        "seed {SEED}\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains(&format!("Tested: {tested}")), "{said}");
    let me = Request::get("/v1/me")
        .header("host", &bridge.authority)
        .header("authorization", format!("Bearer {key}"))
        .body(Full::default())
        .unwrap();
    let me = request(&bridge.authority, me).await;
    assert_eq!(me.status, 200, "the key is good to the end");
    println!("seed {SEED}: {tested} operations, left out {left_out:?}");
}

/// Here a run that learnt its own key's id or its user's name from an answer would end that key or take its user's
/// roles away, and prove nothing from then on.
const OWN: [&str; 2] = ["/v1/keys/{key_id}", "/v1/users"];

/// The paths of operations without an end or that end the run's own standing, and how many others there are.
fn operations(document: &Value) -> (Vec<String>, usize) {
    let (mut left_out, mut others) = (Vec::new(), 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap();
        if methods.values().any(is_endless) || OWN.iter().any(|own| path.starts_with(own)) {
            left_out.push(path.clone());
        } else if path != DOCUMENT {
            others += methods.len();
        }
    }
    (left_out, others)
}

fn is_endless(operation: &Value) -> bool {
    let streams = &operation["responses"]["200"]["content"]["text/event-stream"];
    operation["responses"]["101"].is_object() || streams.is_object()
}
