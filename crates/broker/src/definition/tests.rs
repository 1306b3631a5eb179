use super::*;

fn parse(json: &str) -> Definition {
    serde_json::from_str(json).unwrap()
}

fn check(json: &str, author: Author) -> Result<Checked, Vec<String>> {
    check_with(json, author, &Secrets::default())
}

/// With a sealing key.
fn check_sealed(json: &str, author: Author) -> Result<Checked, Vec<String>> {
    check_with(json, author, &Secrets::new(true))
}

fn check_with(json: &str, author: Author, secrets: &Secrets) -> Result<Checked, Vec<String>> {
    let gate = Gate {
        author,
        secrets,
        outbound: &OutboundPolicy::default(),
    };
    parse(json)
        .to_target(&ServerName::new("s").unwrap(), 1, &gate)
        .map_err(|error| error.errors.into_iter().map(|e| e.pointer).collect())
}

#[test]
fn every_complaint_comes_at_once() {
    let pointers = check(
        r#"{"transport":"streamable_http","url":"ftp://x","command":["a"],"timeout_ms":0,
            "headers":{"Host":"x","X-Line":"a\r\nb","bad name":"x"},"allow_private":true}"#,
        Author::Admin,
    )
    .unwrap_err();
    for wanted in [
        "/url",
        "/command",
        "/timeout_ms",
        "/headers/Host",
        "/headers/X-Line",
        "/headers/bad name",
        "/allow_private",
    ] {
        assert!(
            pointers.contains(&wanted.to_owned()),
            "{wanted} in {pointers:?}"
        );
    }
}

#[test]
fn a_literal_in_a_secret_field_is_refused_and_a_reference_is_resolved() {
    let bad = check(
        r#"{"transport":"sse","url":"https://x/sse","headers":{"Authorization":"Bearer abc"}}"#,
        Author::File,
    );
    assert_eq!(bad.unwrap_err(), ["/headers/Authorization"]);
    let path = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let good = check(
        r#"{"transport":"stdio","command":["x"],"env":{"API_KEY":{"secret":"env:CARGO_MANIFEST_DIR","prefix":"p-"},"MAX_TOKENS":"5"}}"#,
        Author::Admin,
    )
    .unwrap();
    let Lead::Server(target) = &good.lead else {
        panic!("one server");
    };
    let transports::Endpoint::Stdio(spec) = &target.spec.endpoint else {
        panic!("stdio");
    };
    assert_eq!(
        secrecy::ExposeSecret::expose_secret(&spec.env["API_KEY"]),
        format!("p-{path}")
    );
    assert_eq!(
        good.redactions.clean(&format!("at {path}!")),
        "at [redacted]!"
    );
    assert!(!format!("{good:?}").contains(&path));
}

#[test]
fn store_and_vault_references_say_that_they_are_not_available() {
    for scheme in ["store:x", "vault:a#b"] {
        let json = format!(
            r#"{{"transport":"stdio","command":["x"],"env":{{"TOKEN":{{"secret":"{scheme}"}}}}}}"#
        );
        assert_eq!(
            check(&json, Author::File).unwrap_err(),
            ["/env/TOKEN/secret"]
        );
    }
}

#[test]
fn with_a_sealing_key_store_references_are_left_for_each_caller() {
    let json = r#"{"transport":"stdio","command":["x"],"env":{"TOKEN":{"secret":"store:key","prefix":"p-"}}}"#;
    let needs = check_sealed(json, Author::Admin).unwrap().needs.unwrap();
    let (name, need) = &needs.env[0];
    assert_eq!(
        (name.as_str(), need.secret.as_str(), need.prefix.as_str()),
        ("TOKEN", "key", "p-")
    );
    let json = r#"{"transport":"sse","url":"https://x/sse","headers":{"Authorization":{"secret":"store:key"}}}"#;
    let needs = check_sealed(json, Author::Operator).unwrap().needs.unwrap();
    assert_eq!(needs.headers.len(), 1);
    assert!(needs.oauth.is_none(), "it authorizes itself");
    for (name, place) in [
        ("store:", "/env/TOKEN/secret"),
        ("store:a b", "/env/TOKEN/secret"),
    ] {
        let json = format!(
            r#"{{"transport":"stdio","command":["x"],"env":{{"TOKEN":{{"secret":"{name}"}}}}}}"#
        );
        assert_eq!(check_sealed(&json, Author::Admin).unwrap_err(), [place]);
    }
    let by_agent = r#"{"transport":"stdio","command":["x"],"runner":"agent","env":{"TOKEN":{"secret":"store:key"}}}"#;
    assert_eq!(
        check_sealed(by_agent, Author::Admin).unwrap_err(),
        ["/env/TOKEN"]
    );
}

#[test]
fn grants_are_declared_only_where_they_can_be_kept_and_sent() {
    let http =
        |rest: &str| format!(r#"{{"transport":"streamable_http","url":"https://x/mcp",{rest}}}"#);
    let plain = http(r#""auth":{"oauth":{"scopes":["a"],"issuer":"https://as"}}"#);
    let needs = check_sealed(&plain, Author::Operator)
        .unwrap()
        .needs
        .unwrap();
    let oauth = needs.oauth.as_ref().unwrap();
    assert!(oauth.declared && oauth.issuer.as_deref() == Some("https://as"));
    assert_eq!(check(&plain, Author::File).unwrap_err(), ["/auth"]);
    let both = http(r#""auth":{"oauth":{}},"headers":{"Authorization":{"secret":"store:key"}}"#);
    assert_eq!(check_sealed(&both, Author::Admin).unwrap_err(), ["/auth"]);
    let literal = http(r#""auth":{"oauth":{"client_id":"c","client_secret":"CANARY"}}"#);
    let refused = check_sealed(&literal, Author::Admin).unwrap_err();
    assert_eq!(refused, ["/auth/oauth/client_secret"]);
    let scope = http(r#""auth":{"oauth":{"scopes":["a b"]}}"#);
    assert_eq!(
        check_sealed(&scope, Author::Admin).unwrap_err(),
        ["/auth/oauth/scopes"]
    );
    let shared = http(r#""isolation":"shared","auth":{"oauth":{}}"#);
    assert_eq!(
        check_sealed(&shared, Author::Operator).unwrap_err(),
        ["/isolation"]
    );
    let child = r#"{"transport":"stdio","command":["x"],"auth":{"oauth":{}}}"#;
    assert_eq!(check_sealed(child, Author::Admin).unwrap_err(), ["/auth"]);
}

#[test]
fn loader_variables_come_only_from_the_file() {
    for name in [
        "LD_PRELOAD",
        "PATH",
        "PYTHONPATH",
        "https_proxy",
        "NODE_OPTIONS",
        "BASH_ENV",
    ] {
        let json = format!(r#"{{"transport":"stdio","command":["x"],"env":{{"{name}":"v"}}}}"#);
        assert_eq!(
            check(&json, Author::Admin).unwrap_err(),
            [format!("/env/{name}")]
        );
        assert!(check(&json, Author::File).is_ok(), "{name}");
    }
    let fine = r#"{"transport":"stdio","command":["x"],"env":{"PYTHONUNBUFFERED":"1"}}"#;
    assert!(check(fine, Author::Admin).is_ok());
}

#[test]
fn an_operator_names_no_command_and_reads_no_secret_of_the_bridge() {
    assert_eq!(
        check(
            r#"{"transport":"stdio","command":["sh"]}"#,
            Author::Operator
        )
        .unwrap_err(),
        ["/command"]
    );
    let steal = r#"{"transport":"sse","url":"https://x/","headers":{"X-A":{"secret":"env:HOME"}},"hints":{"*":{"read_only":true}}}"#;
    assert_eq!(
        check(steal, Author::Operator).unwrap_err(),
        ["/hints", "/headers/X-A"]
    );
    assert!(
        check(
            r#"{"transport":"sse","url":"https://x/sse"}"#,
            Author::Operator
        )
        .is_ok()
    );
}

#[test]
fn secrets_stand_neither_in_a_command_nor_in_a_url() {
    assert_eq!(
        check(
            r#"{"transport":"stdio","command":["x","--api-key","abc"]}"#,
            Author::File
        )
        .unwrap_err(),
        ["/command/1"]
    );
    assert_eq!(
        check(
            r#"{"transport":"stdio","command":["x","--token=abc"]}"#,
            Author::File
        )
        .unwrap_err(),
        ["/command/1"]
    );
    assert!(
        check(
            r#"{"transport":"stdio","command":["x","--tokens","5"]}"#,
            Author::File
        )
        .is_ok()
    );
    assert_eq!(
        check(
            r#"{"transport":"sse","url":"https://u:p@x/"}"#,
            Author::File
        )
        .unwrap_err(),
        ["/url"]
    );
    assert_eq!(
        check(
            r#"{"transport":"sse","url":"https://x/?api_key=1"}"#,
            Author::File
        )
        .unwrap_err(),
        ["/url"]
    );
}

#[test]
fn the_owner_corrects_hints_by_name_and_by_star() {
    let definition = parse(
        r#"{"transport":"stdio","command":["x"],"hints":{"*":{"read_only":true},"rm":{"read_only":false,"destructive":true}}}"#,
    );
    assert!(definition.corrected("ls", Hints::default()).read_only);
    assert!(!definition.corrected("rm", Hints::default()).read_only);
    assert!(definition.corrected("ls", Hints::default()).destructive);
}

#[test]
fn a_private_address_is_for_the_file_that_allows_it() {
    let local = r#"{"transport":"streamable_http","url":"http://127.0.0.1:1/mcp"}"#;
    for author in [Author::Operator, Author::Admin, Author::File] {
        assert_eq!(check(local, author).unwrap_err(), ["/url"], "{author:?}");
    }
    let allowed =
        r#"{"transport":"streamable_http","url":"http://127.0.0.1:1/mcp","allow_private":true}"#;
    assert!(check(allowed, Author::File).is_ok());
    assert_eq!(
        check(allowed, Author::Admin).unwrap_err(),
        ["/allow_private"]
    );
}
