//! What the store promises, on both databases. PostgreSQL must be there: `make test` starts one.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::time::Duration;

use broker::call_state::CallState;
use broker::ledger::{CallKind, Intent, RowFilter, Settled};
use broker::store::{KeyRow, Store};
use broker::{CallId, Role};
use chrono::Utc;
use sessions::{Lane, UserId, WorkspaceId};
use sqlx::{Connection as _, Executor as _};

/// A database of its own, gone when dropped.
struct Place {
    url: String,
    _folder: tempfile::TempDir,
}

async fn places() -> Vec<Place> {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Place {
        url: format!("sqlite://{}/bridge.db", folder.path().display()),
        _folder: folder,
    };
    let base = std::env::var("PAPERBOT_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let name = format!("paperbot_{}", uuid::Uuid::new_v4().simple());
    let mut connection = sqlx::PgConnection::connect(&base)
        .await
        .unwrap_or_else(|error| {
            panic!("no PostgreSQL at PAPERBOT_TEST_POSTGRES (`make test` starts one): {error}")
        });
    connection
        .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .unwrap();
    let (server, _) = base.rsplit_once('/').unwrap();
    vec![
        sqlite,
        Place {
            url: format!("{server}/{name}"),
            _folder: tempfile::tempdir().unwrap(),
        },
    ]
}

/// Drops a PostgreSQL database made by [`places`].
async fn drop_place(place: Place) {
    let Some((server, name)) = place
        .url
        .strip_prefix("postgres")
        .and(place.url.rsplit_once('/'))
    else {
        return;
    };
    let mut connection = sqlx::PgConnection::connect(&format!("{server}/postgres"))
        .await
        .unwrap();
    connection
        .execute(sqlx::AssertSqlSafe(format!(
            "DROP DATABASE {name} WITH (FORCE)"
        )))
        .await
        .unwrap();
}

/// Runs one promise on each database.
async fn on_both(promise: impl AsyncFn(Store, &str)) {
    for place in places().await {
        let store = Store::open(&place.url).await.unwrap();
        promise(store.clone(), &place.url).await;
        store.shutdown().await;
        drop_place(place).await;
    }
}

fn workspace() -> WorkspaceId {
    WorkspaceId::new("w").unwrap()
}

fn intent(key: Option<&str>) -> Intent {
    Intent {
        id: CallId::mint(),
        workspace: workspace(),
        user: UserId::new("ann").unwrap(),
        key_id: "k".into(),
        kind: CallKind::Tool,
        reference: "server.tool".into(),
        lane: Lane::new("run:1").unwrap(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        arguments_digest: [7; 32],
        preview: "{message: string}".into(),
        schema_hash: Some(catalog::Hash([9; 32])),
        idempotency_key: key.map(str::to_owned),
        request_digest: [8; 32],
        read_only: false,
        detached: false,
        created_at: Utc::now(),
    }
}

fn succeeded(intent: &Intent) -> Settled {
    Settled {
        id: intent.id,
        state: CallState::Succeeded,
        session_id: Some("ses_x".into()),
        ended_at: Utc::now(),
        duration_ms: 12,
        code: None,
        result: Some("{\"content\":[]}".into()),
        fault: None,
    }
}

fn everything() -> RowFilter {
    RowFilter {
        workspace: workspace(),
        user: None,
        state: None,
        reference: None,
        since: None,
        idempotency_key: None,
        trace_id: None,
        before: None,
        limit: 500,
    }
}

#[tokio::test]
async fn an_intent_and_its_end_are_read_back_as_written() {
    on_both(async |store, _| {
        let intent = intent(Some("k1"));
        assert!(store.begin_call(&intent).await.unwrap());
        let begun = store
            .get_call(&workspace(), intent.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((begun.state.is_terminal(), begun.ended_at), (false, None));
        assert!(store.settle_call(&succeeded(&intent)).await.unwrap());
        let late = Settled {
            state: CallState::Failed,
            ..succeeded(&intent)
        };
        assert!(
            !store.settle_call(&late).await.unwrap(),
            "the first end wins"
        );
        let row = store
            .get_call(&workspace(), intent.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.state, CallState::Succeeded);
        assert_eq!(row.result.as_deref(), Some("{\"content\":[]}"));
        assert_eq!(row.intent.arguments_digest, [7; 32]);
        assert_eq!(row.intent.schema_hash, Some(catalog::Hash([9; 32])));
        assert_eq!(row.intent.lane.as_str(), "run:1");
        assert_eq!(
            row.intent.created_at.timestamp_millis(),
            intent.created_at.timestamp_millis()
        );
        let elsewhere = WorkspaceId::new("other").unwrap();
        assert!(
            store
                .get_call(&elsewhere, intent.id)
                .await
                .unwrap()
                .is_none(),
            "scoped before it is looked at"
        );
    })
    .await;
}

#[tokio::test]
async fn a_hundred_identical_beginnings_give_one_fresh_call() {
    on_both(async |store, _| {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let store = store.clone();
            tasks.spawn(async move { store.begin_call(&intent(Some("same"))).await.unwrap() });
        }
        assert_eq!(
            tasks
                .join_all()
                .await
                .into_iter()
                .filter(|fresh| *fresh)
                .count(),
            1
        );
        assert_eq!(store.list_calls(&everything()).await.unwrap().len(), 1);
        let held = store
            .find_by_key(&intent(Some("same")))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(held.intent.idempotency_key.as_deref(), Some("same"));
        let other_tool = Intent {
            reference: "server.other".into(),
            ..intent(Some("same"))
        };
        assert!(
            store.begin_call(&other_tool).await.unwrap(),
            "the same key with another tool is independent"
        );
    })
    .await;
}

#[tokio::test]
async fn a_key_is_free_again_after_its_retention() {
    on_both(async |store, _| {
        store.set_key_retention(Duration::ZERO);
        assert!(store.begin_call(&intent(Some("short"))).await.unwrap());
        assert!(
            store
                .find_by_key(&intent(Some("short")))
                .await
                .unwrap()
                .is_none()
        );
        assert!(store.begin_call(&intent(Some("short"))).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn what_a_stopped_process_left_open_becomes_outcome_unknown() {
    for place in places().await {
        let before = Store::open(&place.url).await.unwrap();
        before.sweep_calls("node-a").await.unwrap();
        let (open, done) = (intent(None), intent(None));
        assert!(before.begin_call(&open).await.unwrap() && before.begin_call(&done).await.unwrap());
        assert!(before.settle_call(&succeeded(&done)).await.unwrap());
        // No shutdown: as a killed process leaves it.
        let after = Store::open(&place.url).await.unwrap();
        assert_eq!(after.sweep_calls("node-a").await.unwrap(), 1);
        assert_eq!(
            after
                .get_call(&workspace(), open.id)
                .await
                .unwrap()
                .unwrap()
                .state,
            CallState::OutcomeUnknown
        );
        assert_eq!(
            after
                .get_call(&workspace(), done.id)
                .await
                .unwrap()
                .unwrap()
                .state,
            CallState::Succeeded
        );
        let other = Store::open(&place.url).await.unwrap();
        let third = intent(None);
        after.begin_call(&third).await.unwrap();
        assert_eq!(
            other.sweep_calls("node-b").await.unwrap(),
            0,
            "another node's calls are its own"
        );
        for store in [before, after, other] {
            store.shutdown().await;
        }
        drop_place(place).await;
    }
}

#[tokio::test]
async fn recorded_rows_are_there_after_a_flush_and_listed_newest_first() {
    on_both(async |store, _| {
        let mut ids = Vec::new();
        for _ in 0..300 {
            let intent = Intent {
                read_only: true,
                ..intent(None)
            };
            ids.push(intent.id);
            let settled = succeeded(&intent);
            store.record_call(intent, settled);
        }
        store.flush().await;
        ids.reverse();
        let page = store
            .list_calls(&RowFilter {
                limit: 50,
                ..everything()
            })
            .await
            .unwrap();
        assert_eq!(
            page.iter().map(|row| row.intent.id).collect::<Vec<_>>(),
            ids[..50]
        );
        let next = RowFilter {
            limit: 500,
            before: Some(ids[49]),
            ..everything()
        };
        assert_eq!(store.list_calls(&next).await.unwrap().len(), 250);
        let none = RowFilter {
            user: Some(UserId::new("bob").unwrap()),
            ..everything()
        };
        assert!(store.list_calls(&none).await.unwrap().is_empty());
        let failed = RowFilter {
            state: Some(CallState::Failed),
            ..everything()
        };
        assert!(store.list_calls(&failed).await.unwrap().is_empty());
        assert_eq!(store.lost_rows(), 0);
    })
    .await;
}

#[tokio::test]
async fn pruning_removes_what_ended_before_and_nothing_else() {
    on_both(async |store, _| {
        let old = Intent {
            created_at: Utc::now() - chrono::TimeDelta::days(100),
            ..intent(None)
        };
        // Ids carry their time; an old call has an old one.
        let millis = u64::try_from(old.created_at.timestamp_millis()).unwrap();
        let id = CallId(uuid::Builder::from_unix_timestamp_millis(millis, &[1; 10]).into_uuid());
        let old = Intent { id, ..old };
        let settled = Settled {
            ended_at: old.created_at,
            ..succeeded(&old)
        };
        store.record_call(old.clone(), settled);
        let new = intent(None);
        store.record_call(new.clone(), succeeded(&new));
        store.flush().await;
        assert!(
            !store.prune(Duration::from_hours(90 * 24)).await.unwrap(),
            "one chunk was enough"
        );
        let left = store.list_calls(&everything()).await.unwrap();
        assert_eq!(
            left.iter().map(|row| row.intent.id).collect::<Vec<_>>(),
            [new.id]
        );
    })
    .await;
}

#[tokio::test]
async fn users_and_keys_are_kept_without_their_secrets() {
    on_both(async |store, _| {
        let ann = UserId::new("ann").unwrap();
        assert!(store.add_workspace(&workspace()).await.unwrap());
        assert!(!store.add_workspace(&workspace()).await.unwrap());
        assert!(!store.has_admin().await.unwrap());
        store
            .put_user(&ann, &[(workspace(), vec![Role::Operator])])
            .await
            .unwrap();
        store
            .put_user(&ann, &[(workspace(), vec![Role::Admin, Role::Approver])])
            .await
            .unwrap();
        let user = store.user(&ann).await.unwrap().unwrap();
        assert_eq!(
            user.memberships,
            [(workspace(), vec![Role::Admin, Role::Approver])]
        );
        let key = KeyRow {
            key_id: "abc".into(),
            user: ann.clone(),
            secret_hash: "f".repeat(64),
            name: None,
            scopes: vec!["server.*".into()],
            workspaces: Vec::new(),
            created_at: Utc::now(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        store.add_key(&key).await.unwrap();
        assert!(store.has_admin().await.unwrap());
        assert_eq!(
            store.key("abc").await.unwrap().unwrap().scopes,
            ["server.*"]
        );
        assert!(store.revoke_key("abc").await.unwrap() && !store.revoke_key("abc").await.unwrap());
        assert!(
            !store.has_admin().await.unwrap(),
            "a revoked key lets nobody in"
        );
        assert_eq!(store.users().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_url_of_another_kind_is_refused_in_words() {
    let error = Store::open("mysql://localhost/x").await.unwrap_err();
    assert!(
        error.to_string().contains("sqlite:// or postgres://"),
        "{error}"
    );
}
