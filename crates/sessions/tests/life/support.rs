//! What the tests of a session's life have in common.

use std::sync::Arc;
use std::time::Duration;

use sessions::{
    Caller, Isolation, Lane, OpenError, SessionLease, SessionLimits, Sessions, StateName, Target,
    UserId, WorkspaceId,
};
use tokio::time::Instant;
use transports::testing::FakeServer;
use transports::{Params, Request};

pub(crate) const MINUTE: Duration = Duration::from_mins(1);

pub(crate) fn caller(user: &str) -> Caller {
    Caller {
        user: UserId::new(user).unwrap(),
        workspace: WorkspaceId::new("w").unwrap(),
        lane: Lane::default(),
    }
}

pub(crate) fn target(server: &FakeServer, isolation: Isolation) -> Target {
    Target {
        spec: Arc::new(server.spec("fake").unwrap()),
        isolation,
        version: 1,
    }
}

pub(crate) fn call() -> Request {
    let arguments =
        serde_json::value::RawValue::from_string("{\"message\":\"hi\"}".into()).unwrap();
    Request {
        params: Params::default()
            .with_text("name", "echo")
            .with("arguments", arguments),
        repeatable: true,
        ..Request::new("tools/call", MINUTE)
    }
}

pub(crate) async fn acquire(
    sessions: &Sessions,
    user: &str,
    target: &Target,
) -> Result<SessionLease, OpenError> {
    sessions
        .acquire(&caller(user), target, Instant::now() + MINUTE)
        .await
}

/// Lets every task run until all wait for time or each other.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn state_of(sessions: &Sessions) -> Option<StateName> {
    settle().await;
    sessions.list().first().map(|session| session.state)
}

/// Waits, in paused time, until the only session is in a state.
pub(crate) async fn until(sessions: &Sessions, state: StateName) {
    for _ in 0..180 {
        if state_of(sessions).await == Some(state) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("never {state:?}: {:?}", sessions.list());
}

/// Takes a session and gives it back.
pub(crate) async fn visit(sessions: &Sessions, caller: &Caller, target: &Target) {
    let deadline = Instant::now() + MINUTE;
    drop(sessions.acquire(caller, target, deadline).await.unwrap());
}

/// A caller with a lane of his own.
pub(crate) fn in_lane(user: &str, lane: &str) -> Caller {
    Caller {
        lane: Lane::new(lane).unwrap(),
        ..caller(user)
    }
}

/// Never evicts.
pub(crate) fn lasting() -> SessionLimits {
    SessionLimits {
        idle: Duration::ZERO,
        ..SessionLimits::default()
    }
}
