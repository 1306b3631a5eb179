//! What goes right, and what is refused before anything is sent.

use super::*;
use crate::call_state::CallState;
use crate::operations::audit::AuditQuery;
use crate::operations::calls::{Admitted, ListCalls};
use crate::operations::records::EventQuery;

#[tokio::test]
async fn a_call_reaches_the_server_with_its_arguments_untouched_and_a_trace() {
    let bench = Bench::new().await;
    let arguments = r#"{ "message" : "hi",  "extra": 1.0 }"#;
    let request = CallTool {
        arguments: Some(raw(arguments)),
        ..echo("")
    };
    let asker = admin();
    let answer = done(bench.broker.call_tool(&asker, request).await).unwrap();
    assert_eq!(text(&answer), "hi");
    assert_eq!(answer.trace_id, asker.trace.id());
    assert!(!answer.replayed);
    let seen = &bench.fake.seen()[0];
    assert_eq!(seen["params"]["arguments"]["extra"].to_string(), "1.0");
    let parent = seen["params"]["_meta"]["traceparent"].as_str().unwrap();
    assert!(parent.contains(&asker.trace.id()), "{parent}");
    bench.stop().await;
}

#[tokio::test]
async fn a_warm_call_lists_nothing_and_opens_nothing() {
    let bench = Bench::new().await;
    for _ in 0..20 {
        bench.call(echo("x")).await.unwrap();
    }
    assert_eq!(
        (bench.fake.lists(), bench.fake.opened(), bench.fake.calls()),
        (1, 1, 20)
    );
    bench.stop().await;
}

#[tokio::test]
async fn wrong_arguments_are_told_by_place_with_the_signature_and_never_sent() {
    let bench = Bench::new().await;
    let fault = bench
        .call(tool("fake.echo", &json!({"message": 7})))
        .await
        .unwrap_err();
    assert_eq!(
        ends(&fault),
        (ErrorCode::InvalidArguments, ExecutedWire::No)
    );
    assert_eq!(fault.errors[0].pointer, "/arguments/message");
    assert!(fault.hint.unwrap().starts_with("fake.echo("));
    let missing = bench.call(tool("fake.echo", &json!({}))).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::InvalidArguments);
    assert_eq!(bench.fake.calls(), 0);
    bench.stop().await;
}

#[tokio::test]
async fn an_unknown_ref_comes_with_what_was_meant() {
    let bench = Bench::new().await;
    let fault = bench.call(tool("fake.ecko", &json!({}))).await.unwrap_err();
    assert_eq!(ends(&fault), (ErrorCode::ToolNotFound, ExecutedWire::No));
    assert!(fault.hint.unwrap().contains("fake.echo"));
    for wrong in ["nowhere.echo", "nodot", "", ".", "fake."] {
        let fault = bench.call(tool(wrong, &json!({}))).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::ToolNotFound, "{wrong}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_stale_schema_hash_is_told_with_the_present_signature() {
    let bench = Bench::new().await;
    let stale = CallTool {
        schema_hash: Some("0123456789ab".to_owned()),
        ..echo("x")
    };
    let fault = bench.call(stale).await.unwrap_err();
    assert_eq!(ends(&fault), (ErrorCode::SchemaChanged, ExecutedWire::No));
    assert!(fault.hint.unwrap().starts_with("fake.echo("));
    let checked = CallTool {
        dry_run: true,
        ..echo("x")
    };
    let CallAnswer::Checked(dry) = bench.broker.call_tool(&admin(), checked).await.unwrap() else {
        panic!("a dry run is only checked");
    };
    let fresh = CallTool {
        schema_hash: Some(dry.schema_hash),
        ..echo("x")
    };
    bench.call(fresh).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_sends_nothing() {
    let bench = Bench::new().await;
    let dry = CallTool {
        dry_run: true,
        ..write("x")
    };
    let answer = bench.broker.call_tool(&admin(), dry.clone()).await.unwrap();
    let CallAnswer::Checked(found) = answer else {
        panic!("a dry run is only checked");
    };
    assert_eq!((found.decision, found.read_only), ("allow", false));
    assert!(!found.preview.contains("\"x\""), "{}", found.preview);
    let viewer = asker("vic", Role::Viewer);
    let CallAnswer::Checked(denied) = bench.broker.call_tool(&viewer, dry).await.unwrap() else {
        panic!("what policy says is told");
    };
    assert_eq!(denied.decision, "deny");
    assert_eq!(bench.fake.calls(), 0);
    bench.stop().await;
}

#[tokio::test]
async fn a_viewer_reads_but_does_not_act_unless_the_owner_says_that_it_only_reads() {
    let bench = Bench::new().await;
    let viewer = asker("vic", Role::Viewer);
    done(bench.broker.call_tool(&viewer, echo("x")).await).unwrap();
    let fault = bench
        .broker
        .call_tool(&viewer, write("x"))
        .await
        .unwrap_err();
    assert_eq!(ends(&fault), (ErrorCode::PolicyDenied, ExecutedWire::No));
    let owned = r#"{"transport":"stdio","command":["fake"],"hints":{"write":{"read_only":true}}}"#;
    add(&bench.broker, "owned", owned, &bench.fake);
    done(
        bench
            .broker
            .call_tool(&viewer, tool("owned.write", &json!({"message": "x"})))
            .await,
    )
    .unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a_narrowed_key_does_not_see_what_it_is_not_for() {
    let bench = Bench::new().await;
    let mut narrow = asker("ned", Role::Operator);
    narrow.principal.scopes = Scopes(vec!["fake.ec*".to_owned()]);
    done(bench.broker.call_tool(&narrow, echo("x")).await).unwrap();
    let hidden = bench
        .broker
        .call_tool(&narrow, write("x"))
        .await
        .unwrap_err();
    let unknown = bench
        .broker
        .call_tool(&narrow, tool("fake.wrate", &json!({})))
        .await
        .unwrap_err();
    assert_eq!(hidden.code, ErrorCode::ToolNotFound);
    assert_eq!(hidden.detail, unknown.detail);
    bench.stop().await;
}

#[tokio::test]
async fn places_in_flight_are_bounded_for_each_user() {
    let bench = Bench::with(r#"{"transport":"stdio","command":["fake"]}"#, |options| {
        options.calls.in_flight_per_user = 1;
    })
    .await;
    bench.call(echo("warm")).await.unwrap();
    bench.fake.behave(transports::testing::Behaviour::Silent);
    let held = tokio::spawn({
        let broker = bench.broker.clone();
        async move { broker.call_tool(&admin(), echo("held")).await }
    });
    until("the first call is sent", || async {
        bench.fake.calls() == 2
    })
    .await;
    let fault = bench.call(echo("second")).await.unwrap_err();
    assert_eq!(ends(&fault), (ErrorCode::RateLimited, ExecutedWire::No));
    assert!(fault.retry_after.is_some());
    held.abort();
    until("the place is free again", || async {
        bench.broker.inner.gate.in_flight() == 0
    })
    .await;
    bench.stop().await;
}

#[tokio::test]
async fn progress_and_the_end_of_a_call_are_events_in_order_and_replayable() {
    let bench = Bench::new().await;
    bench
        .fake
        .behave(transports::testing::Behaviour::Progress(2));
    let asker = admin();
    let admitted = bench.broker.admit_call(&asker, write("x")).await.unwrap();
    let Admitted::Pending(pending) = admitted else {
        panic!("nothing was answered yet");
    };
    let query = EventQuery {
        call_id: Some(pending.call_id().to_owned()),
        ..EventQuery::default()
    };
    let mut live = bench.broker.subscribe(&asker, query.clone()).await.unwrap();
    pending.run().await.unwrap();
    let mut kinds = Vec::new();
    while let Some(event) = live.next().await {
        let data: Value = serde_json::from_str(event.data().get()).unwrap();
        kinds.push(format!(
            "{}:{}",
            event.kind.as_str(),
            data["state"].as_str().unwrap_or("")
        ));
        if event.kind == crate::events::EventKind::ToolResult {
            assert_eq!(data["ok"], true);
            assert_eq!(data["result_json"]["content"][0]["text"], "x");
            break;
        }
    }
    let wanted = [
        "tool_status:sent",
        "tool_status:running",
        "tool_log:",
        "tool_log:",
        "tool_status:done",
        "tool_result:",
    ];
    assert_eq!(kinds, wanted);
    let mut again = bench.broker.subscribe(&asker, query).await.unwrap();
    let first = again.next().await.unwrap();
    assert!(first.data().get().contains("sent"), "{}", first.data());
    bench.stop().await;
}

#[tokio::test]
async fn every_call_has_a_row_and_refused_ones_are_audited_too() {
    let bench = Bench::new().await;
    bench.call(echo("x")).await.unwrap();
    bench.call(write("x")).await.unwrap();
    bench
        .call(tool("fake.nothing", &json!({})))
        .await
        .unwrap_err();
    let calls = bench
        .broker
        .list_calls(&admin(), ListCalls::default())
        .await
        .unwrap();
    let states: Vec<_> = calls
        .items
        .iter()
        .map(|call| (call.reference.as_str(), call.state))
        .collect();
    assert_eq!(
        states,
        [
            ("fake.nothing", CallState::Failed),
            ("fake.write", CallState::Succeeded),
            ("fake.echo", CallState::Succeeded)
        ]
    );
    let rows = bench
        .broker
        .list_audit(&admin(), AuditQuery::default())
        .await
        .unwrap();
    assert_eq!(rows.items[0].code.as_deref(), Some("tool_not_found"));
    assert_eq!(rows.items[2].detail.as_deref(), Some("message: string"));
    let others = bench
        .broker
        .list_audit(&asker("vic", Role::Operator), AuditQuery::default())
        .await
        .unwrap();
    assert!(others.items.is_empty());
    bench.stop().await;
}

#[tokio::test]
async fn a_trace_shows_the_calls_and_events_under_its_id() {
    let bench = Bench::new().await;
    let asker = admin();
    done(bench.broker.call_tool(&asker, echo("x")).await).unwrap();
    done(bench.broker.call_tool(&asker, write("x")).await).unwrap();
    bench.call(echo("another trace")).await.unwrap();
    let trace = bench.broker.trace(&asker, &asker.trace.id()).await.unwrap();
    let refs: Vec<_> = trace
        .calls
        .iter()
        .map(|call| call.reference.as_str())
        .collect();
    assert_eq!(refs, ["fake.echo", "fake.write"]);
    assert_eq!(trace.events.len(), 6);
    let foreign = bench
        .broker
        .trace(&super::asker("bob", Role::Operator), &asker.trace.id())
        .await
        .unwrap();
    assert!(foreign.calls.is_empty() && foreign.events.is_empty());
    let bad = bench.broker.trace(&asker, "nonsense").await.unwrap_err();
    assert_eq!(bad.code, ErrorCode::InvalidRequest);
    bench.stop().await;
}
