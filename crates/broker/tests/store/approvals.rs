//! What the store promises of approvals and held calls, on both databases.

use broker::call_state::CallState;
use broker::store::approvals::{ApprovalRow, Decided, OpenLimits};
use broker::{ApprovalId, ApprovalState, CallId};
use chrono::{TimeDelta, Utc};
use sessions::{UserId, WorkspaceId};

use crate::places::{intent, on_both, succeeded, workspace};

const ROOM: OpenLimits = OpenLimits {
    per_user: 10,
    in_all: 10,
};

fn approval(call_id: Option<CallId>) -> ApprovalRow {
    // The store counts milliseconds.
    let now = chrono::DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).unwrap();
    ApprovalRow {
        id: ApprovalId::mint(),
        workspace: workspace(),
        user: UserId::new("ann").unwrap(),
        reference: "bank.pay".to_owned(),
        agent_id: String::new(),
        arguments_digest: [1; 32],
        schema_hash: catalog::Hash([2; 32]),
        trace_id: "t".to_owned(),
        rule: "roles.operator.confirm".to_owned(),
        self_confirm: false,
        preview: "{}".to_owned(),
        call_id,
        state: ApprovalState::Pending,
        created_at: now,
        expires_at: now + TimeDelta::minutes(5),
        decided_at: None,
        decided_by: None,
        note: None,
    }
}

fn yes() -> Decided {
    Decided {
        state: ApprovalState::Approved,
        by: UserId::new("eve").unwrap(),
        note: Some("fine".to_owned()),
        at: Utc::now(),
        expires_at: Utc::now() + TimeDelta::minutes(5),
    }
}

#[tokio::test]
async fn an_approval_is_decided_once_and_used_once() {
    on_both(async |store, _| {
        let row = approval(None);
        assert!(store.add_approval(&row, ROOM).await.unwrap());
        assert_eq!(
            store.approval(&workspace(), row.id).await.unwrap().as_ref(),
            Some(&row)
        );
        assert_eq!(
            store.open_approval(&row).await.unwrap().as_ref(),
            Some(&row)
        );
        let elsewhere = WorkspaceId::new("other").unwrap();
        assert_eq!(store.approval(&elsewhere, row.id).await.unwrap(), None);
        assert!(
            !store.spend_approval(&workspace(), row.id).await.unwrap(),
            "nobody approved it"
        );
        assert!(
            store
                .decide_approval(&workspace(), row.id, &yes())
                .await
                .unwrap()
        );
        assert!(
            !store
                .decide_approval(&workspace(), row.id, &yes())
                .await
                .unwrap()
        );
        let mut uses = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (store, id) = (store.clone(), row.id);
            uses.spawn(async move { store.spend_approval(&workspace(), id).await.unwrap() });
        }
        let won = uses.join_all().await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1);
        let now = store.approval(&workspace(), row.id).await.unwrap().unwrap();
        assert_eq!(
            (now.state, now.note.as_deref()),
            (ApprovalState::Used, Some("fine"))
        );
        assert_eq!(store.open_approval(&row).await.unwrap(), None);
        let ann = UserId::new("ann").unwrap();
        let eve = UserId::new("eve").unwrap();
        let place = workspace();
        let listed = async |user| {
            let some = store.list_approvals(&place, (user, None), 10);
            some.await.unwrap().len()
        };
        assert_eq!(
            (
                listed(None).await,
                listed(Some(&ann)).await,
                listed(Some(&eve)).await
            ),
            (1, 1, 0)
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_over_its_time_is_neither_decided_nor_used_and_few_may_be_open() {
    on_both(async |store, _| {
        let late = ApprovalRow {
            expires_at: Utc::now() - TimeDelta::seconds(1),
            self_confirm: true,
            ..approval(None)
        };
        assert!(store.add_approval(&late, ROOM).await.unwrap());
        assert!(
            !store
                .decide_approval(&workspace(), late.id, &yes())
                .await
                .unwrap()
        );
        assert!(!store.spend_approval(&workspace(), late.id).await.unwrap());
        let few = OpenLimits {
            per_user: 2,
            in_all: 3,
        };
        for (user, taken) in [
            ("ann", true),
            ("ann", true),
            ("ann", false),
            ("bob", true),
            ("cem", false),
        ] {
            let row = ApprovalRow {
                user: UserId::new(user).unwrap(),
                ..approval(None)
            };
            assert_eq!(
                store.add_approval(&row, few).await.unwrap(),
                taken,
                "{user}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_held_call_is_released_once_or_ends_with_its_process_and_frees_its_key() {
    on_both(async |store, _| {
        let held = intent(Some("k1"));
        assert!(store.hold_call(&held).await.unwrap());
        assert!(
            !store.begin_call(&intent(Some("k1"))).await.unwrap(),
            "the key is its own"
        );
        let state = async |id| {
            store
                .get_call(&workspace(), id)
                .await
                .unwrap()
                .unwrap()
                .state
        };
        assert_eq!(state(held.id).await, CallState::AwaitingApproval);
        let of = (&held.workspace, held.id);
        assert!(store.release_call(of, None).await.unwrap());
        assert!(!store.release_call(of, None).await.unwrap());
        assert_eq!(state(held.id).await, CallState::Dispatched);
        let other = intent(Some("k2"));
        assert!(store.hold_call(&other).await.unwrap());
        let asked = approval(Some(other.id));
        assert!(store.add_approval(&asked, ROOM).await.unwrap());
        store.sweep_calls("local").await.unwrap();
        assert_eq!(state(other.id).await, CallState::Cancelled);
        assert_eq!(
            state(held.id).await,
            CallState::OutcomeUnknown,
            "it may have been sent"
        );
        let asked = store
            .approval(&workspace(), asked.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(asked.state, ApprovalState::Withdrawn);
        assert!(
            store.begin_call(&intent(Some("k2"))).await.unwrap(),
            "the key is free"
        );
        assert!(
            !store.begin_call(&intent(Some("k1"))).await.unwrap(),
            "this one is not"
        );
    })
    .await;
}

#[tokio::test]
async fn an_end_that_frees_its_key_frees_no_other() {
    on_both(async |store, _| {
        let first = intent(Some("k"));
        assert!(store.begin_call(&first).await.unwrap());
        let mut end = succeeded(&first);
        end.state = CallState::Failed;
        end.frees_key = Some(broker::ledger::HeldKey {
            user: first.user.clone(),
            reference: first.reference.clone(),
            key: "k".to_owned(),
        });
        assert!(store.settle_call(first.clone(), &end).await.unwrap());
        let second = intent(Some("k"));
        assert!(
            store.begin_call(&second).await.unwrap(),
            "the first one did not use it up"
        );
        assert!(
            !store.settle_call(first.clone(), &end).await.unwrap(),
            "an end counts once"
        );
        assert!(
            !store.begin_call(&intent(Some("k"))).await.unwrap(),
            "the second one holds it"
        );
    })
    .await;
}
