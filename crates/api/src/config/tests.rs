use std::path::PathBuf;

use super::source::parse;
use super::*;

fn with(environment: &[(&str, &str)]) -> Result<File, ConfigError> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Source {
        path: None,
        environment,
    }
    .load()
}

fn complaint(yaml: &str) -> String {
    parse(yaml, "bridge.yaml").unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(parse("", "x").unwrap(), File::default());
    assert_eq!(parse("# nothing yet\n", "x").unwrap(), File::default());
    assert_eq!(File::default().listen, DEFAULT_LISTEN);
    assert!(File::default().auth.keys);
}

#[test]
fn the_contract_s_own_example_is_read() {
    let file = parse(
        "listen: 127.0.0.1:8787\n\
         public_url: https://bridge.example\n\
         sessions: {idle_s: 1800, ttl_s: 0, max: 10000, max_per_user: 100, heartbeat_s: 30,\n  \
           reconnect: {initial_ms: 500, max_ms: 60000, attempts: 0}}\n\
         limits: {body_bytes: 10485760, result_bytes: 16777216, in_flight_per_user: 64}\n\
         audit: {retention_days: 90}\n\
         telemetry: {log: {format: json, level: info}}\n\
         servers:\n  \
           github: {transport: streamable_http, url: https://mcp.example/mcp, isolation: user, timeout_ms: 60000,\n    \
             headers: {Authorization: {secret: 'env:GITHUB_TOKEN', prefix: 'Bearer '}}}\n  \
           files: {transport: stdio, command: [npx, -y, pkg, /data], env: {}, isolation: shared}\n  \
           old: {transport: sse, url: http://mcp.example/sse}\n",
        "bridge.yaml",
    )
    .unwrap();
    assert_eq!(file.servers().unwrap().len(), 3);
    assert_eq!(file.sessions.limits(), sessions::SessionLimits::default());
    assert_eq!(file.telemetry.log.format, LogFormat::Json);
}

#[test]
fn a_slip_in_a_key_is_told_with_line_column_and_the_key_that_was_meant() {
    let told = complaint("listen: 127.0.0.1:0\nsessions:\n  idel_s: 3\n");
    assert!(told.starts_with("bridge.yaml:3:"), "{told}");
    assert!(
        told.contains("unknown key `idel_s`; did you mean `idle_s`?"),
        "{told}"
    );
}

#[test]
fn broken_yaml_is_located_and_not_quoted() {
    let told = complaint("servers:\n  a: {transport: stdio, env: {TOKEN: hunter2]\n");
    assert!(told.starts_with("bridge.yaml:"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let told = complaint("sessions: {idle_s: \"hunter2\"}\n");
    assert!(told.starts_with("bridge.yaml:1:"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn what_a_later_version_brings_is_refused_and_not_ignored() {
    for (yaml, key) in [
        ("cluster: {nats: nats://127.0.0.1:4222}", "cluster"),
        ("telemetry: {otlp: 'http://127.0.0.1'}", "otlp"),
        ("servers: {calc: {transport: wasm}}", "wasm"),
    ] {
        let told = complaint(yaml);
        assert!(
            told.contains(&format!("`{key}` is not in this version")),
            "{told}"
        );
    }
}

#[test]
fn roles_are_read_with_their_rules_and_complaints_have_a_place() {
    let file = parse(
        "roles:\n  viewer: {allow: ['*.*'], only: read_only}\n  operator: {allow: ['*.*'], confirm: destructive}\n  \
         teller:\n    confirm: ['bank.*']\n    rules:\n      - {tools: [bank.pay], when: [{arg: /amount, op: gt, \
         value: 5}], decision: deny}\n",
        "c",
    );
    let file = file.unwrap();
    assert!(
        file.policy()
            .unwrap()
            .role_names()
            .contains(&"teller".to_owned())
    );
    let again = serde_json::from_value(serde_json::to_value(&file).unwrap());
    assert_eq!(
        file,
        again.unwrap(),
        "as overriding by the environment needs it"
    );
    for (rule, place) in [
        ("allow: [\"bank. pay\"]", "c:3:"),
        ("confirm: sometimes", "c:3:"),
        (
            "rules: [{tools: [a.b], when: [{arg: amount, op: gt, value: 5}], decision: deny}]",
            "c:3:",
        ),
        (
            "rules: [{tools: [a.b], when: [{arg: /a, op: gt, value: x}], decision: deny}]",
            "c:3:",
        ),
        ("rules: [{tools: [a.b], decision: perhaps}]", "c:3:"),
        ("rules: [{tools: [a.b], decision: deny, wen: []}]", "c:3:"),
    ] {
        let error = parse(&format!("roles:\n  teller:\n    {rule}\n"), "c").unwrap_err();
        assert!(error.place.starts_with(place), "{rule}: {error}");
    }
    let hidden = "roles: {a: {rules: [{tools: [x.y], decision: hide, when: [{arg: /a, op: eq, value: 1}]}]}}";
    let error = parse(hidden, "c").unwrap().policy().unwrap_err();
    assert_eq!(error.place, "/roles/a/rules/0/when");
    let long = with(&[("PAPERBOT__CONFIRM_TTL_S", "301")]).unwrap_err();
    assert!(long.to_string().contains("1 to 300"), "{long}");
}

#[test]
fn the_environment_overrides_keys_by_type() {
    let file = with(&[
        ("PAPERBOT__LISTEN", "127.0.0.1:9"),
        ("PAPERBOT__SESSIONS__IDLE_S", "60"),
        (
            "PAPERBOT__AUTH__TRUSTED_ORIGINS",
            "[https://studio.example]",
        ),
        ("PAPERBOT__TELEMETRY__LOG__FORMAT", "json"),
        ("PAPERBOT__SERVERS__WEB__TRANSPORT", "streamable_http"),
    ])
    .unwrap();
    assert_eq!(file.listen, "127.0.0.1:9");
    assert_eq!(file.sessions.idle_s, 60);
    assert_eq!(file.auth.trusted_origins, ["https://studio.example"]);
    assert_eq!(file.telemetry.log.format, LogFormat::Json);
    assert!(file.servers.contains_key("web"));
}

#[test]
fn a_bad_override_names_its_variable_and_not_its_value() {
    let error = with(&[("PAPERBOT__SESSIONS__IDLE_S", "hunter2")]).unwrap_err();
    assert_eq!(error.place, "PAPERBOT__SESSIONS__IDLE_S");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = with(&[("PAPERBOT__SESIONS__IDLE_S", "1")]).unwrap_err();
    assert!(error.detail.contains("did you mean `sessions`?"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_said_so_without_its_directory() {
    let path = PathBuf::from("/nowhere/at/all/bridge.yaml");
    let source = Source {
        path: Some(path),
        environment: Vec::new(),
    };
    let told = source.load().unwrap_err().to_string();
    assert!(told.starts_with("bridge.yaml: cannot be read"), "{told}");
    assert!(!told.contains("/nowhere"), "{told}");
}

#[test]
fn names_of_a_servers_variables_keep_their_case() {
    let file = with(&[
        ("PAPERBOT__SERVERS__DEMO__TRANSPORT", "stdio"),
        ("PAPERBOT__SERVERS__DEMO__ENV__LOG_LEVEL", "debug"),
    ])
    .unwrap();
    let names: Vec<&String> = file.servers["demo"].env.keys().collect();
    assert_eq!(names, ["LOG_LEVEL"]);
}

#[test]
fn a_number_for_a_variable_is_told_in_words() {
    let told = complaint("servers:\n  a: {transport: stdio, command: [x], env: {PORT: 8080}}\n");
    assert!(told.contains("expected text in quotes"), "{told}");
}

#[test]
fn what_no_type_can_say_is_told_with_the_files_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, "confirm_ttl_s: 301\n").unwrap();
    let source = Source {
        path: Some(path),
        environment: Vec::new(),
    };
    let told = source.load().unwrap_err().to_string();
    assert!(
        told.starts_with("bridge.yaml: /confirm_ttl_s: must"),
        "{told}"
    );
}

#[test]
fn frequent_slips_in_a_file_are_told_in_words() {
    for (yaml, words) in [
        (
            "servers: {a: {transport: stdio, command: npx -y hunter2}}",
            "[npx, -y, PACKAGE]",
        ),
        (
            "servers: {a: {transport: http}}",
            "known: stdio, streamable_http, sse, tunnel",
        ),
        (
            "servers: {a: {transport: stdio, command: [x], isolation: everyone}}",
            "known: shared, user, lane, call",
        ),
        ("zebra: 1", "known: listen, public_url"),
        (
            "servers: {a: {transport: stdio, command: [x], args: [y]}}",
            "arguments belong in `command`",
        ),
        ("mcpServers: {}", "paperbot-mcp config import FILE"),
        (
            "servers:\n  a: {transport: stdio, command: [x]}\n  a: {transport: stdio, command: [x]}\n",
            "bridge.yaml:3:3: the key `a` is there twice",
        ),
    ] {
        let told = complaint(yaml);
        assert!(told.contains(words), "{yaml}: {told}");
        assert!(
            !told.contains("hunter2") && !told.contains("Options"),
            "{told}"
        );
    }
}

#[test]
fn a_variable_with_one_underscore_is_told_and_others_of_the_family_stay() {
    for (name, meant) in [
        (
            "PAPERBOT_SESSIONS__IDLE_S",
            "did you mean PAPERBOT__SESSIONS__IDLE_S?",
        ),
        ("PAPERBOT_LISTEN", "did you mean PAPERBOT__LISTEN?"),
    ] {
        let told = with(&[(name, "60")]).unwrap_err().to_string();
        assert!(told.contains(meant), "{told}");
    }
    for name in [
        "PAPERBOT_TOKEN",
        "PAPERBOT_CONFIG",
        "PAPERBOT_URL",
        "PAPERBOT_LOG",
    ] {
        assert_eq!(super::source::meant_by(name), None, "{name}");
    }
}

#[test]
fn levels_are_levels_and_every_origin_is_named() {
    let level = |level| with(&[("PAPERBOT__TELEMETRY__LOG__LEVEL", level)]);
    for good in [
        "info",
        "WARN",
        "off",
        "info,broker=debug",
        "broker=trace",
        "[call{id=1}]=debug",
    ] {
        assert!(level(good).is_ok(), "{good}");
    }
    for bad in ["loud", "info,broker", "broker=loud", ""] {
        let told = level(bad).unwrap_err().to_string();
        assert!(told.contains("/telemetry/log/level"), "{told}");
    }
    let told = level("loud").unwrap_err().to_string();
    assert!(told.contains("error, warn, info, debug, trace"), "{told}");
    let told = with(&[("PAPERBOT__AUTH__TRUSTED_ORIGINS", "['*']")]);
    assert!(told.unwrap_err().to_string().contains("on purpose"));
}

#[test]
fn values_without_sense_are_refused() {
    for (name, value) in [
        ("PAPERBOT__STORE", "mysql://x"),
        ("PAPERBOT__STORE", "/var/lib/x.db"),
        ("PAPERBOT__LISTEN", ":8787"),
        ("PAPERBOT__LIMITS__BODY_BYTES", "0"),
        ("PAPERBOT__PUBLIC_URL", "bridge"),
        (
            "PAPERBOT__AUTH__TRUSTED_ORIGINS",
            "['https://a.example/path']",
        ),
        ("PAPERBOT__SERVERS__BAD_NAME__TRANSPORT", "stdio"),
    ] {
        assert!(with(&[(name, value)]).is_err(), "{name}");
    }
}

#[test]
fn the_schema_knows_every_section_and_refuses_others() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    for key in [
        "listen", "auth", "sessions", "limits", "servers", "shutdown",
    ] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn a_reload_says_what_waits_for_a_restart() {
    let old = File::default();
    let mut new = File {
        listen: "127.0.0.1:1".to_owned(),
        docs_public: true,
        ..File::default()
    };
    new.limits.body_bytes = 7;
    assert_eq!(old.needs_restart(&new), ["listen", "limits"]);
    assert!(old.needs_restart(&old).is_empty());
}

#[test]
fn a_sealing_key_is_read_and_one_that_is_none_or_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let keys = |content: &str, mode: u32| {
        let file = folder.path().join("key");
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let yaml = format!("secrets: {{key_file: '{}'}}\n", file.display());
        let file = parse(&yaml, "bridge.yaml").unwrap();
        file.sealing_keys().map_err(|error| error.to_string())
    };
    let good = "0f".repeat(32);
    assert!(keys(&format!("{good}\n"), 0o600).unwrap().is_some());
    let told = keys(&good, 0o644).unwrap_err();
    assert!(told.contains("chmod 600"), "{told}");
    let told = keys("0f0f", 0o600).unwrap_err();
    assert!(
        told.contains("32 random bytes") && !told.contains("0f0f"),
        "{told}"
    );
    assert!(File::default().sealing_keys().unwrap().is_none());
    let both = parse("secrets: {key_file: /a, key_env: B}\n", "x").unwrap();
    assert!(both.sealing_keys().is_err());
    let alone = parse("secrets: {old_key_files: [/a]}\n", "x").unwrap();
    assert!(alone.sealing_keys().is_err());
}
