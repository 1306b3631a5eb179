//! A database of each kind for every test, and rows to put into them.

use broker::CallId;
use broker::call_state::CallState;
use broker::ledger::{CallKind, Intent, RowFilter, Settled};
use broker::store::Store;
use chrono::Utc;
use sessions::{Lane, SessionId, UserId, WorkspaceId};
use sqlx::{Connection as _, Executor as _};

/// A database of its own, gone when dropped.
pub(crate) struct Place {
    pub(crate) url: String,
    _folder: tempfile::TempDir,
}

pub(crate) async fn places() -> Vec<Place> {
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
pub(crate) async fn drop_place(place: Place) {
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
pub(crate) async fn on_both(promise: impl AsyncFn(Store, &str)) {
    for place in places().await {
        let store = Store::open(&place.url).await.unwrap();
        promise(store.clone(), &place.url).await;
        store.shutdown().await;
        drop_place(place).await;
    }
}

pub(crate) fn workspace() -> WorkspaceId {
    WorkspaceId::new("w").unwrap()
}

pub(crate) fn intent(key: Option<&str>) -> Intent {
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
        agent_id: None,
        deadline_at: None,
        approval_id: None,
    }
}

pub(crate) fn succeeded(intent: &Intent) -> Settled {
    Settled {
        id: intent.id,
        workspace: intent.workspace.clone(),
        state: CallState::Succeeded,
        session_id: Some(SessionId::mint()),
        ended_at: Utc::now(),
        duration_ms: 12,
        code: None,
        result: Some("{\"content\":[]}".into()),
        fault: None,
        frees_key: None,
    }
}

pub(crate) fn everything() -> RowFilter {
    RowFilter {
        workspace: workspace(),
        user: None,
        state: None,
        reference: None,
        since: None,
        idempotency_key: None,
        trace_id: None,
        tasks: None,
        before: None,
        limit: 500,
    }
}
