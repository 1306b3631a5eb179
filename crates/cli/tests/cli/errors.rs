//! Failures: one line on stderr, an exit code for each family, nothing on stdout.

use serde_json::json;

use crate::bridge::{Bridge, Reply, problem};
use crate::program::Program;

#[test]
fn every_code_of_the_list_has_its_exit_code() {
    let cases = [
        ("invalid_request", 400, 2),
        ("unauthenticated", 401, 3),
        ("policy_denied", 403, 7),
        ("tool_not_found", 404, 6),
        ("schema_changed", 409, 10),
        ("version_conflict", 412, 10),
        ("invalid_arguments", 422, 2),
        ("confirmation_required", 428, 7),
        ("rate_limited", 429, 9),
        ("cancelled", 409, 130),
        ("internal", 500, 1),
        ("upstream_exited", 502, 4),
        ("upstream_needs_auth", 502, 3),
        ("circuit_open", 503, 9),
        ("upstream_timeout", 504, 8),
        ("a_code_of_a_newer_bridge", 418, 1),
    ];
    for (code, status, exit) in cases {
        let bridge = Bridge::saying(status, problem(code, status));
        let ended = Program::with(&bridge).run(&["call", "a.b"]);
        assert_eq!(ended.code, exit, "{code}");
        assert_eq!(ended.stdout, "", "{code}");
        assert_eq!(ended.stderr.lines().count(), 1, "{code}: {}", ended.stderr);
        assert!(
            ended.stderr.starts_with("{\"error\":{\"code\":"),
            "{ended:?}"
        );
        assert_eq!(ended.error()["code"], code);
    }
}

#[test]
fn the_line_holds_what_an_agent_needs_to_repair_in_one_step() {
    let mut refusal = problem("invalid_arguments", 422);
    refusal["hint"] = json!("get-sum(a: number, b: number)");
    refusal["errors"] = json!([{"pointer": "/arguments/b", "detail": "expected number"}]);
    refusal["call_id"] = json!("call_1");
    let bridge = Bridge::saying(422, refusal);
    let error = Program::with(&bridge).run(&["call", "a.b"]).error();
    assert_eq!(
        error,
        json!({
            "code": "invalid_arguments", "message": "what went wrong", "hint": "get-sum(a: number, b: number)",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "retryable": false, "executed": "no",
            "errors": [{"pointer": "/arguments/b", "detail": "expected number"}], "call_id": "call_1",
        })
    );
}

#[test]
fn a_confirmation_carries_its_approval_and_a_busy_bridge_its_patience() {
    let mut refusal = problem("confirmation_required", 428);
    refusal["retryable"] = json!(true);
    refusal["approval"] = json!({"id": "apr_1", "confirm_token": "tok"});
    let bridge = Bridge::answering(move |_| Reply::With(428, "retry-after", "7", refusal.clone()));
    let error = Program::with(&bridge).run(&["call", "a.b"]).error();
    // Whoever reads this may be a model: it learns what waits, and not the token.
    assert_eq!(error["approval"], json!({"id": "apr_1"}));
    assert_eq!(
        (&error["retry_after_s"], &error["retryable"]),
        (&json!(7), &json!(true))
    );
}

#[test]
fn an_absent_bridge_is_exit_4_with_how_to_start_one() {
    let bridge = Bridge::saying(200, json!({}));
    let program = Program::with(&bridge);
    let ended = program.run(&["find", "--url", "http://127.0.0.1:9"]);
    assert_eq!(ended.code, 4, "{ended:?}");
    let error = ended.error();
    assert_eq!(
        (&error["code"], &error["executed"], &error["retryable"]),
        (&json!("bridge_unreachable"), &json!("no"), &json!(true))
    );
    assert!(
        error["hint"].as_str().unwrap().contains("make run"),
        "{error}"
    );
}

#[test]
fn an_answer_that_is_no_bridges_is_told_as_such() {
    let bridge = Bridge::answering(|_| Reply::Text(404, "<html>not here</html>".to_owned()));
    let ended = Program::with(&bridge).run(&["find"]);
    assert_eq!(
        (ended.code, ended.error()["code"].as_str()),
        (4, Some("bridge_protocol"))
    );
    let bridge = Bridge::answering(|_| Reply::Text(200, "<html>welcome</html>".to_owned()));
    let ended = Program::with(&bridge).run(&["find"]);
    assert_eq!(
        (ended.code, ended.error()["code"].as_str()),
        (4, Some("bridge_protocol"))
    );
}

#[test]
fn a_deadline_of_the_users_own_is_sent_and_named() {
    let bridge = Bridge::answering(|seen| match seen.method.as_str() {
        "GET" => Reply::Json(
            200,
            json!({"call_id": "call_1", "state": "running", "trace_id": "t"}),
        ),
        _ => Reply::Silence,
    });
    let ended = Program::with(&bridge).run(&["calls", "wait", "call_1", "--timeout", "50ms"]);
    assert_eq!(
        (ended.code, ended.error()["executed"].as_str()),
        (8, Some("unknown"))
    );
}

#[test]
fn near_misses_say_what_was_meant() {
    let program = Program::alone();
    for (line, meant) in [
        (vec!["fnd"], "find"),
        (vec!["lst_catalog"], "list_catalog"),
        (vec!["call_tol"], "call_tool"),
        (vec!["opensession"], "open_session"),
        (vec!["sesion", "list"], "session"),
        (vec!["find", "--limt", "3"], "--limit"),
        (vec!["connect", "claude-cod"], "claude-code"),
    ] {
        let ended = program.run(&line);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{line:?}");
        let hint = ended.error()["hint"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(hint.contains(&format!("`{meant}`")), "{line:?}: {hint}");
    }
}

#[test]
fn lines_in_another_form_say_which_form_there_is() {
    let program = Program::alone();
    for (line, said) in [
        (vec!["serve"], "paperbot-mcpd serve"),
        (vec!["session"], "open, list, inspect, close, refresh"),
        (vec!["calls"], "list, get, wait, cancel, input"),
        (vec!["call", "demo.add", "--a", "1"], "name=value"),
        (vec!["server", "add", "x", "npx", "-y", "foo"], "after `--`"),
        (vec!["calls", "list", "--since", "yesterday"], "1h"),
        (vec!["audit", "list", "--until", "yesterday"], "RFC 3339"),
        (
            vec![
                "server",
                "add",
                "x",
                "--at",
                "https://a.example",
                "--header",
                "Authorization: Bearer hunter2=",
            ],
            "--header takes NAME=VALUE",
        ),
        (vec!["find", "-n", "many"], "many"),
    ] {
        let ended = program.run(&line);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (2, ""),
            "{line:?}: {ended:?}"
        );
        assert!(ended.stderr.contains(said), "{line:?}: {ended:?}");
        assert!(!ended.stderr.contains("For more information"), "{ended:?}");
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
    let help = program.run(&["user", "create", "--help"]).ok();
    assert!(help.contains("an operator of `default`"), "{help}");
}

#[test]
fn a_key_for_nobody_says_how_to_make_the_user() {
    let bridge = Bridge::saying(404, problem("resource_not_found", 404));
    let error = Program::with(&bridge)
        .run(&["key", "create", "ann"])
        .error();
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains("paperbot-mcp user create ann"), "{hint}");
}

#[test]
fn help_for_no_tool_names_the_verb_that_finds_some() {
    let items = json!({"items": [{"ref": "demo.nope", "missing": true}]});
    let bridge = Bridge::saying(200, items);
    let ended = Program::with(&bridge).run(&["help", "demo.nope"]);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("paperbot-mcp find WORDS"), "{said}");
}

#[test]
fn a_token_is_never_an_argument_and_never_shown() {
    let bridge = Bridge::saying(401, problem("unauthenticated", 401));
    let program = Program::with(&bridge);
    let ended = program.run(&["find", "-v"]);
    assert_eq!(ended.code, 3);
    assert!(!ended.stderr.contains("pb_test_token"), "{ended:?}");
    let ended = program.run(&["find", "--token", "pb_x"]);
    assert_eq!(ended.code, 2);
    let ended = program.run(&["find", "--url", "http://user:pw@127.0.0.1:9"]);
    assert_eq!(ended.code, 2);
    assert!(!ended.stderr.contains("pw"), "{ended:?}");
}

#[test]
fn credentials_come_from_the_environment_a_file_the_profile_or_the_daemons_key() {
    let bridge = Bridge::saying(
        200,
        json!({"items": [], "servers": [], "catalog_hash": "a"}),
    );
    let program = Program::with(&bridge);
    let ask = |arguments: &[&str]| {
        let mut command = program.command(arguments);
        let ended: crate::program::Ended = command
            .env_remove("PAPERBOT_TOKEN")
            .output()
            .unwrap()
            .into();
        ended.ok();
        let seen = bridge.seen().pop().unwrap();
        let found = |name| seen.header(name).map(str::to_owned);
        (found("authorization"), found("x-workspace"))
    };
    assert_eq!(ask(&["find"]), (None, None));
    program.file(".local/state/paperbot/admin.key", "pb_admin_key\n");
    assert_eq!(ask(&["find"]).0.unwrap(), "Bearer pb_admin_key");
    let key = program.file("keys/other", "pb_profile_key");
    program.file(
        ".config/paperbot/cli.yaml",
        &format!(
            "profiles:\n  work:\n    token_file: {}\n    workspace: team\n",
            key.display()
        ),
    );
    let (token, workspace) = ask(&["find", "--profile", "work"]);
    assert_eq!(
        (token.unwrap().as_str(), workspace.as_deref()),
        ("Bearer pb_profile_key", Some("team"))
    );
    let file = program.file("keys/file", "pb_file_key");
    let (token, workspace) = ask(&[
        "find",
        "--profile",
        "work",
        "--token-file",
        file.to_str().unwrap(),
        "--workspace",
        "w2",
    ]);
    assert_eq!(
        (token.unwrap().as_str(), workspace.as_deref()),
        ("Bearer pb_file_key", Some("w2"))
    );
}

#[test]
fn a_wrong_profile_is_told_with_those_there_are() {
    let program = Program::alone();
    program.file(
        ".config/paperbot/cli.yaml",
        "profiles: {home: {}, work: {}}\n",
    );
    let ended = program.run(&["find", "--profile", "wrk"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended.error()["message"]
            .as_str()
            .unwrap()
            .contains("home, work")
    );
    program.file(
        ".config/paperbot/cli.yaml",
        "profiles:\n  work: {urll: x}\n",
    );
    let message = program.run(&["find", "--profile", "work"]).error()["message"].to_string();
    assert!(message.contains("line 2"), "{message}");
}

#[test]
fn an_address_without_its_scheme_is_told_with_it() {
    for address in ["127.0.0.1:8787", "localhost:8787"] {
        let ended = Program::alone().run(&["find", "--url", address]);
        assert_eq!(ended.code, 2);
        let hint = ended.error()["hint"].to_string();
        let meant = format!("did you mean http://{address}?");
        assert!(hint.contains(&meant), "{hint}");
    }
}
