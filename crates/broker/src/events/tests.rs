//! Replays and their gaps, with a real store.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::*;
use crate::call::CallId;
use crate::ledger::{CallKind, Intent};
use crate::store::Store;

/// Longest a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than the ring holds.
const MANY: usize = 5000;

struct Bench {
    url: String,
    store: Store,
    hub: EventHub,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("store.db").display());
        let store = Store::open(&url).await.unwrap();
        store.add_workspace(&workspace()).await.unwrap();
        let hub = EventHub::start(&store).await.unwrap();
        Self {
            url,
            store,
            hub,
            _dir: dir,
        }
    }

    /// Everything that was told is in the store, without waiting for its time.
    async fn written(&self) {
        if let Some(stream) = self.hub.stream(&workspace()) {
            stream.write(&self.store);
        }
        self.store.flush().await;
    }

    /// Another process after this one was killed.
    async fn restarted(&self) -> (Store, EventHub) {
        let store = Store::open(&self.url).await.unwrap();
        let hub = EventHub::start(&store).await.unwrap();
        (store, hub)
    }

    async fn run(&self, sql: &'static str) {
        let mut connection = AnyConnection::connect(&self.url).await.unwrap();
        connection.execute(sql).await.unwrap();
    }
}

fn workspace() -> WorkspaceId {
    WorkspaceId::new("w").unwrap()
}

fn viewer() -> Viewer {
    Viewer {
        user: UserId::new("ann").unwrap(),
        admin: true,
        approver: false,
    }
}

fn publish(hub: &EventHub, count: usize) {
    for number in 0..count {
        hub.publish(NewEvent {
            kind: EventKind::ServerVersion,
            workspace: workspace(),
            user: None,
            trace_id: None,
            session_id: None,
            call_id: None,
            agent_id: None,
            data: serde_json::value::to_raw_value(&number).unwrap(),
        });
    }
}

fn read_only_call() -> Intent {
    Intent {
        id: CallId::mint(),
        workspace: workspace(),
        user: UserId::new("ann").unwrap(),
        key_id: "k".into(),
        kind: CallKind::Tool,
        reference: "server.tool".into(),
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
    }
}

fn resume(hub: &EventHub, after: u64) -> Subscription {
    let query = EventQuery {
        after: Some(after),
        ..EventQuery::default()
    };
    hub.subscribe(&workspace(), (viewer(), &query), None)
        .unwrap()
}

async fn next(subscription: &mut Subscription) -> Arc<Event> {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    next.expect("nothing came").expect("it ended")
}

/// The numbers of ordinary events up to `last`, and `None` for a resync.
async fn read_up_to(subscription: &mut Subscription, last: u64) -> Vec<Option<u64>> {
    let mut read = Vec::new();
    loop {
        let event = next(subscription).await;
        let resync = event.kind == EventKind::Resync;
        read.push((!resync).then_some(event.id));
        if event.id >= last && !resync {
            return read;
        }
    }
}

#[tokio::test]
async fn whoever_resumes_over_lost_runs_is_told() {
    let bench = Bench::new().await;
    publish(&bench.hub, 10);
    let first = bench
        .hub
        .history(&workspace(), (viewer(), &EventQuery::default()), None, 1)
        .await
        .unwrap()[0]
        .id;
    bench.written().await;
    bench
        .run(
            "CREATE TRIGGER no_events BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .await;
    publish(&bench.hub, 10);
    while bench.store.lost_rows() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        bench.store.flush().await;
    }
    bench.run("DROP TRIGGER no_events").await;
    // Everything lost leaves memory.
    publish(&bench.hub, MANY);
    let last = first + 20 + MANY as u64 - 1;

    let mut reader = resume(&bench.hub, first);
    let resync = next(&mut reader).await;
    assert_eq!(resync.kind, EventKind::Resync);
    let data: Value = serde_json::from_str(resync.data().get()).unwrap();
    assert_eq!(data["oldest"], format!("{:016x}", first + 20));
    assert_eq!(read_up_to(&mut reader, last).await.len(), MANY);

    let mut all = resume(&bench.hub, 0);
    let read = read_up_to(&mut all, last).await;
    assert_eq!(read.len(), MANY + 10, "all that is kept, without a resync");

    // Also a process that knows nothing of it.
    bench.written().await;
    let (store, hub) = bench.restarted().await;
    assert_eq!(next(&mut resume(&hub, first)).await.kind, EventKind::Resync);
    store.shutdown().await;
    bench.store.shutdown().await;
}

#[tokio::test]
async fn events_that_were_too_many_for_the_disk_are_told_also_after_a_kill() {
    let bench = Bench::new().await;
    let voice = Voice::of(&read_only_call());
    for _ in 0..MANY {
        bench.hub.tell(
            &voice,
            [(EventKind::ToolStatus, Told::Status("running"))],
            true,
        );
    }
    publish(&bench.hub, 1);
    bench.written().await;
    let (store, hub) = bench.restarted().await;
    let kept = hub
        .history(&workspace(), (viewer(), &EventQuery::default()), None, MANY)
        .await
        .unwrap();
    assert!(kept.len() < MANY, "nothing was shed");
    let resync = next(&mut resume(&hub, kept[0].id)).await;
    assert_eq!(resync.kind, EventKind::Resync);
    store.shutdown().await;
    bench.store.shutdown().await;
}

#[tokio::test]
async fn after_a_kill_what_was_written_is_replayed_and_the_gap_is_told_where_it_is() {
    let bench = Bench::new().await;
    publish(&bench.hub, 10);
    bench.written().await;
    let (store, hub) = bench.restarted().await;
    publish(&hub, 2);
    let kept = hub
        .history(&workspace(), (viewer(), &EventQuery::default()), None, 100)
        .await
        .unwrap();
    let ids: Vec<_> = kept.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 12);

    let read = read_up_to(&mut resume(&hub, ids[4]), ids[11]).await;
    let wanted: Vec<_> = ids[5..10]
        .iter()
        .copied()
        .map(Some)
        .chain([None, Some(ids[10]), Some(ids[11])])
        .collect();
    assert_eq!(read, wanted);
    let read = read_up_to(&mut resume(&hub, 0), ids[11]).await;
    assert_eq!(read, ids.iter().copied().map(Some).collect::<Vec<_>>());
    store.shutdown().await;
    bench.store.shutdown().await;
}

#[tokio::test]
async fn a_clean_stop_leaves_no_gap() {
    let bench = Bench::new().await;
    publish(&bench.hub, 10);
    bench.hub.shutdown().await;
    let (store, hub) = bench.restarted().await;
    publish(&hub, 2);
    let kept = hub
        .history(&workspace(), (viewer(), &EventQuery::default()), None, 100)
        .await
        .unwrap();
    let ids: Vec<_> = kept.iter().map(|event| event.id).collect();
    let read = read_up_to(&mut resume(&hub, ids[0]), ids[11]).await;
    assert_eq!(read, ids[1..].iter().copied().map(Some).collect::<Vec<_>>());
    store.shutdown().await;
    bench.store.shutdown().await;
}

#[tokio::test]
async fn a_running_call_is_followed_from_its_start_without_the_store() {
    let bench = Bench::new().await;
    // From here on every look at the disk fails.
    bench.store.shutdown().await;
    let intent = read_only_call();
    let voice = Voice::of(&intent);
    bench.hub.tell(
        &voice,
        [(EventKind::ToolStatus, Told::Status("sent"))],
        true,
    );
    publish(&bench.hub, MANY);
    let query = EventQuery {
        call_id: Some(intent.id.to_string()),
        after: Some(0),
        ..EventQuery::default()
    };
    let mut reader = bench
        .hub
        .subscribe(&workspace(), (viewer(), &query), Some(&voice))
        .unwrap();
    let sent = next(&mut reader).await;
    let data: Value = serde_json::from_str(sent.data().get()).unwrap();
    assert_eq!(data["state"], "sent");
    assert_eq!(data["req_id"], intent.id.to_string());
    bench.hub.tell(
        &voice,
        [
            (EventKind::ToolStatus, Told::Status("done")),
            (
                EventKind::ToolResult,
                Told::Json(serde_json::value::to_raw_value("x").unwrap().into()),
            ),
        ],
        true,
    );
    assert_eq!(next(&mut reader).await.kind, EventKind::ToolStatus);
    assert_eq!(next(&mut reader).await.kind, EventKind::ToolResult);
    assert!(reader.next().await.is_none());
}
