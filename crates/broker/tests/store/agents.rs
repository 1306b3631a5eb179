//! What the store promises of agents and of the calls they run, on both databases.

use std::collections::BTreeMap;

use broker::call_state::CallState;
use broker::ledger::Intent;
use broker::store::{AgentRow, Store, TokenGrant, TokenWish};
use chrono::{TimeDelta, Utc};
use sessions::{Lane, UserId, WorkspaceId};

use crate::places::{drop_place, intent, on_both, places, succeeded, workspace};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn wish(user_name: &str, agent: &str) -> TokenWish {
    TokenWish {
        user: user(user_name),
        agent_id: agent.to_owned(),
        workspace: workspace(),
        label: None,
        reset: false,
        expires_at: Utc::now() + TimeDelta::days(1),
        extend: false,
        most: 4,
    }
}

async fn granted(store: &Store, wish: &TokenWish) -> (AgentRow, bool) {
    match store.grant_agent_token(wish).await.unwrap() {
        TokenGrant::Granted { row, revoked } => (*row, revoked),
        refused => panic!("{refused:?}"),
    }
}

async fn first_as_kept(store: &Store) -> chrono::DateTime<Utc> {
    let row = store.agent(&user("ann"), "laptop").await.unwrap();
    row.unwrap().token_expires_at
}

#[tokio::test]
async fn one_token_of_an_agent_is_good_and_no_old_one_comes_back() {
    on_both(async |store, _| {
        let (first, revoked) = granted(&store, &wish("ann", "laptop")).await;
        assert_eq!((first.token_version, revoked), (1, false));
        let (again, revoked) = granted(&store, &wish("ann", "laptop")).await;
        assert_eq!(
            (again.token_version, revoked),
            (1, false),
            "reused while it is good"
        );
        let longer = TokenWish {
            expires_at: Utc::now() + TimeDelta::days(9),
            ..wish("ann", "laptop")
        };
        let (kept, _) = granted(&store, &longer).await;
        assert_eq!(kept.token_expires_at, first_as_kept(&store).await);
        let extended = TokenWish {
            extend: true,
            ..longer
        };
        let (extended, _) = granted(&store, &extended).await;
        assert_eq!(extended.token_version, 1);
        assert!(extended.token_expires_at > kept.token_expires_at);
        let reset = TokenWish {
            reset: true,
            label: Some("my laptop".into()),
            ..wish("ann", "laptop")
        };
        let (second, revoked) = granted(&store, &reset).await;
        assert_eq!((second.token_version, revoked), (2, true));
        let ann = user("ann");
        let connects = |version| store.agent_connects((&ann, "laptop"), version, "{}");
        assert_eq!(
            connects(1).await.unwrap(),
            None,
            "the old version lets nobody in"
        );
        assert_eq!(connects(2).await.unwrap(), Some(1));
        assert_eq!(connects(2).await.unwrap(), Some(2), "epochs rise");
        assert!(store.delete_agent(&ann, "laptop").await.unwrap());
        assert!(!store.delete_agent(&ann, "laptop").await.unwrap());
        assert_eq!(
            connects(2).await.unwrap(),
            None,
            "a deleted agent is not let in"
        );
        assert!(store.agents().await.unwrap().is_empty());
        let (third, revoked) = granted(&store, &wish("ann", "laptop")).await;
        assert_eq!((third.token_version, revoked), (3, false));
        assert_eq!(third.label, None, "nothing of the deleted one is left");
        assert_eq!(connects(2).await.unwrap(), None);
        assert_eq!(
            connects(3).await.unwrap(),
            Some(3),
            "epochs rise past a deletion"
        );
    })
    .await;
}

#[tokio::test]
async fn an_expired_token_makes_room_for_the_next_version() {
    on_both(async |store, _| {
        let past = TokenWish {
            expires_at: Utc::now() - TimeDelta::seconds(1),
            ..wish("ann", "laptop")
        };
        assert_eq!(granted(&store, &past).await.0.token_version, 1);
        let (next, revoked) = granted(&store, &wish("ann", "laptop")).await;
        assert_eq!((next.token_version, revoked), (2, true));
    })
    .await;
}

#[tokio::test]
async fn equal_ids_of_two_users_are_two_agents_and_one_users_stay_in_one_workspace() {
    on_both(async |store, _| {
        granted(&store, &wish("ann", "laptop")).await;
        let reset = TokenWish {
            reset: true,
            ..wish("bob", "laptop")
        };
        assert_eq!(granted(&store, &reset).await.0.token_version, 1);
        assert_eq!(
            store
                .agent(&user("ann"), "laptop")
                .await
                .unwrap()
                .unwrap()
                .token_version,
            1
        );
        let elsewhere = TokenWish {
            workspace: WorkspaceId::new("other").unwrap(),
            ..wish("ann", "laptop")
        };
        assert_eq!(
            store.grant_agent_token(&elsewhere).await.unwrap(),
            TokenGrant::Elsewhere
        );
        for number in 0..3 {
            granted(&store, &wish("ann", &format!("more-{number}"))).await;
        }
        assert_eq!(
            store
                .grant_agent_token(&wish("ann", "fifth"))
                .await
                .unwrap(),
            TokenGrant::TooMany
        );
        granted(&store, &wish("bob", "fifth")).await;
    })
    .await;
}

#[tokio::test]
async fn of_many_who_ask_at_once_all_get_the_one_token() {
    on_both(async |store, _| {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let store = store.clone();
            tasks.spawn(async move { store.grant_agent_token(&wish("ann", "laptop")).await });
        }
        let mut versions = Vec::new();
        for granted in tasks.join_all().await {
            // A database that finds two of them in each other's way refuses one; it asks again.
            if let Ok(TokenGrant::Granted { row, .. }) = granted {
                versions.push(row.token_version);
            }
        }
        assert!(!versions.is_empty());
        let live = store.agent(&user("ann"), "laptop").await.unwrap().unwrap();
        assert!(
            versions
                .iter()
                .all(|version| *version == live.token_version),
            "{versions:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_an_agent_told_is_there_after_a_restart() {
    on_both(async |store, url| {
        let ann = user("ann");
        granted(&store, &wish("ann", "laptop")).await;
        store
            .agent_connects((&ann, "laptop"), 1, r#"{"os":"linux"}"#)
            .await
            .unwrap();
        store
            .keep_agent_catalogue(&ann, "laptop", r#"{"servers":[]}"#)
            .await
            .unwrap();
        store.agent_seen(&ann, "laptop").await.unwrap();
        let again = Store::open(url).await.unwrap();
        let rows = again.agents().await.unwrap();
        let row = &rows[0];
        assert_eq!(
            (row.user.as_str(), row.agent_id.as_str()),
            ("ann", "laptop")
        );
        assert_eq!(
            (row.epoch, row.meta.as_deref()),
            (1, Some(r#"{"os":"linux"}"#))
        );
        assert_eq!(row.catalogue.as_deref(), Some(r#"{"servers":[]}"#));
        assert!(row.last_seen_at.is_some() && row.catalogue_at.is_some());
        again.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_lane_means_one_agent_and_lanes_are_bounded() {
    on_both(async |store, _| {
        let (ann, home) = (user("ann"), workspace());
        let whose = (&home, &ann);
        granted(&store, &wish("ann", "laptop")).await;
        let lane = |name: &str| Lane::new(name).unwrap();
        for agent in ["desktop", "laptop"] {
            assert!(
                store
                    .set_default_agent(whose, &lane(""), Some(agent))
                    .await
                    .unwrap()
            );
        }
        assert!(
            store
                .set_default_agent(whose, &lane("run:1"), Some("laptop"))
                .await
                .unwrap()
        );
        let key = |name: &str| (home.clone(), ann.clone(), lane(name));
        let both = BTreeMap::from([
            (key(""), "laptop".to_owned()),
            (key("run:1"), "laptop".to_owned()),
        ]);
        assert_eq!(store.default_agents().await.unwrap(), both);
        assert!(
            store
                .set_default_agent(whose, &lane("run:1"), None)
                .await
                .unwrap()
        );
        for number in 0..255 {
            let lane = lane(&format!("lane:{number}"));
            assert!(
                store
                    .set_default_agent(whose, &lane, Some("laptop"))
                    .await
                    .unwrap()
            );
        }
        assert!(
            !store
                .set_default_agent(whose, &lane("one-more"), Some("laptop"))
                .await
                .unwrap()
        );
        assert!(
            store
                .set_default_agent(whose, &lane(""), Some("laptop"))
                .await
                .unwrap()
        );
        store.delete_agent(&ann, "laptop").await.unwrap();
        assert!(store.default_agents().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn calls_that_agents_run_are_left_open_at_a_start_and_told_apart_by_node() {
    for place in places().await {
        let before = Store::open(&place.url).await.unwrap();
        before.sweep_calls("node-a").await.unwrap();
        let deadline = Utc::now() + TimeDelta::minutes(1);
        let through = |agent: Option<&str>| Intent {
            agent_id: agent.map(str::to_owned),
            deadline_at: agent.map(|_| deadline),
            ..intent(None)
        };
        let (plain, open, done) = (
            through(None),
            through(Some("laptop")),
            through(Some("laptop")),
        );
        for one in [&plain, &open, &done] {
            assert!(before.begin_call(one).await.unwrap());
        }
        assert!(
            before
                .settle_call(done.clone(), &succeeded(&done))
                .await
                .unwrap()
        );
        // No shutdown: as a killed process leaves it.
        let after = Store::open(&place.url).await.unwrap();
        assert_eq!(after.sweep_calls("node-a").await.unwrap(), 1);
        let left = after.unsettled_agent_calls("node-a").await.unwrap();
        let ids: Vec<_> = left.iter().map(|row| row.intent.id).collect();
        assert_eq!(ids, [open.id]);
        let row = &left[0];
        assert_eq!(row.state, CallState::Dispatched);
        assert_eq!(row.intent.agent_id.as_deref(), Some("laptop"));
        assert_eq!(
            row.intent.deadline_at.map(|at| at.timestamp_millis()),
            Some(deadline.timestamp_millis())
        );
        assert!(
            after
                .unsettled_agent_calls("node-b")
                .await
                .unwrap()
                .is_empty()
        );
        assert!(
            after
                .settle_call(open.clone(), &succeeded(&open))
                .await
                .unwrap()
        );
        assert!(
            after
                .unsettled_agent_calls("node-a")
                .await
                .unwrap()
                .is_empty()
        );
        for store in [before, after] {
            store.shutdown().await;
        }
        drop_place(place).await;
    }
}

#[tokio::test]
async fn a_row_written_behind_its_answer_names_its_agent() {
    on_both(async |store, _| {
        let reads = |agent: Option<&str>| Intent {
            read_only: true,
            agent_id: agent.map(str::to_owned),
            ..intent(None)
        };
        let mut all = Vec::new();
        for number in 0..40 {
            let agent = (number % 2 == 0).then_some("laptop");
            let intent = reads(agent);
            store.record_call(intent.clone(), succeeded(&intent));
            all.push((intent.id, agent));
        }
        store.flush().await;
        for (id, agent) in all {
            let row = store.get_call(&workspace(), id).await.unwrap().unwrap();
            assert_eq!(row.intent.agent_id.as_deref(), agent);
        }
    })
    .await;
}
