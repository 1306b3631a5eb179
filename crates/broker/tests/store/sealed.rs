//! What the store promises of sealed values, on both databases. It never sees inside one.

use broker::store::SealedRow;
use broker::vault::{Holder, Kind, Sealed};
use chrono::{DateTime, TimeDelta, Utc};
use sessions::UserId;
use transports::ServerName;

use crate::places::{on_both, workspace};

fn holder(user: Option<&str>) -> Holder {
    Holder {
        workspace: workspace(),
        server: ServerName::new("s").unwrap(),
        user: user.map(|user| UserId::new(user).unwrap()),
    }
}

fn row(holder: &Holder, (kind, field): (Kind, &str), version: u64) -> SealedRow {
    SealedRow {
        place: holder.at(kind, field),
        version,
        sealed: Sealed {
            key_id: "k1".to_owned(),
            wrapped_key: format!("wrapped {version}"),
            body: format!("body {version}"),
        },
        about: "{}".to_owned(),
        written_at: DateTime::from_timestamp_millis(1_000 * i64::try_from(version).unwrap())
            .unwrap(),
    }
}

#[tokio::test]
async fn of_two_changes_to_one_version_one_is_written() {
    on_both(async |store, _| {
        let ann = holder(Some("ann"));
        let first = row(&ann, (Kind::Grant, "https://as.example"), 1);
        assert!(store.put_sealed(&first).await.unwrap());
        assert!(!store.put_sealed(&first).await.unwrap(), "it is there");
        let skipped = row(&ann, (Kind::Grant, "https://as.example"), 3);
        assert!(!store.put_sealed(&skipped).await.unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (store, ann) = (store.clone(), ann.clone());
            tasks.spawn(async move {
                let next = row(&ann, (Kind::Grant, "https://as.example"), 2);
                store.put_sealed(&next).await.unwrap()
            });
        }
        let written = tasks.join_all().await.into_iter().filter(|won| *won);
        assert_eq!(written.count(), 1);
        let now = store.sealed(&first.place).await.unwrap().unwrap();
        assert_eq!((now.version, now.sealed.body.as_str()), (2, "body 2"));
        assert!(!store.drop_sealed(&first.place, 1).await.unwrap());
        assert!(store.drop_sealed(&first.place, 2).await.unwrap());
        assert!(store.sealed(&first.place).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn one_of_many_claims_a_version_until_its_time_or_the_next_version() {
    on_both(async |store, _| {
        let first = row(&holder(None), (Kind::Grant, "i"), 1);
        store.put_sealed(&first).await.unwrap();
        let (now, until) = (Utc::now(), Utc::now() + TimeDelta::seconds(25));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (store, place) = (store.clone(), first.place.clone());
            tasks
                .spawn(async move { store.claim_sealed((&place, 1), (now, until)).await.unwrap() });
        }
        let claimed = tasks.join_all().await.into_iter().filter(|won| *won);
        assert_eq!(claimed.count(), 1);
        let later = until + TimeDelta::seconds(1);
        let again = store.claim_sealed((&first.place, 1), (later, later));
        assert!(
            again.await.unwrap(),
            "a node that died holds nothing for ever"
        );
        let second = row(&holder(None), (Kind::Grant, "i"), 2);
        assert!(store.put_sealed(&second).await.unwrap());
        let old = store.claim_sealed((&first.place, 1), (later, later));
        assert!(!old.await.unwrap());
        let fresh = store.claim_sealed((&first.place, 2), (now, until));
        assert!(fresh.await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn each_holder_sees_its_own_and_flows_are_found_by_their_digest_and_pruned() {
    on_both(async |store, _| {
        let (ann, bob, all) = (holder(Some("ann")), holder(Some("bob")), holder(None));
        for (whose, kind, field) in [
            (&ann, Kind::Secret, "a"),
            (&ann, Kind::Grant, "i"),
            (&bob, Kind::Secret, "b"),
            (&all, Kind::Secret, "w"),
            (&all, Kind::Client, "i"),
            (&ann, Kind::Flow, "digest"),
        ] {
            assert!(
                store
                    .put_sealed(&row(whose, (kind, field), 1))
                    .await
                    .unwrap()
            );
        }
        let fields = |rows: Vec<SealedRow>| {
            let fields = rows.into_iter().map(|row| row.place.field);
            fields.collect::<Vec<_>>()
        };
        let hers = store.sealed_of(&ann, Kind::Secret).await.unwrap();
        assert_eq!(fields(hers), ["a"]);
        let user = ann.user.clone().unwrap();
        let shown = store.sealed_shown(&workspace(), &user).await.unwrap();
        assert_eq!(fields(shown), ["w", "i", "a"]);
        let elsewhere = sessions::WorkspaceId::new("other").unwrap();
        assert!(
            store
                .sealed_shown(&elsewhere, &user)
                .await
                .unwrap()
                .is_empty()
        );
        let flow = store.sealed_flow("digest").await.unwrap().unwrap();
        assert_eq!(flow.place.holder, ann);
        assert!(store.sealed_flow("a").await.unwrap().is_none());
        let second = DateTime::from_timestamp_millis(1_000).unwrap();
        store.prune_flows(second).await.unwrap();
        assert!(store.sealed_flow("digest").await.unwrap().is_some());
        store
            .prune_flows(second + TimeDelta::seconds(1))
            .await
            .unwrap();
        assert!(store.sealed_flow("digest").await.unwrap().is_none());
        assert_eq!(store.drop_sealed_of(&ann, Kind::Secret).await.unwrap(), 1);
        assert_eq!(
            fields(store.sealed_of(&bob, Kind::Secret).await.unwrap()),
            ["b"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_wrapping_is_replaced_where_nothing_else_changed() {
    on_both(async |store, _| {
        let first = row(&holder(None), (Kind::Secret, "x"), 1);
        store.put_sealed(&first).await.unwrap();
        let wrapped = Sealed {
            key_id: "k2".to_owned(),
            wrapped_key: "anew".to_owned(),
            body: "not looked at".to_owned(),
        };
        let others = store.sealed_by_others("k2", 0).await.unwrap();
        assert_eq!(others.len(), 1);
        assert!(store.rewrap_sealed(&first, &wrapped).await.unwrap());
        assert!(!store.rewrap_sealed(&first, &wrapped).await.unwrap());
        let now = store.sealed(&first.place).await.unwrap().unwrap();
        assert_eq!(
            (now.sealed.key_id.as_str(), now.sealed.body.as_str()),
            ("k2", "body 1")
        );
        assert!(store.sealed_by_others("k2", 0).await.unwrap().is_empty());
    })
    .await;
}
