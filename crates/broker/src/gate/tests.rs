//! The gate by its permits.

use serde_json::json;
use sessions::{UserId, WorkspaceId};

use super::*;
use crate::agents::local::LocalServers;
use crate::definition::Secrets;
use crate::limits::{BreakerLimits, Rate, Rates};
use crate::operations::calls::ToolResult;
use crate::registry::{Registry, Saved};
use transports::OutboundPolicy;

const SECOND: Duration = Duration::from_secs(1);

fn who(workspace: &str, user: &str) -> Principal {
    Principal::operator(workspace, user)
}

fn server(workspace: &str, name: &str) -> Arc<Server> {
    let registry = Registry::new(
        Secrets::default(),
        OutboundPolicy::default(),
        LocalServers::none(),
    );
    let definition = json!({"transport": "stdio", "command": ["x"], "workspace": workspace});
    registry.put(Saved {
        workspace: WorkspaceId::new(workspace).unwrap(),
        name: ServerName::new(name).unwrap(),
        version: 1,
        definition: serde_json::from_value(definition).unwrap(),
        created_at: None,
        created_by: None,
    })
}

fn gate(limits: CallLimits) -> Arc<Gate> {
    Gate::new(limits, metrics::Gauge::noop())
}

fn code(entered: Result<Permit, BrokerError>) -> ErrorCode {
    entered.unwrap_err().code
}

fn failed() -> Result<ToolResult, BrokerError> {
    Err(Fault::new(ErrorCode::UpstreamExited, "x"))
}

#[tokio::test(start_paused = true)]
async fn one_users_calls_do_not_take_the_places_of_others() {
    let gate = gate(CallLimits {
        in_flight_per_user: 2,
        in_flight: 3,
        ..CallLimits::default()
    });
    let server = server("default", "s");
    let enter = |user| gate.enter(&who("default", user), &server, 0);
    let (first, second) = (enter("ann").unwrap(), enter("ann").unwrap());
    assert_eq!(code(enter("ann")), ErrorCode::RateLimited);
    let third = enter("bob").unwrap();
    assert_eq!(code(enter("cem")), ErrorCode::Overloaded);
    drop((first, second, third));
    assert_eq!(gate.in_flight(), 0);
    assert_eq!(gate.open().books.accounts(), 0);
    gate.close();
    assert_eq!(code(enter("ann")), ErrorCode::ShuttingDown);
}

#[tokio::test(start_paused = true)]
async fn one_workspace_or_server_does_not_take_the_places_of_others() {
    let gate = gate(CallLimits {
        in_flight_per_workspace: 2,
        in_flight_per_server: 1,
        ..CallLimits::default()
    });
    let (one, two, three) = (server("a", "one"), server("a", "two"), server("a", "three"));
    let held = gate.enter(&who("a", "ann"), &one, 0).unwrap();
    assert_eq!(
        code(gate.enter(&who("a", "bob"), &one, 0)),
        ErrorCode::QuotaExceeded
    );
    let other = gate.enter(&who("a", "bob"), &two, 0).unwrap();
    let full = gate.enter(&who("a", "cem"), &three, 0).unwrap_err();
    assert_eq!(full.code, ErrorCode::QuotaExceeded);
    assert!(full.retry_after.is_some());
    let elsewhere = gate.enter(&who("b", "ann"), &server("b", "one"), 0);
    drop((held, other, elsewhere.unwrap()));
    gate.enter(&who("a", "cem"), &three, 0).unwrap();
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_bounded_for_each_user_but_one_request_always_passes() {
    let gate = gate(CallLimits {
        bytes_in_flight_per_user: 100,
        ..CallLimits::default()
    });
    let server = server("default", "s");
    let enter = |user, bytes| gate.enter(&who("default", user), &server, bytes);
    let large = enter("ann", 1000).unwrap();
    assert_eq!(code(enter("ann", 1)), ErrorCode::QuotaExceeded);
    enter("bob", 1).unwrap();
    drop(large);
    let half = enter("ann", 60).unwrap();
    assert_eq!(code(enter("ann", 41)), ErrorCode::QuotaExceeded);
    enter("ann", 40).unwrap();
    drop(half);
}

#[tokio::test(start_paused = true)]
async fn a_flood_uses_up_its_own_tokens_and_not_those_of_others() {
    let gate = gate(CallLimits {
        rates: Rates {
            user: Rate::of(1, 5),
            global: Rate::of(1, 8),
            ..Rates::default()
        },
        ..CallLimits::default()
    });
    let (here, there) = (server("a", "s"), server("b", "s"));
    let enter = |workspace, user| {
        let server = if workspace == "a" { &here } else { &there };
        gate.enter(&who(workspace, user), server, 0)
    };
    let passed = (0..100).filter(|_| enter("a", "ann").is_ok()).count();
    assert_eq!(passed, 5);
    let refused = enter("a", "ann").unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert!(refused.retry_after.unwrap() <= SECOND);
    // The workspace has three quarters of the eight: its other users one more, and another workspace the rest.
    assert!(enter("a", "bob").is_ok());
    assert_eq!(code(enter("a", "cem")), ErrorCode::RateLimited);
    assert!(enter("b", "dan").is_ok());
    let ann = who("a", "ann");
    let [user, workspace] = gate.standings(&ann.user, &ann.workspace);
    assert_eq!(
        user.map(|one| (one.quota, one.window_s, one.remaining)),
        Some((5, 5, 0))
    );
    assert_eq!(
        workspace.map(|one| (one.quota, one.remaining)),
        Some((6, 0))
    );
    tokio::time::advance(2 * SECOND).await;
    assert!(enter("a", "ann").is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_and_a_full_bucket_is_forgotten() {
    let gate = gate(CallLimits {
        rates: Rates {
            user: Rate::of(10, 10),
            ..Rates::default()
        },
        ..CallLimits::default()
    });
    let server = server("default", "s");
    for round in 0..4 {
        for user in 0..1000 {
            let name = format!("u{round}-{user}");
            gate.enter(&who("default", &name), &server, 0).unwrap();
        }
        tokio::time::advance(SECOND).await;
    }
    assert!(gate.open().books.accounts() < 2100);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_one_server_alone_and_a_probe_closes_it() {
    let gate = gate(CallLimits {
        breaker: BreakerLimits {
            failures: 2,
            ..BreakerLimits::default()
        },
        ..CallLimits::default()
    });
    let (bad, good) = (server("default", "bad"), server("default", "good"));
    let ann = who("default", "ann");
    let fail = || {
        let mut permit = gate.enter(&ann, &bad, 0).unwrap();
        permit.take_watch().unwrap().note(&failed(), 60 * SECOND);
    };
    fail();
    assert_eq!(gate.circuit(&bad).state, "closed");
    fail();
    let refused = gate.enter(&ann, &bad, 0).unwrap_err();
    assert_eq!(refused.code, ErrorCode::CircuitOpen);
    assert_eq!(refused.retry_after, Some(15 * SECOND));
    assert_eq!(gate.circuit(&bad).state, "open");
    gate.enter(&ann, &good, 0).unwrap();
    tokio::time::advance(15 * SECOND).await;
    // A probe whose caller goes away is followed by another.
    drop(gate.enter(&ann, &bad, 0).unwrap());
    let mut probe = gate.enter(&ann, &bad, 0).unwrap();
    assert_eq!(code(gate.enter(&ann, &bad, 0)), ErrorCode::CircuitOpen);
    let result = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
    let answered = ToolResult::read(result, 10);
    probe.take_watch().unwrap().note(&answered, SECOND);
    assert_eq!(gate.circuit(&bad).state, "closed");
    assert_eq!(gate.in_flight(), 1);
    drop(probe);
    assert_eq!(gate.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_refusals_is_audited_once_a_second() {
    let gate = gate(CallLimits::default());
    let user = UserId::new("ann").unwrap();
    let limited = Fault::new(ErrorCode::RateLimited, "x");
    let audited = (0..100).filter(|_| gate.audits(&user, &limited)).count();
    assert_eq!(audited, 1);
    let denied = Fault::new(ErrorCode::PolicyDenied, "x");
    assert!(gate.audits(&user, &denied));
    tokio::time::advance(SECOND).await;
    assert!(gate.audits(&user, &limited));
}
