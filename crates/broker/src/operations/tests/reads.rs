//! Plain read-only calls: their results for a while, and their rows when there are too many.

use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::super::calls::ListCalls;
use super::*;
use crate::call::CallId;
use crate::call_state::CallState;
use crate::ledger::{CallKind, Intent, Settled};

pub(super) fn row(workspace: &str) -> (Intent, Settled) {
    let workspace = WorkspaceId::new(workspace).unwrap();
    let intent = Intent {
        id: CallId::mint(),
        workspace: workspace.clone(),
        user: UserId::new("ann").unwrap(),
        key_id: "k".into(),
        kind: CallKind::Tool,
        reference: "fake.echo".into(),
        lane: sessions::Lane::default(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        arguments_digest: [0; 32],
        preview: String::new(),
        schema_hash: None,
        idempotency_key: None,
        request_digest: [0; 32],
        read_only: true,
        detached: false,
        created_at: chrono::Utc::now(),
        agent_id: None,
        deadline_at: None,
        approval_id: None,
    };
    let settled = Settled {
        id: intent.id,
        workspace,
        state: CallState::Succeeded,
        session_id: None,
        ended_at: chrono::Utc::now(),
        duration_ms: 1,
        code: None,
        result: None,
        fault: None,
        frees_key: None,
    };
    (intent, settled)
}

#[tokio::test]
async fn the_result_of_a_plain_read_is_there_for_a_while() {
    let bench = Bench::new().await;
    let done = bench.call(echo("hello")).await.unwrap();
    let id = &done.call_id;
    let view = bench
        .broker
        .get_call(&admin(), id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(view.state, CallState::Succeeded);
    assert!(view.result.unwrap().raw().get().contains("hello"));
    let listed = bench
        .broker
        .list_calls(&admin(), ListCalls::default())
        .await
        .unwrap();
    assert!(listed.items[0].result.is_some());
    let foreign = bench
        .broker
        .get_call(&asker("vic", Role::Operator), id, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(foreign.code, ErrorCode::CallNotFound);
    // Later the row is all there is.
    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(1)).await;
    tokio::time::resume();
    bench.broker.inner.recent.expire();
    let view = bench
        .broker
        .get_call(&admin(), id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        (view.state, view.result.is_none()),
        (CallState::Succeeded, true)
    );
    bench.stop().await;
}

#[tokio::test]
async fn kept_results_are_bounded() {
    let bench = Bench::new().await;
    let first = bench.call(echo("first")).await.unwrap();
    let large = "x".repeat(1024 * 1024);
    for _ in 0..16 {
        bench.call(echo(&large)).await.unwrap();
    }
    let id = CallId::parse(&first.call_id).unwrap();
    assert!(bench.broker.inner.recent.get(id).is_none());
    bench.stop().await;
}

#[tokio::test]
async fn a_store_that_does_not_keep_up_slows_reads_and_refuses_none() {
    let bench = Bench::new().await;
    bench.call(echo("warm")).await.unwrap();
    let store = bench.broker.inner.store.clone();
    let mut lock = AnyConnection::connect(&bench.url()).await.unwrap();
    lock.execute("BEGIN IMMEDIATE").await.unwrap();
    // What the writer has in hand makes room, so there are some more.
    for _ in 0..17_000 {
        let (intent, settled) = row("default");
        store.record_call(intent, settled);
    }
    assert!(store.is_backlogged());
    let broker = bench.broker.clone();
    let call = tokio::spawn(async move { broker.call_tool(&admin(), echo("slow")).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!call.is_finished(), "it is refused at once");
    assert_eq!(bench.fake.calls(), 1, "it waits before anything is sent");
    lock.execute("ROLLBACK").await.unwrap();
    // The writer's own pause may be longer than this caller waits; the next one gets through then.
    let outcome = call.await.unwrap();
    if let Err(fault) = outcome {
        assert_eq!(
            ends(&fault),
            (ErrorCode::StoreUnavailable, ExecutedWire::No)
        );
    }
    until("there is room again", || async { !store.is_backlogged() }).await;
    bench.call(echo("again")).await.unwrap();
    assert_eq!(store.lost_rows(), 0);
    bench.stop().await;
}

#[tokio::test]
async fn with_the_store_away_for_good_reads_are_refused_when_no_row_can_be_kept() {
    let bench = Bench::new().await;
    bench.call(echo("warm")).await.unwrap();
    let store = bench.broker.inner.store.clone();
    store.shutdown().await;
    while !store.is_backlogged() {
        let (intent, settled) = row("default");
        store.record_call(intent, settled);
    }
    let fault = bench.call(echo("x")).await.unwrap_err();
    assert_eq!(
        ends(&fault),
        (ErrorCode::StoreUnavailable, ExecutedWire::No)
    );
    assert!(fault.retry_after.is_some());
    assert_eq!(bench.fake.calls(), 1);
    bench.stop().await;
}
