//! The other verbs: which route each asks, and what it prints.

use serde_json::{Value, json};

use crate::bridge::{Bridge, Reply, Seen, problem};
use crate::program::Program;

fn page(items: &Value) -> Reply {
    Reply::Json(200, json!({"items": items, "next_cursor": null}))
}

fn session() -> Value {
    json!({"session_id": "ses_1", "server": "demo", "state": "ready", "isolation": "shared", "era": "legacy", "in_flight": 0, "stderr": ["one", "two"]})
}

fn server() -> Value {
    json!({"name": "demo", "workspace": "default", "version": 3, "source": "api", "definition": {"transport": "stdio", "command": ["npx", "-y", "x"]}})
}

fn answer(seen: &Seen) -> Reply {
    match seen.route().as_str() {
        "GET /v1/sessions" => page(&json!([session()])),
        "GET /v1/sessions/ses_1" | "POST /v1/sessions" | "POST /v1/sessions/ses_1/refresh" => {
            Reply::Json(200, session())
        }
        "GET /v1/resources" => {
            page(&json!([{"server": "demo", "uri": "demo://a b", "name": "a", "summary": "An a"}]))
        }
        "GET /v1/resource-templates" => {
            page(&json!([{"server": "demo", "uri_template": "demo://{id}", "summary": ""}]))
        }
        "GET /v1/prompts" => {
            page(&json!([{"ref": "demo.ask", "shape": "(who)", "summary": "Asks"}]))
        }
        "GET /v1/resources/read" => Reply::Json(
            200,
            json!({"call_id": "call_1", "contents": [{"uri": "demo://a", "text": "hello"}, {"uri": "demo://b", "blob": "AQI="}]}),
        ),
        "POST /v1/prompts/get" => Reply::Json(
            200,
            json!({"messages": [{"role": "user", "content": {"type": "text", "text": "hi bob"}}]}),
        ),
        "GET /v1/calls" => {
            page(&json!([{"call_id": "call_1", "ref": "a.b", "state": "running", "user": "admin"}]))
        }
        "POST /v1/calls/call_1/cancel" => Reply::Json(
            202,
            json!({"call_id": "call_1", "ref": "a.b", "state": "cancelled"}),
        ),
        "GET /v1/events/history" => page(
            &json!([{"id": "1", "ts": "t", "type": "tool_result", "call_id": "call_1", "data": {"ok": true}}]),
        ),
        "GET /v1/traces/abc" => Reply::Json(
            200,
            json!({"trace_id": "abc", "calls": [{"call_id": "call_1", "state": "failed", "ref": "a.b"}], "events": []}),
        ),
        "GET /v1/audit" if seen.queries("format") == ["ndjson"] => {
            Reply::Text(200, "{\"seq\":1}\n{\"seq\":2}\n".to_owned())
        }
        "GET /v1/audit" => Reply::Json(
            200,
            json!({"items": [{"seq": 1, "ts": "t1", "user": "admin", "action": "call", "outcome": "succeeded"}], "next_cursor": "c2"}),
        ),
        _ => answer_about_servers(seen),
    }
}

fn answer_about_servers(seen: &Seen) -> Reply {
    match seen.route().as_str() {
        "GET /v1/servers" | "GET /v1/servers/demo/versions" => page(&json!([server()])),
        "GET /v1/catalog" => Reply::Json(
            200,
            json!({"items": [], "servers": [{"server": "demo", "state": "ready", "tools": 4}]}),
        ),
        "POST /v1/servers" | "PUT /v1/servers/demo" | "POST /v1/servers/demo/rollback" => {
            Reply::Json(200, server())
        }
        "DELETE /v1/servers/demo" | "DELETE /v1/sessions/ses_1" | "DELETE /v1/keys/k1" => {
            Reply::Text(204, String::new())
        }
        "GET /v1/servers/demo/diff" => {
            page(&json!([{"pointer": "/command/2", "from": "x", "to": "y"}]))
        }
        "GET /v1/keys" => page(
            &json!([{"key_id": "k1", "prefix": "pb_k1", "user": "ann", "workspaces": [], "scopes": [], "created_at": "t1", "last_used_at": "t2"}]),
        ),
        "POST /v1/keys" | "POST /v1/keys/k1/rotate" => Reply::Json(
            201,
            json!({"key_id": "k2", "key": "pb_k2_s", "user": "ann"}),
        ),
        "GET /v1/credentials" => Reply::Json(
            200,
            json!({"items": [
                {"server": "demo", "shared": false, "secrets": ["TOKEN"], "grants": [], "updated_at": "t1"},
                {"server": "notes", "shared": true, "secrets": [], "updated_at": "t2",
                    "grants": [{"issuer": "https://id.example", "scope": "read", "token_ends_at": "t3"}]},
            ]}),
        ),
        "POST /v1/credentials/notes/authorize" => Reply::Json(
            200,
            json!({"url": "https://bridge.example/v1/oauth/start?ticket=x", "expires_at": "t4"}),
        ),
        "DELETE /v1/credentials/notes" => Reply::Text(204, String::new()),
        "DELETE /v1/credentials/none" => Reply::Json(404, problem("server_not_found", 404)),
        "POST /v1/credentials/plain/authorize" => Reply::Json(409, problem("conflict", 409)),
        "POST /v1/servers/demo/test" => {
            Reply::Json(200, json!({"ok": true, "tools": 4, "duration_ms": 12}))
        }
        "POST /v1/servers/sick/test" => Reply::Json(
            200,
            json!({"ok": false, "tools": 0, "error": problem("upstream_unreachable", 502)}),
        ),
        other => panic!("{other} was not expected"),
    }
}

#[test]
fn sessions_and_offers_print_their_lines() {
    let bridge = Bridge::answering(answer);
    let program = Program::with(&bridge);
    let cases: [(&[&str], &str); 8] = [
        (
            &["session", "list"],
            "ses_1  demo  ready  isolation=shared era=legacy in_flight=0\n",
        ),
        (
            &["session", "open", "demo", "--lane", "l", "--ttl", "5m"],
            "ses_1  demo  ready  isolation=shared era=legacy in_flight=0\n",
        ),
        (
            &["refresh_session", "ses_1"],
            "ses_1  demo  ready  isolation=shared era=legacy in_flight=0\n",
        ),
        (&["session", "close", "ses_1"], ""),
        (&["resources", "-s", "demo"], "demo demo://a b  An a\n"),
        (&["resources", "--templates"], "demo demo://{id}\n"),
        (&["prompts"], "demo.ask(who)  Asks\n"),
        (&["prompt", "demo.ask", "who=bob"], "user: hi bob\n"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(program.run(arguments).ok(), expected, "{arguments:?}");
    }
    assert_eq!(
        bridge.wait_for("POST /v1/sessions").json(),
        json!({"server": "demo", "lane": "l", "ttl_s": 300})
    );
    assert_eq!(
        bridge.wait_for("POST /v1/prompts/get").json()["arguments"],
        json!({"who": "bob"})
    );
    let sheet = program.run(&["session", "inspect", "ses_1"]).ok();
    assert!(sheet.contains("stderr: \n  one\n  two\n"), "{sheet}");
}

#[test]
fn keys_are_listed_without_secrets_and_a_new_one_is_printed_alone() {
    let bridge = Bridge::answering(answer);
    let program = Program::with(&bridge);
    let cases: [(&[&str], &str); 4] = [
        (
            &["key", "list"],
            "k1  ann  workspaces=[] scopes=[] created_at=t1 last_used_at=t2\n",
        ),
        (
            &[
                "key",
                "create",
                "ann",
                "--scope",
                "git.*",
                "--expires",
                "30d",
            ],
            "pb_k2_s\n",
        ),
        (&["key", "rotate", "k1", "--overlap", "10m"], "pb_k2_s\n"),
        (&["key", "revoke", "k1"], ""),
    ];
    for (arguments, expected) in cases {
        assert_eq!(program.run(arguments).ok(), expected, "{arguments:?}");
    }
    assert_eq!(
        bridge.wait_for("POST /v1/keys").json(),
        json!({"user": "ann", "scopes": ["git.*"], "expires_in_s": 2_592_000})
    );
    assert_eq!(
        bridge.wait_for("POST /v1/keys/k1/rotate").json(),
        json!({"overlap_s": 600})
    );
}

#[test]
fn credentials_are_listed_linked_and_removed() {
    let bridge = Bridge::answering(answer);
    let program = Program::with(&bridge);
    let list = "demo  your own  secrets=[\"TOKEN\"] updated_at=t1\n\
                notes  the workspace's  secrets=[] updated_at=t2  granted by https://id.example scope=read token_ends_at=t3\n";
    let link = "https://bridge.example/v1/oauth/start?ticket=x\n";
    let cases: [(&[&str], &str); 5] = [
        (&["credentials", "list"], list),
        (&["list_credentials"], list),
        (&["credentials", "link", "notes", "--shared"], link),
        (&["credentials", "link", "notes"], link),
        (&["credentials", "remove", "notes", "--shared"], ""),
    ];
    for (arguments, expected) in cases {
        assert_eq!(program.run(arguments).ok(), expected, "{arguments:?}");
    }
    let asked: Vec<Value> = bridge
        .seen()
        .iter()
        .filter(|seen| seen.route() == "POST /v1/credentials/notes/authorize")
        .map(Seen::json)
        .collect();
    assert_eq!(asked, [json!({"shared": true}), json!({"shared": false})]);
    let removed = bridge.wait_for("DELETE /v1/credentials/notes");
    assert_eq!(removed.queries("shared"), ["true"]);
    let told = program
        .run(&["credentials", "link", "notes", "--json"])
        .ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["expires_at"], "t4");
    for (arguments, code) in [
        (["credentials", "remove", "none"], 6),
        (["credentials", "link", "plain"], 10),
    ] {
        assert_eq!(program.run(&arguments).code, code, "{arguments:?}");
    }
}

#[test]
fn records_and_servers_print_their_lines() {
    let bridge = Bridge::answering(answer);
    let program = Program::with(&bridge);
    let cases: [(&[&str], &str); 9] = [
        (
            &["calls", "list", "--state", "running"],
            "call_1  running  a.b  user=admin\n",
        ),
        (&["cancel_call", "call_1"], "call_1  cancelled  a.b  \n"),
        (
            &["events"],
            "1  t  tool_result  call_id=call_1  {\"ok\":true}\n",
        ),
        (&["trace", "abc"], "call_1  failed  a.b  \n"),
        (
            &["audit"],
            "t1  seq=1 user=admin action=call outcome=succeeded\n",
        ),
        (
            &["server", "list"],
            "demo  version=3 source=api transport=stdio command=\"npx -y x\"  state=ready tools=4\n",
        ),
        (
            &["server", "versions", "demo"],
            "demo  version=3 source=api transport=stdio command=\"npx -y x\"\n",
        ),
        (
            &["server", "diff", "demo", "1", "2"],
            "/command/2\n- \"x\"\n+ \"y\"\n",
        ),
        (
            &["server", "test", "demo"],
            "duration_ms: 12\nok: true\ntools: 4\n",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(program.run(arguments).ok(), expected, "{arguments:?}");
    }
}

#[test]
fn a_resource_goes_to_stdout_or_to_a_file() {
    let bridge = Bridge::answering(answer);
    let program = Program::with(&bridge);
    let shown = program.run(&["read", "demo", "demo://a b?c"]).ok();
    assert_eq!(shown.lines().next(), Some("hello"));
    assert_eq!(
        bridge.wait_for("GET /v1/resources/read").queries("uri"),
        ["demo://a b?c"]
    );
    program.run(&["read", "demo", "demo://a", "-o", "out"]).ok();
    assert_eq!(
        std::fs::read(program.home.path().join("out")).unwrap(),
        b"hello\x01\x02"
    );
}

#[test]
fn an_export_follows_every_page() {
    let bridge = Bridge::answering(answer);
    let stdout = Program::with(&bridge)
        .run(&["audit", "export", "--since", "2026-01-01T00:00:00Z"])
        .ok();
    let seqs: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone())
        .collect();
    assert_eq!(seqs, [1, 2]);
    assert_eq!(
        bridge.wait_for("GET /v1/audit").queries("since"),
        ["2026-01-01T00:00:00Z"]
    );
}

#[test]
fn a_server_is_described_by_options_and_a_command() {
    let bridge = Bridge::answering(answer);
    let program = Program::with(&bridge);
    program
        .run(&[
            "server",
            "add",
            "demo",
            "--env",
            "TOKEN=env:T",
            "--env",
            "MODE=fast",
            "--isolation",
            "user",
            "--",
            "npx",
            "-y",
            "x",
        ])
        .ok();
    let seen = bridge.seen();
    assert_eq!(
        seen[0].json(),
        json!({"name": "demo", "definition": {"transport": "stdio", "command": ["npx", "-y", "x"],
        "env": {"TOKEN": {"secret": "env:T"}, "MODE": "fast"}, "isolation": "user"}})
    );
    let ended = program.run(&["server", "add", "demo"]);
    assert_eq!(ended.code, 2);
}

#[test]
fn a_change_names_the_version_it_is_based_on() {
    let bridge = Bridge::answering(answer);
    let program = Program::with(&bridge);
    program.file("d.yaml", "transport: sse\nurl: http://x/sse\n");
    program
        .run(&[
            "server",
            "set",
            "demo",
            "--file",
            "d.yaml",
            "--if-match",
            "3",
        ])
        .ok();
    program
        .run(&[
            "server",
            "set",
            "demo",
            "--at",
            "https://x/mcp",
            "--header",
            "Authorization=Bearer env:T",
        ])
        .ok();
    program.run(&["server", "rollback", "demo", "2"]).ok();
    program.run(&["server", "remove", "demo"]).ok();
    let seen = bridge.seen();
    assert_eq!(
        seen[0].json(),
        json!({"definition": {"transport": "sse", "url": "http://x/sse"}})
    );
    assert_eq!(seen[0].header("if-match"), Some("\"3\""));
    assert_eq!(
        seen[1].json()["definition"]["headers"],
        json!({"Authorization": {"secret": "env:T", "prefix": "Bearer "}})
    );
    assert_eq!(
        (seen[2].json(), seen[2].header("if-match")),
        (json!({"version": 2}), Some("*"))
    );
    assert_eq!(seen[3].header("if-match"), Some("*"));
}

#[test]
fn a_server_that_fails_its_test_gives_its_own_exit_code() {
    let bridge = Bridge::answering(answer);
    let ended = Program::with(&bridge).run(&["server", "test", "sick"]);
    assert_eq!(
        (ended.code, ended.error()["code"].as_str()),
        (4, Some("upstream_unreachable"))
    );
    assert!(
        ended.stdout.starts_with("ok: false") || ended.stdout.contains("\nok: false"),
        "{ended:?}"
    );
}

#[test]
fn completions_and_version_need_no_bridge() {
    let program = Program::alone();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program.run(&["completions", shell]).ok();
        assert!(
            script.contains("paperbot-mcp") && script.len() > 16 * 1024,
            "{shell}"
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        program.run(&["version"]).ok(),
        format!("paperbot-mcp {version}\n")
    );
    assert_eq!(
        program.run(&["--version"]).ok(),
        format!("paperbot-mcp {version}\n")
    );
    assert_eq!(
        program.run(&["version", "--json"]).ok(),
        format!("{{\"version\":\"{version}\"}}\n")
    );
}

#[test]
fn a_configuration_is_checked_by_the_daemon_in_the_path() {
    let program = Program::alone();
    program.file("bridge.yaml", "sesions: {}\n");
    let daemon = program.file(
        "bin/paperbot-mcpd",
        "#!/bin/sh\necho \"$@: line 1, column 9\"\nexit 2\n",
    );
    let absent = program.run(&["config", "validate", "bridge.yaml"]);
    let beside =
        std::path::Path::new(env!("CARGO_BIN_EXE_paperbot-mcp")).with_file_name("paperbot-mcpd");
    if !beside.exists() {
        assert_eq!(absent.code, 2);
        assert!(absent.stderr.contains("PATH"), "{absent:?}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&daemon, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = program.command(&["config", "validate", "bridge.yaml"]);
        let ended: crate::program::Ended = command
            .env("PATH", daemon.parent().unwrap())
            .output()
            .unwrap()
            .into();
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(
            ended.error()["message"]
                .as_str()
                .unwrap()
                .contains("bridge.yaml"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_user_and_a_workspace_are_made() {
    let bridge = Bridge::answering(|seen| Reply::Json(201, seen.json()));
    let program = Program::with(&bridge);
    program.run(&["workspace", "create", "team"]).ok();
    let line = [
        "user", "create", "ann", "--in", "team", "--role", "approver",
    ];
    program.run(&line).ok();
    let seen = bridge.seen();
    assert_eq!(
        bridge.routes(),
        ["POST /v1/workspaces", "POST /v1/users"],
        "{seen:?}"
    );
    assert_eq!(seen[0].json(), json!({"workspace": "team"}));
    assert_eq!(
        seen[1].json(),
        json!({"user": "ann", "workspaces": [{"workspace": "team", "roles": ["approver"]}]})
    );
}
