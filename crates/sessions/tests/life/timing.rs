//! What sessions do by themselves they do each at its own time.

use std::time::{Duration, SystemTime};

use sessions::{Isolation, SessionLimits, Sessions};
use transports::testing::FakeServer;

use crate::support::{acquire, caller, in_lane, lasting, settle, target, visit};

#[tokio::test(start_paused = true)]
async fn sessions_lost_together_come_back_each_at_its_own_time() {
    const STEP: Duration = Duration::from_millis(10);
    let server = FakeServer::legacy();
    let sessions = Sessions::new(lasting());
    let target = target(&server, Isolation::User);
    for number in 0..200 {
        visit(&sessions, &caller(&format!("u{number}")), &target).await;
    }
    server.kick();
    settle().await;
    assert_eq!(server.opened(), 200, "none comes back at once");
    let mut seen = 200;
    let mut per_step = Vec::new();
    // The first wait is between half the initial wait and all of it.
    for _ in 0..=50 {
        tokio::time::sleep(STEP).await;
        settle().await;
        per_step.push(server.opened() - seen);
        seen = server.opened();
    }
    assert_eq!(seen, 400, "{per_step:?}");
    assert!(
        per_step.iter().all(|came| *came <= 40),
        "no crowd: {per_step:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn servers_that_answer_no_heartbeat_do_not_starve_the_others() {
    let (deaf, lively) = (FakeServer::legacy(), FakeServer::legacy());
    let heartbeat = Duration::from_secs(30);
    let sessions = Sessions::new(SessionLimits {
        heartbeat,
        ..lasting()
    });
    let silent = target(&deaf, Isolation::Lane);
    let mut living = target(&lively, Isolation::Lane);
    living.spec = std::sync::Arc::new(lively.spec("lively").unwrap());
    for number in 0..400 {
        let user = format!("u{}", number / 10);
        visit(&sessions, &in_lane(&user, &format!("d{number}")), &silent).await;
    }
    for number in 0..50 {
        let user = format!("u{}", number / 10);
        visit(&sessions, &in_lane(&user, &format!("l{number}")), &living).await;
    }
    deaf.go_deaf(true);
    for round in 1..=3 {
        let before = SystemTime::now();
        tokio::time::sleep(heartbeat + Duration::from_secs(1)).await;
        settle().await;
        let unheard = sessions
            .list()
            .iter()
            .filter(|one| one.key.server == living.spec.name)
            .filter(|one| one.last_ping.is_none_or(|at| at < before))
            .count();
        assert_eq!(unheard, 0, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_tells_the_same_end_however_often_it_is_asked() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits::default());
    visit(&sessions, &caller("ann"), &target(&server, Isolation::User)).await;
    let told = sessions.list()[0].expires_at;
    assert!(told.is_some_and(|end| end > SystemTime::now()));
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_micros(1_300)).await;
        assert_eq!(sessions.list()[0].expires_at, told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_in_use_beyond_its_time_does_not_end_in_the_past() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits {
        ttl: Duration::from_nanos(1),
        ..lasting()
    });
    let target = target(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let asked = SystemTime::now();
    let told = sessions.list()[0].expires_at;
    assert!(told.is_some_and(|end| end >= asked), "{told:?}");
    drop(lease);
}
