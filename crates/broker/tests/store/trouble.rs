//! What the store does with rows a database refuses, with too many, and with many kinds at once.

use std::time::Duration;

use broker::events::{EventHub, EventKind, NewEvent};
use broker::ledger::{Intent, RowFilter, Settled};
use broker::store::Store;
use sqlx::{AnyConnection, Connection as _, Executor as _};

use crate::places::{everything, intent, on_both, succeeded, workspace};

/// Runs SQL of a database's own on a connection of its own.
async fn run(url: &str, (sqlite, postgres): (&'static str, &'static str)) {
    let (url, sql) = match url.strip_prefix("sqlite://") {
        Some(_) => (url.to_owned(), sqlite),
        None => (url.to_owned(), postgres),
    };
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    connection.execute(sql).await.unwrap();
}

fn read(reference: &str) -> (Intent, Settled) {
    let intent = Intent {
        read_only: true,
        reference: reference.into(),
        request_digest: [0; 32],
        ..intent(None)
    };
    let settled = Settled {
        result: None,
        ..succeeded(&intent)
    };
    (intent, settled)
}

#[tokio::test]
async fn thousands_of_rows_of_all_kinds_are_read_back_as_written() {
    on_both(async |store, _| {
        let mut written = Vec::new();
        for number in 0..3000 {
            let (mut intent, mut settled) = read("server.tool");
            match number % 100 {
                7 => intent.read_only = false,
                8 => settled.result = Some("{\"content\":[8]}".into()),
                9 => intent.detached = true,
                10 => intent.schema_hash = None,
                11 => settled.session_id = None,
                _ => {}
            }
            written.push((intent.clone(), settled.clone()));
            store.record_call(intent, settled);
        }
        store.flush().await;
        let rows = store
            .list_calls(&RowFilter {
                limit: 5000,
                ..everything()
            })
            .await
            .unwrap();
        assert_eq!(rows.len(), written.len());
        for (row, (intent, settled)) in rows.iter().rev().zip(&written) {
            // A stored time has milliseconds.
            let mut intent = intent.clone();
            intent.created_at = row.intent.created_at;
            assert_eq!(format!("{:?}", row.intent), format!("{intent:?}"));
            assert_eq!(row.result, settled.result);
            assert_eq!(row.session_id, settled.session_id.map(|id| id.to_string()));
        }
        assert_eq!(store.lost_rows(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_row_the_database_refuses_is_lost_alone_and_counted() {
    on_both(async |store, url| {
        run(
            url,
            (
                "CREATE TRIGGER no_bad BEFORE INSERT ON calls WHEN NEW.reference = 'bad' \
                 BEGIN SELECT RAISE(ABORT, 'refused'); END",
                "ALTER TABLE calls ADD CONSTRAINT no_bad CHECK (reference <> 'bad')",
            ),
        )
        .await;
        for number in 0..200 {
            let bad = number == 20 || number == 150;
            let (intent, settled) = read(if bad { "bad" } else { "good" });
            store.record_call(intent, settled);
        }
        tokio::time::timeout(Duration::from_secs(20), store.flush())
            .await
            .unwrap();
        assert_eq!(store.list_calls(&everything()).await.unwrap().len(), 198);
        assert_eq!(store.lost_rows(), 2);
        // It goes on as if nothing had been.
        let (intent, settled) = read("good");
        store.record_call(intent, settled);
        store.flush().await;
        assert_eq!(store.list_calls(&everything()).await.unwrap().len(), 199);
    })
    .await;
}

#[tokio::test]
async fn an_intent_the_database_refuses_takes_no_other_with_it() {
    on_both(async |store, url| {
        run(
            url,
            (
                "CREATE TRIGGER no_bad BEFORE INSERT ON calls WHEN NEW.reference = 'bad' \
                 BEGIN SELECT RAISE(ABORT, 'refused'); END",
                "ALTER TABLE calls ADD CONSTRAINT no_bad CHECK (reference <> 'bad')",
            ),
        )
        .await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..50 {
            let (store, mut intent) = (store.clone(), intent(None));
            if number == 20 {
                intent.reference = "bad".into();
            }
            tasks.spawn(async move { (number, store.begin_call(&intent).await.is_ok()) });
        }
        let refused: Vec<_> = tasks
            .join_all()
            .await
            .into_iter()
            .filter(|(_, ok)| !ok)
            .collect();
        assert_eq!(refused, [(20, false)]);
    })
    .await;
}

#[tokio::test]
async fn a_name_with_a_nul_is_kept_without_it() {
    on_both(async |store, _| {
        let (intent, settled) = read("server.to\0ol");
        store.record_call(intent.clone(), settled);
        store.flush().await;
        let row = store.get_call(&workspace(), intent.id).await.unwrap();
        assert!(row.unwrap().intent.reference.starts_with("server.to"));
        assert_eq!(store.lost_rows(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_run_of_events_the_database_refuses_is_counted() {
    on_both(async |store, url| {
        store.add_workspace(&workspace()).await.unwrap();
        let hub = EventHub::start(&store).await.unwrap();
        run(
            url,
            (
                "CREATE TRIGGER no_events BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'refused'); END",
                "ALTER TABLE events ADD CONSTRAINT no_events CHECK (false) NOT VALID",
            ),
        )
        .await;
        publish(&hub);
        let (intent, settled) = read("good");
        store.record_call(intent, settled);
        hub.shutdown().await;
        assert_eq!(store.lost_rows(), 1);
        assert_eq!(
            store.list_calls(&everything()).await.unwrap().len(),
            1,
            "what was written with it stands"
        );
    })
    .await;
}

fn publish(hub: &EventHub) {
    hub.publish(NewEvent {
        kind: EventKind::ServerVersion,
        workspace: workspace(),
        user: None,
        trace_id: None,
        session_id: None,
        call_id: None,
        agent_id: None,
        data: serde_json::value::to_raw_value("x").unwrap(),
    });
}

#[tokio::test]
async fn so_many_rows_that_no_more_should_come_are_told_and_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/bridge.db", folder.path().display());
    let store = Store::open(&url).await.unwrap();
    let mut lock = AnyConnection::connect(&url).await.unwrap();
    lock.execute("BEGIN IMMEDIATE").await.unwrap();
    let mut made = 0;
    while !store.is_backlogged() {
        let (intent, settled) = read("server.tool");
        store.record_call(intent, settled);
        made += 1;
        assert!(made < 50_000, "the queue has no bound");
    }
    // Those in flight still find a place.
    for _ in 0..4096 {
        let (intent, settled) = read("server.tool");
        store.record_call(intent, settled);
        made += 1;
    }
    lock.execute("ROLLBACK").await.unwrap();
    while store.is_backlogged() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..20 {
        store.flush().await;
    }
    let (mut read, mut before) = (0, None);
    loop {
        let page = RowFilter {
            limit: 1000,
            before,
            ..everything()
        };
        let rows = store.list_calls(&page).await.unwrap();
        let Some(last) = rows.last() else { break };
        before = Some(last.intent.id);
        read += rows.len();
    }
    assert_eq!(read, made);
    assert_eq!(store.lost_rows(), 0);
    store.shutdown().await;
}
