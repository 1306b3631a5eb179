//! What a caller meets after a connection was lost.

use std::time::Duration;

use sessions::{Isolation, OpenError, SessionLimits, Sessions, StateName};
use tokio::time::Instant;
use transports::testing::FakeServer;

use crate::support::{acquire, caller, settle, state_of, target, visit};

#[tokio::test(start_paused = true)]
async fn the_first_caller_after_a_loss_opens_again_at_once() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    visit(&sessions, &caller("ann"), &target).await;
    server.kick();
    assert_eq!(state_of(&sessions).await, Some(StateName::Reconnecting));
    let before = Instant::now();
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    assert_eq!(lease.generation(), 2);
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(server.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_lost_again_and_again_makes_its_callers_back_off() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    visit(&sessions, &caller("ann"), &target).await;
    server.kick();
    settle().await;
    visit(&sessions, &caller("ann"), &target).await;
    server.kick();
    settle().await;
    let refused = acquire(&sessions, "ann", &target).await.unwrap_err();
    let OpenError::BackingOff { retry_after, .. } = refused else {
        panic!("{refused:?}")
    };
    assert!(retry_after <= Duration::from_secs(1), "{retry_after:?}");
    tokio::time::sleep(retry_after).await;
    visit(&sessions, &caller("ann"), &target).await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    server.kick();
    settle().await;
    let again = acquire(&sessions, "ann", &target).await;
    assert!(
        again.is_ok(),
        "a connection that held makes good: {again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_opens_again_after_a_loss_waits_until_his_own_deadline() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    visit(&sessions, &caller("ann"), &target).await;
    server.kick();
    server.go_deaf(true);
    settle().await;
    let patience = Duration::from_secs(3);
    let deadline = Instant::now() + patience;
    let late = sessions.acquire(&caller("ann"), &target, deadline).await;
    assert!(
        matches!(late, Err(OpenError::Timeout { after }) if after == patience),
        "{late:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_reopening_is_told_to_who_waited_and_makes_the_next_back_off() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let target = target(&server, Isolation::User);
    visit(&sessions, &caller("ann"), &target).await;
    server.refuse_connections(true);
    server.kick();
    settle().await;
    let first = acquire(&sessions, "ann", &target).await.unwrap_err();
    assert!(matches!(first, OpenError::Connect(_)), "{first:?}");
    let next = acquire(&sessions, "ann", &target).await.unwrap_err();
    assert!(matches!(next, OpenError::BackingOff { .. }), "{next:?}");
    assert_eq!(server.opened(), 2, "one attempt for both");
}
