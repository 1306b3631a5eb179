//! Sessions on their way out keep their place until they are gone.

use std::time::Duration;

use sessions::{Isolation, OpenError, SessionLimits, SessionNotice, Sessions, StateName, Target};
use tokio::time::Instant;
use transports::testing::{Behaviour, FakeServer};
use transports::{Request, RequestError};

use crate::support::{MINUTE, acquire, call, caller, settle, target};

#[tokio::test(start_paused = true)]
async fn a_replaced_session_counts_and_is_listed_as_closing_until_its_call_is_done() {
    let (server, other) = (FakeServer::legacy(), FakeServer::legacy());
    let sessions = Sessions::new(SessionLimits {
        max_per_user: 2,
        heartbeat: Duration::ZERO,
        ..SessionLimits::default()
    });
    let first = target(&server, Isolation::User);
    let second = Target {
        version: 2,
        ..first.clone()
    };
    let mut elsewhere = target(&other, Isolation::User);
    elsewhere.spec = std::sync::Arc::new(other.spec("other").unwrap());
    let old = acquire(&sessions, "ann", &first).await.unwrap();
    let new = acquire(&sessions, "ann", &second).await.unwrap();
    let shown: Vec<_> = sessions
        .list()
        .iter()
        .map(|one| (one.id, one.state, one.in_flight))
        .collect();
    assert_eq!(
        shown,
        [
            (old.id(), StateName::Closing, 1),
            (new.id(), StateName::Ready, 1)
        ]
    );
    assert_eq!(
        sessions.inspect(old.id()).unwrap().state,
        StateName::Closing
    );
    assert_eq!(sessions.count(), 2);
    let refused = acquire(&sessions, "ann", &elsewhere).await.unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::TooMany {
                limit: 2,
                own: true
            }
        ),
        "{refused:?}"
    );
    assert!(old.request(call()).await.is_ok(), "its call finishes");
    drop(old);
    assert!(acquire(&sessions, "ann", &elsewhere).await.is_ok());
    drop(new);
    settle().await;
    assert_eq!(sessions.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closing_session_is_not_refreshed_but_can_be_closed() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let first = target(&server, Isolation::User);
    let old = acquire(&sessions, "ann", &first).await.unwrap();
    sessions.retire(&caller("ann").workspace, &first.spec.name);
    let deadline = Instant::now() + MINUTE;
    assert!(sessions.refresh(old.id(), deadline).await.is_none());
    assert!(sessions.close(old.id()).await);
    assert!(matches!(
        old.request(call()).await,
        Err(RequestError::Closed { .. })
    ));
    assert_eq!(sessions.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_closing_session_that_lost_its_connection_opens_no_other() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    sessions.retire(&caller("ann").workspace, &target.spec.name);
    server.kick();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(server.opened(), 1);
    assert_eq!(sessions.list()[0].state, StateName::Closing);
    drop(lease);
    settle().await;
    assert_eq!(sessions.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn watchers_hear_that_a_session_is_closing_and_then_that_it_is_closed_and_why() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let mut notices = sessions.notices();
    sessions.retire(&caller("ann").workspace, &target.spec.name);
    settle().await;
    drop(lease);
    settle().await;
    let mut heard = Vec::new();
    while let Ok(SessionNotice::State { state, reason, .. }) = notices.try_recv() {
        heard.push((state, reason.unwrap_or_default()));
    }
    let went_away = || "its definition went away".to_owned();
    assert_eq!(heard.first(), Some(&(StateName::Closing, went_away())));
    assert_eq!(heard.last(), Some(&(StateName::Closed, went_away())));
}

#[tokio::test(start_paused = true)]
async fn draining_gives_a_retired_sessions_call_its_grace_and_no_more() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    server.behave(Behaviour::Silent);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let hung = tokio::spawn(async move {
        lease
            .request(Request {
                timeout: 60 * MINUTE,
                ..call()
            })
            .await
    });
    settle().await;
    sessions.retire(&caller("ann").workspace, &target.spec.name);
    let before = Instant::now();
    sessions
        .drain(Instant::now() + Duration::from_secs(10))
        .await;
    let took = before.elapsed();
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(20)).contains(&took),
        "{took:?}"
    );
    assert!(matches!(
        hung.await.unwrap(),
        Err(RequestError::Closed { .. })
    ));
    assert_eq!(sessions.count(), 0);
}
