//! Ten thousand idle sessions in one process.

use std::time::{Duration, SystemTime};

use sessions::{Isolation, SessionLimits, Sessions, StateName};
use tokio::time::Instant;
use transports::testing::FakeServer;

use crate::support::{in_lane, lasting, target, visit};

const SESSIONS: usize = 10_000;
const HEARTBEAT: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn ten_thousand_idle_sessions_live_are_pinged_in_turn_and_leave_nothing() {
    let server = FakeServer::legacy();
    let sessions = Sessions::new(SessionLimits {
        heartbeat: HEARTBEAT,
        max_per_workspace: SESSIONS,
        ..lasting()
    });
    let target = target(&server, Isolation::Lane);
    for number in 0..SESSIONS {
        let (user, lane) = (format!("u{}", number / 100), format!("l{number}"));
        visit(&sessions, &in_lane(&user, &lane), &target).await;
    }
    assert_eq!(sessions.count(), SESSIONS);
    for round in 0..3 {
        let (began, mut before) = (SystemTime::now(), server.pings());
        let first = before;
        let mut busiest = 0;
        for _ in 0..HEARTBEAT.as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            busiest = busiest.max(server.pings() - before);
            before = server.pings();
        }
        let pinged = before - first;
        let (fewest, most) = (SESSIONS * 98 / 100, SESSIONS * 102 / 100);
        assert!(
            (fewest..=most).contains(&pinged),
            "round {round}: {pinged} pings"
        );
        let fair = SESSIONS / 30;
        assert!(busiest < 2 * fair, "round {round}: {busiest} in one second");
        // A second more for those whose turn is at the end of the interval.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let list = sessions.list();
        assert_eq!(list.len(), SESSIONS);
        let well = |one: &&sessions::Inspection| {
            one.state == StateName::Ready && one.last_ping.is_some_and(|at| at >= began)
        };
        assert_eq!(list.iter().filter(well).count(), SESSIONS, "round {round}");
    }
    assert_eq!(server.opened(), SESSIONS, "none was lost or evicted");
    sessions.drain(Instant::now() + HEARTBEAT).await;
    assert_eq!(sessions.count(), 0);
}
