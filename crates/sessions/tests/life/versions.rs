//! Which definition's session a caller gets.

use sessions::{Isolation, SessionLimits, Sessions, Target};
use transports::testing::FakeServer;

use crate::support::{acquire, call, settle, target};

#[tokio::test(start_paused = true)]
async fn who_still_holds_an_older_definition_gets_the_newer_session() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let older = target(&server, Isolation::User);
    let newer = Target {
        version: 2,
        ..older.clone()
    };
    let first = acquire(&sessions, "ann", &newer).await.unwrap();
    let late = acquire(&sessions, "ann", &older).await.unwrap();
    assert_eq!(first.id(), late.id());
    assert!(late.request(call()).await.is_ok());
    drop((first, late));
    settle().await;
    assert_eq!((sessions.count(), server.opened()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_late_caller_does_not_bring_a_replaced_session_back() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    let older = target(&server, Isolation::User);
    let newer = Target {
        version: 2,
        ..older.clone()
    };
    let old = acquire(&sessions, "ann", &older).await.unwrap();
    let new = acquire(&sessions, "ann", &newer).await.unwrap();
    let late = acquire(&sessions, "ann", &older).await.unwrap();
    assert_ne!(old.id(), late.id());
    assert_eq!(new.id(), late.id());
    assert!(old.request(call()).await.is_ok(), "its call still finishes");
}
