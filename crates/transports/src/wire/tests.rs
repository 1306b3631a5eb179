use super::*;

const MODERN: EraMeta<'static> = EraMeta::Modern {
    members: "\"v\":\"2026-07-28\"",
    log_level: None,
};

fn request(params: Params, meta: Params) -> Request {
    Request {
        params,
        meta,
        ..Request::new("tools/call", Duration::ZERO)
    }
}

fn with_progress(request: Request) -> Request {
    Request {
        progress: Some(mpsc::channel(1).0),
        ..request
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

#[test]
fn a_request_is_one_line_with_its_payload_untouched() {
    let arguments =
        RawValue::from_string("{\n \"a\": 1.0,\r\n \"a\": 1e400, \"s\":\"x\\ny\"}".into()).unwrap();
    let params = Params::default()
        .with_text("name", "say \"hi\"")
        .with("arguments", arguments);
    let meta = Params::default().with_text("traceparent", "00-1-2-01");
    let line = encode_request(7, &with_progress(request(params, meta)), MODERN);
    assert_eq!(
        line,
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"say \\\"hi\\\"\",\
         \"arguments\":{  \"a\": 1.0,   \"a\": 1e400, \"s\":\"x\\ny\"},\
         \"_meta\":{\"v\":\"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{},\"progressToken\":7,\
         \"traceparent\":\"00-1-2-01\"}}}"
    );
}

#[test]
fn a_request_without_meta_has_none() {
    let own = Params::default().with("progressToken", raw("1"));
    for meta in [Params::default(), own] {
        let line = encode_request(1, &request(Params::default(), meta), EraMeta::Legacy);
        assert_eq!(
            line,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#
        );
    }
}

#[test]
fn what_is_the_protocols_own_is_said_once_and_by_us() {
    let name = |name: &str| format!("io.modelcontextprotocol/{name}");
    let mut meta = Params::default().with("progressToken", raw("\"theirs\""));
    for own in [
        "protocolVersion",
        "clientInfo",
        "clientCapabilities",
        "logLevel",
    ] {
        meta = meta.with(name(own), raw("\"theirs\""));
    }
    let meta = meta.with(name("related-task"), raw(r#"{"taskId":"t"}"#));
    let asked = Request {
        client_capabilities: Some(Arc::from(raw(r#"{"elicitation":{}}"#))),
        log_level: Some(LogLevel::Info),
        ..with_progress(request(Params::default(), meta))
    };
    let connection = EraMeta::Modern {
        members: "\"v\":1",
        log_level: Some(LogLevel::Error),
    };
    let line = encode_request(9, &asked, connection);
    let (_, meta) = line.split_once("\"_meta\":").unwrap();
    assert_eq!(
        meta,
        "{\"v\":1,\"io.modelcontextprotocol/clientCapabilities\":{\"elicitation\":{}},\
         \"io.modelcontextprotocol/logLevel\":\"info\",\"progressToken\":9,\
         \"io.modelcontextprotocol/related-task\":{\"taskId\":\"t\"}}}}"
    );
    // A legacy server could take the members for those of a modern request.
    let legacy = encode_request(9, &asked, EraMeta::Legacy);
    assert!(!legacy.contains("theirs") && !legacy.contains("clientCapabilities"));
    assert!(legacy.contains("related-task"), "{legacy}");
}

#[test]
fn a_level_of_the_connection_is_sent_where_the_request_names_none() {
    let connection = EraMeta::Modern {
        members: "\"v\":1",
        log_level: Some(LogLevel::Error),
    };
    let line = encode_request(
        1,
        &request(Params::default(), Params::default()),
        connection,
    );
    assert!(
        line.contains(r#""io.modelcontextprotocol/logLevel":"error""#),
        "{line}"
    );
}

#[test]
fn no_object_of_a_request_has_two_members_of_one_name() {
    for count in [2, 40] {
        let mut many = Params::default();
        for round in 0..2 {
            for number in 0..count {
                many = many.with(format!("m{number}"), raw(&(10 * round).to_string()));
            }
        }
        let many = many.with("_meta", raw("{}"));
        let line = encode_request(1, &request(many.clone(), many), EraMeta::Legacy);
        for number in 0..count {
            assert_eq!(
                line.matches(&format!("\"m{number}\":0")).count(),
                2,
                "{line}"
            );
        }
        assert!(
            !line.contains(":10") && line.matches("_meta").count() == 2,
            "{line}"
        );
    }
}

#[test]
fn a_raw_params_object_is_taken_apart_from_its_meta() {
    let (params, meta) = Params::split_meta(&raw(
        r#"{"name":"x","_meta":{"a":1},"b":2,"_meta":{"c":3}}"#,
    ));
    let names = |params: &Params| -> Vec<String> {
        params.0.iter().map(|(name, _)| name.to_string()).collect()
    };
    assert_eq!(
        (names(&params), names(&meta)),
        (vec!["name".into(), "b".into()], vec!["a".into()])
    );
}

#[test]
fn log_levels_are_spelled_as_the_protocol_has_them() {
    for level in LogLevel::ALL {
        assert_eq!(level.as_str().parse(), Ok(level));
        assert_eq!(
            serde_json::to_string(&level).unwrap(),
            format!("\"{}\"", level.as_str())
        );
    }
    assert_eq!("loud".parse::<LogLevel>(), Err(UnknownLogLevel));
    assert!(LogLevel::Debug < LogLevel::Emergency);
}

#[test]
fn answers_keep_every_byte_of_their_result() {
    let Ok(Incoming::Response(response)) =
        parse(br#"{"id":3,"result":{"x":1.00,"unknown":[1e2]},"extra":1}"#)
    else {
        panic!("a response");
    };
    assert_eq!(response.id, Some(3));
    assert_eq!(
        response.outcome.unwrap().get(),
        r#"{"x":1.00,"unknown":[1e2]}"#
    );
}

#[test]
fn only_our_own_spelling_of_an_id_is_ours() {
    for foreign in [
        "\"3\"",
        "3.0",
        "null",
        "-3",
        "99999999999999999999999",
        "{}",
    ] {
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":{foreign},\"result\":{{}}}}");
        let Ok(Incoming::Response(response)) = parse(text.as_bytes()) else {
            panic!("{foreign}")
        };
        assert_eq!(response.id, None, "{foreign}");
    }
}

#[test]
fn json_that_is_no_json_rpc_is_garbage() {
    for garbage in [
        "",
        "hello",
        "1",
        "{}",
        "[]",
        "{\"level\":\"info\"}",
        "{\"id\":1}",
        "[[{}]]",
        "{\"id\":1,\"result\":",
    ] {
        assert_eq!(
            parse(garbage.as_bytes()).err(),
            Some(NotJsonRpc),
            "{garbage}"
        );
    }
}

#[test]
fn batches_errors_requests_and_notifications_are_told_apart() {
    let batch = br#" [{"id":1,"error":{"code":-32601,"message":"no","data":[1]}},{"id":"a","method":"ping"},{"method":"n\u006ft"}]"#;
    let Ok(Incoming::Batch(messages)) = parse(batch) else {
        panic!("a batch")
    };
    let [
        Incoming::Response(error),
        Incoming::Request(ping),
        Incoming::Notification(note),
    ] = &messages[..]
    else {
        panic!("{messages:?}")
    };
    assert_eq!(error.outcome.as_ref().unwrap_err().code, -32601);
    assert_eq!(ping.id.0.get(), "\"a\"");
    assert_eq!(note.method, "not");
}

#[test]
fn a_cancellation_and_an_answer_are_well_formed() {
    let id = RequestId(RawValue::from_string("\"q\"".into()).unwrap());
    assert_eq!(
        encode_answer(&id, &Err((-32601, "no".into()))),
        r#"{"jsonrpc":"2.0","id":"q","error":{"code":-32601,"message":"no"}}"#
    );
    assert!(matches!(
        parse(encode_cancelled(4, "late").as_bytes()),
        Ok(Incoming::Notification(_))
    ));
}

#[test]
fn a_list_inside_a_batch_is_no_message() {
    assert!(parse(br#"[[1,"tools/list",null,null,null]]"#).is_err());
    assert!(parse(br#"[{"jsonrpc":"2.0","method":"a"},[1,"x",null,null,null]]"#).is_err());
}
