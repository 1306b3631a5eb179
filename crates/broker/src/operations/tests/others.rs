//! Nothing crosses principals: what is another's does not exist, to the byte.

use transports::testing::Behaviour;

use super::*;
use crate::operations::calls::ListCalls;
use crate::operations::page::PageRequest;
use crate::operations::records::EventQuery;
use crate::operations::resources::{Complete, CompleteTarget, GetPrompt, ReadResource};
use crate::operations::sessions::OpenSession;

fn open(server: &str) -> OpenSession {
    OpenSession {
        server: server.to_owned(),
        ..OpenSession::default()
    }
}

#[tokio::test]
async fn another_users_call_answers_exactly_as_an_unknown_one() {
    let bench = Bench::new().await;
    let own = bench.call(write("secret")).await.unwrap();
    let bob = asker("bob", Role::Operator);
    let unknown = format!("call_{}", uuid::Uuid::now_v7());
    for id in [own.call_id.as_str(), &unknown, "call_x", ""] {
        let got = bench
            .broker
            .get_call(&bob, id, Duration::ZERO)
            .await
            .unwrap_err();
        let stopped = bench.broker.cancel_call(&bob, id).await.unwrap_err();
        let wanted = crate::Fault::new(ErrorCode::CallNotFound, "there is no such call");
        assert_eq!(format!("{got:?}"), format!("{wanted:?}"));
        assert_eq!(format!("{stopped:?}"), format!("{wanted:?}"));
        let followed = EventQuery {
            call_id: Some(id.to_owned()),
            ..EventQuery::default()
        };
        let followed = bench.broker.subscribe(&bob, followed).await.unwrap_err();
        assert_eq!(format!("{followed:?}"), format!("{wanted:?}"));
    }
    let calls = bench
        .broker
        .list_calls(&bob, ListCalls::default())
        .await
        .unwrap();
    assert!(calls.items.is_empty());
    let events = bench
        .broker
        .list_events(&bob, EventQuery::default(), PageRequest::default())
        .await
        .unwrap();
    assert!(
        events
            .items
            .iter()
            .all(|event| { event.user().is_none_or(|user| user.as_str() == "bob") })
    );
    let overseer = asker("eve", Role::Admin);
    assert!(
        bench
            .broker
            .get_call(&overseer, &own.call_id, Duration::ZERO)
            .await
            .is_ok()
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_running_call_is_not_cancelled_by_another_user() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Silent);
    let request = CallTool {
        respond_async: true,
        ..write("x")
    };
    let CallAnswer::Accepted { call_id } = bench.broker.call_tool(&admin(), request).await.unwrap()
    else {
        panic!("an async call is accepted");
    };
    until("the call is sent", || async { bench.fake.calls() == 1 }).await;
    let bob = asker("bob", Role::Operator);
    let fault = bench.broker.cancel_call(&bob, &call_id).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::CallNotFound);
    assert!(
        bench
            .broker
            .inner
            .live
            .get(crate::CallId::parse(&call_id).unwrap())
            .is_some()
    );
    bench.stop().await;
}

#[tokio::test]
async fn another_users_session_does_not_exist_and_a_shared_one_tells_who_shares_it() {
    let bench = Bench::new().await;
    add(
        &bench.broker,
        "common",
        r#"{"transport":"stdio","command":["fake"],"isolation":"shared"}"#,
        &bench.fake,
    );
    let bob = asker("bob", Role::Viewer);
    let own = bench
        .broker
        .open_session(&asker("cem", Role::Operator), open("fake"))
        .await
        .unwrap();
    let shared = bench
        .broker
        .open_session(&asker("cem", Role::Operator), open("common"))
        .await
        .unwrap();
    let id = own.inspection.id.to_string();
    let unknown = format!("ses_{}", uuid::Uuid::now_v7());
    for id in [id.as_str(), &unknown, "ses_x"] {
        let wanted = crate::Fault::new(ErrorCode::SessionNotFound, "there is no such session");
        let inspected = bench.broker.inspect_session(&bob, id).await.unwrap_err();
        let closed = bench.broker.close_session(&bob, id).await.unwrap_err();
        let refreshed = bench.broker.refresh_session(&bob, id).await.unwrap_err();
        for fault in [inspected, closed, refreshed] {
            assert_eq!(format!("{fault:?}"), format!("{wanted:?}"));
        }
    }
    let seen = bench
        .broker
        .list_sessions(&bob, PageRequest::default())
        .await
        .unwrap();
    assert_eq!(seen.items.len(), 1);
    assert!(
        seen.items[0].sharing.contains("everybody in the workspace"),
        "{}",
        seen.items[0].sharing
    );
    let shared = shared.inspection.id.to_string();
    let fault = bench.broker.close_session(&bob, &shared).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Forbidden);
    bench
        .broker
        .close_session(&asker("cem", Role::Operator), &shared)
        .await
        .unwrap();
    let all = bench
        .broker
        .list_sessions(&admin(), PageRequest::default())
        .await
        .unwrap();
    assert_eq!(all.items.len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_refreshed_session_has_a_new_connection_and_a_new_listing() {
    let bench = Bench::new().await;
    let opened = bench
        .broker
        .open_session(&admin(), open("fake"))
        .await
        .unwrap();
    bench.call(echo("x")).await.unwrap();
    let lists = bench.fake.lists();
    let id = opened.inspection.id.to_string();
    let after = bench.broker.refresh_session(&admin(), &id).await.unwrap();
    assert_eq!(after.inspection.id, opened.inspection.id);
    assert!(after.inspection.generation > opened.inspection.generation);
    assert!(bench.fake.lists() > lists);
    assert!(after.catalog_hash.is_some());
    let fault = bench
        .broker
        .open_session(&admin(), open("nowhere"))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::ServerNotFound);
    bench.stop().await;
}

#[tokio::test]
async fn reads_prompts_and_completions_are_refused_or_rowed_like_calls() {
    let bench = Bench::new().await;
    let prompt = GetPrompt {
        reference: "fake.hello".to_owned(),
        ..GetPrompt::default()
    };
    assert_eq!(
        bench
            .broker
            .get_prompt(&admin(), prompt)
            .await
            .unwrap_err()
            .code,
        ErrorCode::PromptNotFound
    );
    let read = ReadResource {
        server: "fake".to_owned(),
        uri: "demo://x".to_owned(),
        ..ReadResource::default()
    };
    let fault = bench
        .broker
        .read_resource(&admin(), read.clone())
        .await
        .unwrap_err();
    assert_eq!(fault.upstream, Some(("fake".to_owned(), Some(-32601))));
    let elsewhere = ReadResource {
        server: "nowhere".to_owned(),
        ..read
    };
    assert_eq!(
        bench
            .broker
            .read_resource(&admin(), elsewhere)
            .await
            .unwrap_err()
            .code,
        ErrorCode::ServerNotFound
    );
    let complete = Complete {
        target: CompleteTarget::Template {
            server: "fake".to_owned(),
            uri_template: "demo://{x}".to_owned(),
        },
        argument: "x".to_owned(),
        value: "a".to_owned(),
        context: std::collections::BTreeMap::new(),
        lane: sessions::Lane::default(),
        timeout: None,
    };
    let answer = bench.broker.complete(&admin(), complete).await.unwrap();
    assert!(answer.result.raw().get().contains(r#""values":[]"#));
    let calls = bench
        .broker
        .list_calls(&admin(), ListCalls::default())
        .await
        .unwrap();
    let kinds: Vec<_> = calls.items.iter().map(|call| call.kind).collect();
    assert_eq!(kinds, ["completion", "resource"]);
    bench.stop().await;
}
