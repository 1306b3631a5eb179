//! The life of sessions on paused time, through the public surface, against a server that speaks MCP.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod closing;
mod loss;
mod many;
mod places;
mod questions;
mod support;
mod timing;
mod versions;

use std::time::Duration;

use sessions::{
    Caller, Isolation, Lane, OpenError, SessionLimits, SessionNotice, Sessions, StateName, Target,
};
use support::{MINUTE, acquire, call, caller, settle, state_of, target, until};
use tokio::time::Instant;
use transports::testing::{Behaviour, FakeServer};
use transports::{Request, RequestError};

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_at_once_open_one_session() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (sessions, target) = (sessions.clone(), target.clone());
        tasks.spawn(async move {
            let lease = acquire(&sessions, "ann", &target).await.unwrap();
            lease.request(call()).await.unwrap().get().contains("hi")
        });
    }
    assert!(tasks.join_all().await.into_iter().all(|said_it| said_it));
    assert_eq!(
        (server.opened(), server.initialized(), server.calls()),
        (1, 1, 100)
    );
    assert_eq!(sessions.list()[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn isolation_decides_who_shares() {
    for (isolation, expected) in [
        (Isolation::Shared, 1),
        (Isolation::User, 2),
        (Isolation::Lane, 3),
        (Isolation::Call, 4),
    ] {
        let server = FakeServer::modern();
        let sessions = Sessions::new(SessionLimits::default());
        let target = target(&server, isolation);
        for (user, lane) in [("ann", ""), ("ann", "run:1"), ("ann", "run:1"), ("bob", "")] {
            let caller = Caller {
                lane: Lane::new(lane).unwrap(),
                ..caller(user)
            };
            let lease = sessions
                .acquire(&caller, &target, Instant::now() + MINUTE)
                .await
                .unwrap();
            lease.request(call()).await.unwrap();
        }
        assert_eq!(server.initialized(), expected, "{isolation:?}");
        settle().await;
        let left = if isolation == Isolation::Call {
            0
        } else {
            expected
        };
        assert_eq!(sessions.count(), left, "{isolation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_evicted_but_never_under_a_call() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits {
        idle: MINUTE,
        heartbeat: Duration::ZERO,
        ..SessionLimits::default()
    });
    let target = target(&server, Isolation::User);
    server.behave(Behaviour::Slow(5 * MINUTE));
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let answer = lease
        .request(Request {
            timeout: 10 * MINUTE,
            ..call()
        })
        .await;
    assert!(
        answer.is_ok(),
        "five idle limits passed inside one call: {answer:?}"
    );
    assert_eq!(sessions.count(), 1);
    drop(lease);
    tokio::time::sleep(MINUTE + Duration::from_secs(2)).await;
    settle().await;
    assert_eq!(sessions.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_calls_own_session_leaves_nothing_behind_when_it_never_opened() {
    let server = FakeServer::legacy();
    server.refuse_connections(true);
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::Call);
    for _ in 0..20 {
        assert!(acquire(&sessions, "ann", &target).await.is_err());
    }
    settle().await;
    assert_eq!(sessions.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_nobody_answers_spares_a_call_in_flight() {
    let server = FakeServer::legacy();
    let limits = SessionLimits {
        heartbeat: Duration::from_secs(30),
        ..SessionLimits::default()
    };
    let sessions = Sessions::new(limits);
    let lease = acquire(&sessions, "ann", &target(&server, Isolation::User))
        .await
        .unwrap();
    server.behave(Behaviour::Slow(5 * MINUTE));
    let calling = tokio::spawn(async move {
        lease
            .request(Request {
                timeout: 10 * MINUTE,
                ..call()
            })
            .await
    });
    settle().await;
    server.go_deaf(true);
    until(&sessions, StateName::Degraded).await;
    assert!(
        calling.await.unwrap().is_ok(),
        "a busy server is not a dead one"
    );
}

#[tokio::test(start_paused = true)]
async fn an_explicit_opening_keeps_an_idle_session_for_its_ttl() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits {
        idle: MINUTE,
        heartbeat: Duration::ZERO,
        ..SessionLimits::default()
    });
    let target = target(&server, Isolation::User);
    let opened = sessions
        .open(
            &caller("ann"),
            &target,
            (Some(10 * MINUTE), Instant::now() + MINUTE),
        )
        .await
        .unwrap();
    assert_eq!(opened.state, StateName::Ready);
    tokio::time::sleep(9 * MINUTE).await;
    assert!(sessions.inspect(opened.id).is_some());
    tokio::time::sleep(2 * MINUTE).await;
    settle().await;
    assert!(sessions.inspect(opened.id).is_none());
}

#[tokio::test(start_paused = true)]
async fn caps_evict_the_least_recently_used_and_refuse_when_all_are_busy() {
    let server = FakeServer::legacy();
    let limits = SessionLimits {
        max: 3,
        max_per_user: 2,
        heartbeat: Duration::ZERO,
        ..SessionLimits::default()
    };
    let sessions = Sessions::new(limits);
    let target = target(&server, Isolation::Lane);
    let open = async |user: &str, lane: &str| {
        let caller = Caller {
            lane: Lane::new(lane).unwrap(),
            ..caller(user)
        };
        sessions
            .acquire(&caller, &target, Instant::now() + MINUTE)
            .await
    };
    drop(open("ann", "old").await.unwrap());
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(open("ann", "newer").await.unwrap());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let held = open("ann", "third").await.unwrap();
    settle().await;
    let lanes: Vec<_> = sessions
        .list()
        .iter()
        .map(|s| s.key.lane.clone().unwrap().to_string())
        .collect();
    assert_eq!(
        lanes,
        ["newer", "third"],
        "the least recently used made room"
    );
    let held_too = open("ann", "newer").await.unwrap();
    let refused = open("ann", "fourth").await.unwrap_err();
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
    let other = open("bob", "").await.unwrap();
    let refused = open("cy", "").await.unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::TooMany {
                limit: 3,
                own: false
            }
        ),
        "{refused:?}"
    );
    drop((held, held_too, other));
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_fails_its_calls_and_comes_back_by_itself() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    server.behave(Behaviour::Leave);
    let broken = lease.request(call()).await.unwrap_err();
    assert!(
        matches!(broken, RequestError::Protocol { .. }),
        "{broken:?}"
    );
    drop(lease);
    assert_eq!(state_of(&sessions).await, Some(StateName::Reconnecting));
    server.behave(Behaviour::Echo);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(state_of(&sessions).await, Some(StateName::Ready));
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    assert_eq!(lease.generation(), 2);
    assert!(lease.request(call()).await.is_ok());
    assert_eq!(sessions.list()[0].reconnects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_is_told_to_all_who_wait_and_then_backs_off() {
    let server = FakeServer::legacy();
    server.refuse_connections(true);
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::Shared);
    let (first, second) = tokio::join!(
        acquire(&sessions, "ann", &target),
        acquire(&sessions, "bob", &target)
    );
    assert!(
        matches!(first, Err(OpenError::Connect(_))) && matches!(second, Err(OpenError::Connect(_)))
    );
    assert_eq!(server.opened(), 1, "one attempt for both");
    let soon = acquire(&sessions, "ann", &target).await.unwrap_err();
    assert!(matches!(soon, OpenError::BackingOff { .. }), "{soon:?}");
    server.refuse_connections(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        acquire(&sessions, "ann", &target).await.is_ok(),
        "the first retry is allowed after the first wait"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_degrades_reconnects_and_recovers() {
    let server = FakeServer::legacy();
    let limits = SessionLimits {
        heartbeat: Duration::from_secs(30),
        idle: Duration::ZERO,
        ..SessionLimits::default()
    };
    let sessions = Sessions::new(limits);
    let mut notices = sessions.notices();
    drop(
        acquire(&sessions, "ann", &target(&server, Isolation::User))
            .await
            .unwrap(),
    );
    tokio::time::sleep(2 * MINUTE).await;
    assert!(server.pings() >= 3, "{}", server.pings());
    assert!(sessions.list()[0].last_ping.is_some());
    server.go_deaf(true);
    until(&sessions, StateName::Degraded).await;
    until(&sessions, StateName::Reconnecting).await;
    server.go_deaf(false);
    until(&sessions, StateName::Ready).await;
    let mut seen = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        if let SessionNotice::State { state, .. } = notice {
            seen.push(state);
        }
    }
    seen.dedup();
    assert_eq!(
        seen,
        [
            StateName::Opening,
            StateName::Ready,
            StateName::Degraded,
            StateName::Reconnecting,
            StateName::Ready
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_version_replaces_the_session_and_the_old_call_finishes() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let first = target(&server, Isolation::User);
    server.behave(Behaviour::Slow(MINUTE / 2));
    let old = acquire(&sessions, "ann", &first).await.unwrap();
    let running = tokio::spawn(async move {
        let answer = old.request(call()).await;
        (old.id(), answer)
    });
    settle().await;
    let new = acquire(
        &sessions,
        "ann",
        &Target {
            version: 2,
            ..first
        },
    )
    .await
    .unwrap();
    let (old_id, answer) = running.await.unwrap();
    assert!(answer.is_ok());
    assert_ne!(old_id, new.id());
    settle().await;
    assert_eq!(sessions.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_is_answered_at_once() {
    for (method, expected) in [
        ("elicitation/create", "decline"),
        ("roots/list", "roots"),
        ("sampling/createMessage", "-32601"),
    ] {
        let server = FakeServer::legacy();
        let sessions = Sessions::new(SessionLimits::default());
        let lease = acquire(&sessions, "ann", &target(&server, Isolation::User))
            .await
            .unwrap();
        server.behave(Behaviour::Ask(method.to_owned()));
        let before = Instant::now();
        lease.request(call()).await.unwrap();
        settle().await;
        assert!(
            before.elapsed() < Duration::from_secs(1),
            "paused time did not have to move for it"
        );
        let seen = server.seen();
        assert!(
            seen.last().unwrap().to_string().contains(expected),
            "{method}: {seen:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn upstream_notifications_reach_the_watcher() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let _lease = acquire(&sessions, "ann", &target(&server, Isolation::User))
        .await
        .unwrap();
    let mut notices = sessions.notices();
    server.set_tools(Vec::new());
    let notice = tokio::time::timeout(MINUTE, notices.recv())
        .await
        .unwrap()
        .unwrap();
    let SessionNotice::Upstream { notification, .. } = notice else {
        panic!("{notice:?}")
    };
    assert_eq!(notification.method, "notifications/tools/list_changed");
}

#[tokio::test(start_paused = true)]
async fn refresh_gives_the_same_session_a_new_connection() {
    let server = FakeServer::modern();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    let id = acquire(&sessions, "ann", &target).await.unwrap().id();
    let refreshed = sessions
        .refresh(id, Instant::now() + MINUTE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (refreshed.id, refreshed.generation, server.opened()),
        (id, 2, 2)
    );
    assert!(sessions.close(id).await);
    assert!(!sessions.close(id).await, "a closed session is unknown");
}

#[tokio::test(start_paused = true)]
async fn draining_lets_calls_finish_until_the_deadline_and_leaves_nothing() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::Lane);
    for number in 0..2000 {
        let caller = Caller {
            lane: Lane::new(&format!("l{number}")).unwrap(),
            ..caller(&format!("u{}", number % 50))
        };
        drop(
            sessions
                .acquire(&caller, &target, Instant::now() + MINUTE)
                .await
                .unwrap(),
        );
    }
    assert_eq!(sessions.count(), 2000);
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
    let before = Instant::now();
    sessions
        .drain(Instant::now() + Duration::from_secs(10))
        .await;
    assert!(
        before.elapsed() >= Duration::from_secs(10),
        "the hung call had its grace"
    );
    assert!(before.elapsed() < Duration::from_secs(20));
    assert!(matches!(
        hung.await.unwrap(),
        Err(RequestError::Closed { .. })
    ));
    assert_eq!(sessions.count(), 0);
    assert!(matches!(
        acquire(&sessions, "ann", &target).await,
        Err(OpenError::Draining)
    ));
}
