//! What a server asks in the middle of things: who hears it, and that it is always answered once.

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use sessions::{Isolation, Question, SessionLimits, Sessions, Target};
use tokio::sync::mpsc;
use tokio::time::Instant;
use transports::testing::FakeServer;
use transports::{RequestId, ServerRequest};

use crate::support::{acquire, call, settle, target};

fn new(server: &FakeServer, isolation: Isolation) -> (Sessions, Target) {
    let sessions = Sessions::new(SessionLimits::default());
    (sessions, target(server, isolation))
}

/// Lets the server ask; the fake keeps answers to ids from 900 on.
async fn ask(server: &FakeServer, id: u64, method: &str) {
    server.push(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"n": id}}));
    settle().await;
}

/// The answers the server got to one id.
fn answers(server: &FakeServer, id: u64) -> Vec<Value> {
    let seen = server.seen();
    let about = |one: &&Value| one["id"] == id && one["method"].is_null();
    seen.iter().filter(about).cloned().collect()
}

fn asked(heard: &mut mpsc::Receiver<Question>) -> Option<ServerRequest> {
    match heard.try_recv().ok()? {
        Question::Asked(request) => Some(request),
        withdrawn @ Question::Withdrawn { .. } => panic!("{withdrawn:?}"),
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

const ELICITATION: &str = "elicitation/create";
const SAMPLING: &str = "sampling/createMessage";

#[tokio::test(start_paused = true)]
async fn the_listening_lease_hears_a_question_and_its_answer_reaches_the_server() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let mut heard = lease.listen_requests();
    for (id, method) in [(901, ELICITATION), (902, SAMPLING), (903, "roots/list")] {
        ask(&server, id, method).await;
        let request = asked(&mut heard).unwrap();
        assert_eq!(request.method, method);
        assert_eq!(
            request.params.unwrap().get(),
            json!({"n": id}).to_string(),
            "untouched"
        );
        assert!(answers(&server, id).is_empty(), "nobody answers for it");
        let answer = json!({"action": "accept", "content": {"n": id}});
        assert!(lease.answer(&request.id, Ok(raw(&answer))));
        assert!(
            !lease.answer(&request.id, Ok(raw(&answer))),
            "once is enough"
        );
        settle().await;
        let told = json!({"jsonrpc": "2.0", "id": id, "result": answer});
        assert_eq!(answers(&server, id), [told]);
    }
    ask(&server, 904, SAMPLING).await;
    let request = asked(&mut heard).unwrap();
    assert!(lease.answer(&request.id, Err((-1, "the user said no".to_owned()))));
    settle().await;
    assert_eq!(answers(&server, 904)[0]["error"]["code"], -1);
    drop(lease);
    settle().await;
    assert_eq!(answers(&server, 904).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_listener_a_question_is_declined_at_once() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    drop(lease.listen_requests());
    let before = Instant::now();
    ask(&server, 901, ELICITATION).await;
    ask(&server, 902, SAMPLING).await;
    ask(&server, 903, "roots/list").await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(answers(&server, 901)[0]["result"]["action"], "decline");
    assert_eq!(answers(&server, 902)[0]["error"]["code"], -32601);
    assert_eq!(answers(&server, 903)[0]["result"]["roots"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_without_asking_the_listener() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let mut heard = lease.listen_requests();
    ask(&server, 901, "ping").await;
    assert_eq!(answers(&server, 901)[0]["result"], json!({}));
    assert!(asked(&mut heard).is_none());
}

#[tokio::test(start_paused = true)]
async fn of_one_users_listeners_the_one_that_came_last_hears() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::User);
    let first = acquire(&sessions, "ann", &target).await.unwrap();
    let second = acquire(&sessions, "ann", &target).await.unwrap();
    let silent = acquire(&sessions, "ann", &target).await.unwrap();
    // The order of listening does not matter.
    let mut second_hears = second.listen_requests();
    let mut first_hears = first.listen_requests();
    ask(&server, 901, ELICITATION).await;
    assert!(asked(&mut first_hears).is_none());
    let request = asked(&mut second_hears).unwrap();
    let accept = || Ok(raw(&json!({"action": "accept"})));
    assert!(
        !first.answer(&request.id, accept()),
        "it is not this one's to answer"
    );
    assert!(second.answer(&request.id, accept()));
    drop((second, silent));
    ask(&server, 902, ELICITATION).await;
    assert!(
        asked(&mut first_hears).is_some(),
        "the one that is left hears"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shared_sessions_question_is_heard_only_by_who_is_alone_in_it() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::Shared);
    let ann = acquire(&sessions, "ann", &target).await.unwrap();
    let mut ann_hears = ann.listen_requests();
    ask(&server, 901, ELICITATION).await;
    assert!(asked(&mut ann_hears).is_some(), "alone");
    let bob = acquire(&sessions, "bob", &target).await.unwrap();
    let mut bob_hears = bob.listen_requests();
    ask(&server, 902, ELICITATION).await;
    assert!(asked(&mut ann_hears).is_none() && asked(&mut bob_hears).is_none());
    assert_eq!(
        answers(&server, 902)[0]["result"]["action"],
        "decline",
        "two listen"
    );
    drop(bob_hears);
    ask(&server, 903, ELICITATION).await;
    assert!(asked(&mut ann_hears).is_none());
    assert_eq!(
        answers(&server, 903)[0]["result"]["action"],
        "decline",
        "it may be about the other's call, who does not listen"
    );
    drop(bob);
    ask(&server, 904, ELICITATION).await;
    assert!(asked(&mut ann_hears).is_some(), "alone again");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_leaves_no_question_unanswered() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let mut heard = lease.listen_requests();
    ask(&server, 901, ELICITATION).await;
    assert!(asked(&mut heard).is_some());
    // These are not even looked at.
    ask(&server, 902, SAMPLING).await;
    ask(&server, 903, "roots/list").await;
    drop(lease);
    settle().await;
    let cancelled = json!({"action": "cancel"});
    assert_eq!(answers(&server, 901)[0]["result"], cancelled);
    let ended = json!({"code": -32603, "message": "the call has ended"});
    assert_eq!(answers(&server, 902)[0]["error"], ended);
    assert_eq!(answers(&server, 903)[0]["error"], ended);
    ask(&server, 904, ELICITATION).await;
    assert!(heard.recv().await.is_some(), "what was not looked at");
    assert!(heard.recv().await.is_some());
    assert!(heard.recv().await.is_none(), "and then the end");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_closes_with_its_call_answers_first() {
    // Often, for what is written and what is closed must not race.
    for _ in 0..20 {
        let server = FakeServer::legacy();
        let (sessions, target) = new(&server, Isolation::Call);
        let lease = acquire(&sessions, "ann", &target).await.unwrap();
        let _heard = lease.listen_requests();
        ask(&server, 901, ELICITATION).await;
        drop(lease);
        settle().await;
        let cancelled = json!({"action": "cancel"});
        assert_eq!(answers(&server, 901)[0]["result"], cancelled);
        assert_eq!(sessions.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_question_is_told_and_no_longer_answered() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let mut heard = lease.listen_requests();
    ask(&server, 901, ELICITATION).await;
    let request = asked(&mut heard).unwrap();
    server.push(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}),
    );
    server.push(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": 901, "reason": "too late"}}),
    );
    settle().await;
    let Ok(Question::Withdrawn { id, notification }) = heard.try_recv() else {
        panic!("it is told")
    };
    assert_eq!(id.0.get(), request.id.0.get());
    assert!(notification.params.unwrap().get().contains("too late"));
    assert!(!lease.answer(&request.id, Ok(raw(&json!({"action": "accept"})))));
    drop(lease);
    settle().await;
    assert!(answers(&server, 901).is_empty());
}

#[tokio::test(start_paused = true)]
async fn questions_nobody_looks_at_are_bounded() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let mut heard = lease.listen_requests();
    for id in 1000..1100 {
        ask(&server, id, ELICITATION).await;
        // One hearer looks at everything and answers nothing.
        if id >= 1050 {
            while asked(&mut heard).is_some() {}
        }
    }
    let declined = (1000..1100).filter(|id| !answers(&server, *id).is_empty());
    assert_eq!(declined.count(), 100 - 64, "at most 64 are open");
    assert!(answers(&server, 1015).is_empty(), "sixteen may wait");
    assert!(!answers(&server, 1016).is_empty(), "a seventeenth may not");
    assert!(lease.request(call()).await.is_ok(), "and calls go on");
    drop(lease);
    settle().await;
    let unanswered = (1000..1100).filter(|id| answers(&server, *id).len() != 1);
    assert_eq!(unanswered.count(), 0, "each exactly once");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_ends_the_listening() {
    let server = FakeServer::legacy();
    let (sessions, target) = new(&server, Isolation::User);
    let lease = acquire(&sessions, "ann", &target).await.unwrap();
    let mut heard = lease.listen_requests();
    ask(&server, 901, ELICITATION).await;
    let request = asked(&mut heard).unwrap();
    server.kick();
    settle().await;
    assert!(heard.recv().await.is_none());
    assert!(!lease.answer(&request.id, Ok(raw(&json!({})))));
    assert!(lease.listen_requests().recv().await.is_none());
    let next = acquire(&sessions, "ann", &target).await.unwrap();
    let mut next_hears = next.listen_requests();
    ask(&server, 901, ELICITATION).await;
    assert!(
        asked(&mut next_hears).is_some(),
        "ids begin anew with the connection"
    );
    let id: &RequestId = &request.id;
    assert!(
        !lease.answer(id, Ok(raw(&json!({})))),
        "the old lease answers nothing on it"
    );
}
