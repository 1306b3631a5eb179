//! What the store promises, on both databases.

use std::time::Duration;

use broker::call_state::CallState;
use broker::ledger::{CallKind, Intent, RowFilter, Settled, Tasks};
use broker::store::{KeyRow, LoginRow, Store};
use broker::{CallId, Role};
use chrono::Utc;
use sessions::{UserId, WorkspaceId};
use sqlx::{AnyConnection, Connection as _, Executor as _};
use transports::ServerName;

use crate::places::{drop_place, everything, intent, on_both, places, succeeded, workspace};

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
        assert!(
            store
                .settle_call(intent.clone(), &succeeded(&intent))
                .await
                .unwrap()
        );
        let late = Settled {
            state: CallState::Failed,
            ..succeeded(&intent)
        };
        assert!(
            !store.settle_call(intent.clone(), &late).await.unwrap(),
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
        assert!(
            before
                .settle_call(done.clone(), &succeeded(&done))
                .await
                .unwrap()
        );
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
async fn tasks_are_told_from_other_calls_and_by_their_servers() {
    on_both(async |store, _| {
        let of = |kind, reference: &str, detached| Intent {
            kind,
            reference: reference.to_owned(),
            detached,
            ..intent(None)
        };
        let task = of(CallKind::Tool, "a.tool.x", true);
        let other = of(CallKind::Tool, "ab.tool", true);
        for intent in [
            &task,
            &other,
            &of(CallKind::Tool, "a.tool", false),
            &of(CallKind::Resource, "a.uri", true),
        ] {
            assert!(store.begin_call(intent).await.unwrap());
        }
        for (server, expected) in [
            (None, vec![other.id, task.id]),
            (Some("a"), vec![task.id]),
            (Some("b"), vec![]),
        ] {
            let server = server.map(|name| ServerName::new(name).unwrap());
            let filter = RowFilter {
                user: Some(task.user.clone()),
                tasks: Some(Tasks { server }),
                ..everything()
            };
            let rows = store.list_calls(&filter).await.unwrap();
            let found: Vec<_> = rows.iter().map(|row| row.intent.id).collect();
            assert_eq!(found, expected);
        }
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

fn key(key_id: &str) -> KeyRow {
    KeyRow {
        key_id: key_id.into(),
        user: UserId::new("ann").unwrap(),
        secret_hash: "f".repeat(64),
        name: Some("ci".into()),
        scopes: vec!["server.*".into()],
        workspaces: vec!["w".into()],
        created_at: Utc::now(),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

#[tokio::test]
async fn a_key_is_succeeded_once_it_is_good_and_never_after() {
    on_both(async |store, _| {
        store.add_key(&key("old")).await.unwrap();
        let before = store.principals_epoch().await.unwrap();
        let end = Utc::now() + chrono::TimeDelta::hours(1);
        assert!(store.succeed_key("old", (&key("new"), end)).await.unwrap());
        assert!(store.principals_epoch().await.unwrap() > before);
        let old = store.key("old").await.unwrap().unwrap();
        let ends = old.expires_at.map(|end| end.timestamp_millis());
        assert_eq!(ends, Some(end.timestamp_millis()));
        let new = store.key("new").await.unwrap().unwrap();
        assert_eq!(
            (new.scopes, new.workspaces, new.expires_at),
            (old.scopes, old.workspaces, None)
        );
        assert!(store.revoke_key("old").await.unwrap());
        for over in ["old", "nobody"] {
            let succeeded = store.succeed_key(over, (&key("late"), end)).await;
            assert!(!succeeded.unwrap(), "{over}");
        }
        assert!(store.key("late").await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn logins_are_kept_to_a_number_and_a_time() {
    on_both(async |store, _| {
        let login = |number: i64, hours: i64| LoginRow {
            login_id: format!("login-{number}"),
            secret_hash: "f".repeat(64),
            user: UserId::new("ann").unwrap(),
            key_id: None,
            memberships: vec![(workspace(), vec![Role::Viewer])],
            created_at: Utc::now() + chrono::TimeDelta::seconds(number),
            expires_at: Utc::now() + chrono::TimeDelta::hours(hours),
        };
        for number in 0..51 {
            store.add_login(&login(number, 1)).await.unwrap();
        }
        assert!(
            store.login("login-0").await.unwrap().is_none(),
            "the oldest makes room"
        );
        let kept = store.login("login-1").await.unwrap().unwrap();
        assert_eq!(kept.memberships, [(workspace(), vec![Role::Viewer])]);
        assert!(store.end_login("login-1").await.unwrap());
        assert!(!store.end_login("login-1").await.unwrap());
        store.add_login(&login(99, -1)).await.unwrap();
        while store.prune(Duration::ZERO).await.unwrap() {}
        assert!(store.login("login-99").await.unwrap().is_none());
        assert!(store.login("login-50").await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_signing_secret_is_made_once_and_stays() {
    on_both(async |store, url| {
        let first = store.signing_secret("mcp").await.unwrap();
        assert_ne!(first, [0; 32]);
        assert_ne!(store.signing_secret("other").await.unwrap(), first);
        let again = Store::open(url).await.unwrap();
        assert_eq!(again.signing_secret("mcp").await.unwrap(), first);
        again.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_note_is_kept_until_another_takes_its_place() {
    on_both(async |store, _url| {
        assert_eq!(store.note("mcp:a").await.unwrap(), None);
        for text in ["{}", r#"{"level":"info"}"#] {
            store.put_note("mcp:a", text).await.unwrap();
            assert_eq!(store.note("mcp:a").await.unwrap().as_deref(), Some(text));
        }
        store.put_note("mcp:b", "other").await.unwrap();
        // Fresh notes outlive the retention of calls.
        while store.prune(std::time::Duration::ZERO).await.unwrap() {}
        store.drop_note("mcp:a").await.unwrap();
        assert_eq!(store.note("mcp:a").await.unwrap(), None);
        assert_eq!(store.note("mcp:b").await.unwrap().as_deref(), Some("other"));
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

#[tokio::test]
async fn a_ledger_of_the_first_version_is_taken_over() {
    for place in places().await {
        sqlx::any::install_default_drivers();
        let url = place.url.replace("bridge.db", "bridge.db?mode=rwc");
        let mut old = AnyConnection::connect(&url).await.unwrap();
        sqlx::migrate!().run_to(1, &mut old).await.unwrap();
        let call = intent(None);
        let row = format!(
            "INSERT INTO calls (id, workspace, user_id, key_id, kind, reference, lane, trace_id, arguments_digest, \
             preview, request_digest, read_only, detached, node, created_ms, state) VALUES \
             ('{}', 'w', 'ann', 'k', 'tool', 'server.tool', '', 'trace', '{zeros}', '', '{zeros}', 0, 0, 'n', 1, \
             'dispatched')",
            call.id,
            zeros = "0".repeat(64)
        );
        old.execute(sqlx::AssertSqlSafe(row)).await.unwrap();
        old.close().await.unwrap();
        let store = Store::open(&place.url).await.unwrap();
        assert_eq!(store.sweep_calls("n").await.unwrap(), 1);
        let row = store
            .get_call(&workspace(), call.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.state, CallState::OutcomeUnknown);
        assert_eq!(row.intent.reference, "server.tool");
        store.shutdown().await;
        drop_place(place).await;
    }
}
