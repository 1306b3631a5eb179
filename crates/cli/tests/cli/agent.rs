//! `agent` but for `run`, and `config` for an agent's file.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::bridge::{Bridge, Reply};
use crate::program::Program;

const GOOD: &str = "version: 1\nserver: {url: \"wss://bridge.example\", token: literal-t0ken}\nagent: {id: my-laptop}\nmcp_servers:\n  - name: files\n    command: npx\n    env: {API_KEY: l1teral-key, OTHER: {secret: \"env:OTHER\"}}\n";

fn mode(program: &Program, path: &str) -> u32 {
    let data = std::fs::metadata(program.home.path().join(path)).unwrap();
    data.permissions().mode() & 0o777
}

#[test]
fn an_agents_file_is_validated_by_its_content_and_a_mistake_has_a_place() {
    let program = Program::alone();
    program.file("good.yaml", GOOD);
    let valid = program.run(&["config", "validate", "good.yaml"]).ok();
    assert_eq!(valid, "valid: agent my-laptop, 1 servers\n");
    program.file("bad.yaml", &GOOD.replace("command", "comand"));
    let bad = program.run(&["config", "validate", "bad.yaml"]);
    assert_eq!(bad.code, 2);
    let words = bad.error()["message"].to_string();
    assert!(
        words.contains("bad.yaml:6:5: unknown key `comand`; did you mean `command`?"),
        "{words}"
    );
    assert!(!bad.stderr.contains("l1teral"), "{}", bad.stderr);
}

#[test]
fn apply_checks_before_it_writes_and_keeps_one_backup() {
    let program = Program::alone();
    program.file("new.yaml", GOOD);
    let place = ".config/paperbot/config.yaml";
    let bad = GOOD.replace("files", "Files");
    program.file("bad.yaml", &bad);
    assert_eq!(
        program.run(&["config", "apply", "--file", "bad.yaml"]).code,
        2
    );
    assert!(
        !program.home.path().join(place).exists(),
        "nothing was written"
    );

    program.run(&["config", "apply", "--file", "new.yaml"]).ok();
    assert_eq!(program.read(place), GOOD);
    assert_eq!(
        (mode(&program, place), mode(&program, ".config/paperbot")),
        (0o600, 0o700)
    );

    // An old file that others could read is not left so, nor is its copy.
    let old = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(program.home.path().join(place), old).unwrap();
    let newer = GOOD.replace("my-laptop", "my-laptop-2");
    program.file("new.yaml", &newer);
    program.run(&["config", "apply", "--file", "new.yaml"]).ok();
    let backup = ".config/paperbot/config.yaml.bak";
    assert_eq!(
        (program.read(place), program.read(backup)),
        (newer.clone(), GOOD.to_owned())
    );
    assert_eq!(
        (mode(&program, place), mode(&program, backup)),
        (0o600, 0o600)
    );

    assert_eq!(
        program.run(&["config", "apply", "--file", "bad.yaml"]).code,
        2
    );
    assert_eq!(program.read(place), newer, "a bad file changes nothing");
    let left = std::fs::read_dir(program.home.path().join(".config/paperbot")).unwrap();
    assert_eq!(
        left.count(),
        2,
        "the file and one backup, no temporary file"
    );
}

#[test]
fn a_bridges_file_is_applied_only_where_it_is_told_to() {
    let program = Program::alone();
    program.file("bridge.yaml", "listen: 127.0.0.1:1\n");
    let ended = program.run(&["config", "apply", "--file", "bridge.yaml"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("--to"), "{}", ended.stderr);
}

#[test]
fn show_masks_every_literal_that_may_be_a_secret() {
    let program = Program::alone();
    program.file(".paperbot/config.yaml", GOOD);
    for arguments in [&["config", "show"][..], &["config", "show", "--json"][..]] {
        let shown = program.run(arguments).ok();
        assert!(
            !shown.contains("l1teral") && !shown.contains("literal"),
            "{shown}"
        );
        assert!(
            shown.contains("env:OTHER") && shown.contains("wss://bridge.example"),
            "{shown}"
        );
    }
}

#[test]
fn the_projects_file_goes_before_the_users_and_stops_at_the_repository() {
    let program = Program::alone();
    let other = |id: &str| GOOD.replace("my-laptop", id);
    program.file(".paperbot/config.yaml", &other("above-all"));
    program.file(".config/paperbot/config.yaml", &other("the-user"));
    program.file("repo/.git/HEAD", "");
    program.file("repo/deep/er/x", "");
    let found = |directory: &str| {
        let mut command = program.command(&["config", "validate"]);
        let output = command
            .current_dir(program.home.path().join(directory))
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(
        found("repo/deep/er").contains("the-user"),
        "not beyond the repository's root"
    );
    program.file("repo/.paperbot/config.yaml", &other("the-repo"));
    assert!(found("repo/deep/er").contains("the-repo"));
}

#[test]
fn nothing_found_says_where_was_looked() {
    let ended = Program::alone().run(&["agent", "run"]);
    assert_eq!(ended.code, 2);
    let error = ended.error();
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains(".paperbot/config.yaml"),
        "{error}"
    );
    assert!(
        error["hint"].as_str().unwrap().contains("agent pair"),
        "{error}"
    );
}

#[test]
fn a_secret_that_is_not_there_is_named_before_anything_runs() {
    let program = Program::alone();
    program.file(".paperbot/config.yaml", GOOD);
    let ended = program.run(&["agent", "run"]);
    assert_eq!(ended.code, 2);
    let words = ended.error()["message"].to_string();
    assert!(
        words.contains("files: env.OTHER: the environment variable OTHER is not set"),
        "{words}"
    );
}

#[test]
fn install_prints_the_unit_and_writes_it_only_when_told() {
    let program = Program::alone();
    program.file("a dir/config.yaml", GOOD);
    let unit = program
        .run(&["agent", "install", "--config", "a dir/config.yaml"])
        .ok();
    let path = ".config/systemd/user/paperbot-agent-my-laptop.service";
    assert!(!program.home.path().join(path).exists());
    let run = format!(
        "agent run --config \"{}/a dir/config.yaml\"",
        program.home.path().display()
    );
    assert!(
        unit.contains(&run) && unit.contains("Restart=always"),
        "{unit}"
    );
    assert!(
        !unit.contains("l1teral") && !unit.contains("t0ken"),
        "{unit}"
    );
    program
        .run(&[
            "agent",
            "install",
            "--config",
            "a dir/config.yaml",
            "--write",
        ])
        .ok();
    assert_eq!(program.read(path), unit);
    program
        .run(&["agent", "uninstall", "--config", "a dir/config.yaml"])
        .ok();
    assert!(
        program.home.path().join(path).exists(),
        "named, not removed"
    );
    program
        .run(&[
            "agent",
            "uninstall",
            "--config",
            "a dir/config.yaml",
            "--write",
        ])
        .ok();
    assert!(!program.home.path().join(path).exists());
}

#[test]
fn status_says_that_nothing_ran_here() {
    let ended = Program::alone().run(&["agent", "status"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (6, ""));
}

#[test]
fn pairing_waits_for_a_person_and_keeps_the_token_to_itself() {
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let bridge = Bridge::answering(move |seen| match seen.route().as_str() {
        "POST /v1/agents/pair" => Reply::Json(
            201,
            json!({"code": "KX-42", "poll_token": "p0ll", "expires_at": "2030-01-01T00:00:00Z"}),
        ),
        "POST /v1/agents/pair/poll" => {
            assert_eq!(seen.json()["poll_token"], "p0ll");
            let first = looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            if first {
                return Reply::Json(200, json!({"status": "pending"}));
            }
            Reply::Json(
                200,
                json!({"status": "approved", "agent_id": "my-laptop", "token": "t0ken-of-the-agent",
                       "tunnel_url": "wss://bridge.example/v1/agents/tunnel"}),
            )
        }
        other => panic!("{other}"),
    });
    let program = Program::with(&bridge);
    let ended = program.run(&["agent", "pair", "--id", "my-laptop", "--label", "a laptop"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("KX-42"), "{}", ended.stderr);
    assert!(
        !ended.stderr.contains("t0ken") && !ended.stdout.contains("t0ken"),
        "{ended:?}"
    );
    let path = ".config/paperbot/agents/my-laptop.token";
    assert_eq!(program.read(path), "t0ken-of-the-agent\n");
    assert_eq!(mode(&program, path), 0o600);
    // What was printed is a file that works.
    program.file("first.yaml", &ended.stdout);
    program
        .run(&["config", "apply", "--file", "first.yaml"])
        .ok();
    assert_eq!(bridge.seen()[0].json()["label"], "a laptop");
}

#[test]
fn a_pair_nobody_confirmed_is_over() {
    let bridge = Bridge::answering(|seen| match seen.path.as_str() {
        "/v1/agents/pair" => Reply::Json(
            201,
            json!({"code": "KX-42", "poll_token": "p0ll", "expires_at": "2030-01-01T00:00:00Z"}),
        ),
        _ => Reply::Json(200, json!({"status": "expired"})),
    });
    let ended = Program::with(&bridge).run(&["agent", "pair"]);
    assert_eq!(
        (ended.code, ended.error()["code"].clone()),
        (8, json!("pairing_expired"))
    );
}

#[test]
fn agents_are_listed_one_a_line() {
    let bridge = Bridge::saying(
        200,
        json!({"items": [
            {"agent_id": "my-laptop", "status": "online", "label": "a laptop", "in_flight": 2},
            {"agent_id": "old-one", "status": "offline"},
        ]}),
    );
    let lines = Program::with(&bridge).run(&["agent", "list"]).ok();
    assert_eq!(
        lines,
        "my-laptop  online  label=a laptop in_flight=2\nold-one  offline  \n"
    );
    assert_eq!(bridge.routes(), ["GET /v1/agents"]);
}
