//! A server that asks back: who is asked, who answers, and what happens when nobody does.

use transports::testing::Behaviour;

use super::*;
use crate::call_state::CallState;
use crate::operations::calls::Admitted;
use crate::operations::relay::{ClientSide, Relay};
use crate::{CallRun, Happening, InputAnswer};

const ASKS: &str = r#"{"jsonrpc":"2.0","id":@ID@,"result":{"resultType":"input_required","requestState":"s-1",
    "inputRequests":{"who":{"method":"elicitation/create","params":{"message":"Who?"}}}}}"#;

async fn modern(change: impl FnOnce(&mut BrokerOptions)) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeServer::modern();
    let broker = start(&dir, change).await;
    let definition = r#"{"transport":"stdio","command":["fake"]}"#;
    add(&broker, "fake", definition, &fake);
    fake.behave(Behaviour::Line(ASKS.replace('\n', " ")));
    Bench { broker, fake, dir }
}

fn answer(json: &str) -> Vec<(String, InputAnswer)> {
    vec![("who".to_owned(), InputAnswer::Result(raw(json)))]
}

async fn follow(bench: &Bench, request: CallTool) -> CallRun {
    match bench.broker.admit_call(&admin(), request).await.unwrap() {
        Admitted::Pending(pending) => pending.follow(),
        Admitted::Answer(answer) => panic!("answered at once: {answer:?}"),
    }
}

fn with_client(request: CallTool, client: ClientSide) -> CallTool {
    CallTool {
        client: Some(Box::new(client)),
        ..request
    }
}

fn can_elicit() -> ClientSide {
    ClientSide {
        capabilities: Some(raw(r#"{"elicitation":{}}"#).into()),
        ..ClientSide::default()
    }
}

#[tokio::test]
async fn a_call_by_rest_waits_for_input_and_goes_on_with_it() {
    let bench = modern(|_| {}).await;
    let request = CallTool {
        respond_async: true,
        ..write("hello")
    };
    let answered = bench.broker.call_tool(&admin(), request).await.unwrap();
    let CallAnswer::Accepted { call_id } = answered else {
        panic!("accepted")
    };
    let view = async || {
        let admin = admin();
        let view = bench.broker.get_call(&admin, &call_id, Duration::ZERO);
        view.await.unwrap()
    };
    until("it asks", async || {
        view().await.state == CallState::InputRequired
    })
    .await;
    let asked = &view().await.input_requests[0];
    assert_eq!(
        (asked.key.as_str(), asked.method.as_str()),
        ("who", "elicitation/create")
    );
    assert_eq!(
        asked.params.as_ref().unwrap().get(),
        r#"{"message":"Who?"}"#
    );

    let other = asker("bob", Role::Operator);
    let foreign = bench.broker.answer_input(&other, &call_id, answer("{}"));
    assert_eq!(foreign.unwrap_err().code, ErrorCode::CallNotFound);

    bench.fake.behave(Behaviour::Echo);
    let given = answer(r#"{"action":"accept","content":{"name":"Ann"}}"#);
    bench
        .broker
        .answer_input(&admin(), &call_id, given)
        .unwrap();
    until("it ends", async || {
        view().await.state == CallState::Succeeded
    })
    .await;
    let again = bench.fake.seen().pop().unwrap();
    let params = &again["params"];
    assert_eq!(params["requestState"], "s-1");
    assert_eq!(params["inputResponses"]["who"]["content"]["name"], "Ann");
    assert_eq!(params["arguments"]["message"], "hello");
    assert!(view().await.input_requests.is_empty());
    let late = bench.broker.answer_input(&admin(), &call_id, answer("{}"));
    assert_eq!(late.unwrap_err().code, ErrorCode::CallNotFound);
    bench.stop().await;
}

#[tokio::test]
async fn a_plain_call_is_declined_for_nobody_could_answer_it() {
    let bench = modern(|_| {}).await;
    let ask = Behaviour::LineOnce(ASKS.replace('\n', " "));
    bench.fake.behave(ask);
    assert_eq!(text(&bench.call(write("hello")).await.unwrap()), "hello");
    let seen = bench.fake.seen();
    assert_eq!(seen.len(), 2);
    let told = &seen[1];
    assert_eq!(told["params"]["inputResponses"]["who"]["action"], "decline");
    bench.stop().await;
}

#[tokio::test]
async fn a_modern_client_gets_the_question_as_its_answer() {
    let bench = modern(|_| {}).await;
    let client = ClientSide {
        takes_input_required: true,
        ..can_elicit()
    };
    let mut run = follow(&bench, with_client(write("hello"), client)).await;
    let Happening::Ended(Ok(done)) = run.next().await else {
        panic!("ended")
    };
    assert!(done.result.is_input_required());
    assert_eq!(bench.fake.seen().len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_follower_is_asked_and_a_call_that_was_let_go_is_taken_up_again() {
    let bench = modern(|_| {}).await;
    let mut run = follow(&bench, with_client(write("hello"), can_elicit())).await;
    let call_id = run.call_id().to_owned();
    assert!(matches!(run.next().await, Happening::Input(asked) if asked[0].key == "who"));
    run.detach();
    let mut again = bench.broker.follow_call(&admin(), &call_id).unwrap();
    assert!(matches!(again.next().await, Happening::Input(asked) if asked.len() == 1));
    bench.fake.behave(Behaviour::Echo);
    let given = answer(r#"{"action":"accept","content":{}}"#);
    bench
        .broker
        .answer_input(&admin(), &call_id, given)
        .unwrap();
    loop {
        match again.next().await {
            Happening::Ended(done) => {
                assert_eq!(text(&done.unwrap()), "hello");
                break;
            }
            Happening::Withdrawn(key) => assert_eq!(key, "who"),
            other => panic!("{other:?}"),
        }
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_question_nobody_answers_in_time_is_declined() {
    let bench = modern(|options| options.calls.input_wait = Duration::from_millis(50)).await;
    let mut run = follow(&bench, with_client(write("hello"), can_elicit())).await;
    assert!(matches!(run.next().await, Happening::Input(_)));
    bench.fake.behave(Behaviour::Echo);
    let ended = loop {
        if let Happening::Ended(ended) = run.next().await {
            break ended;
        }
    };
    assert_eq!(text(&ended.unwrap()), "hello");
    let told = bench.fake.seen().pop().unwrap();
    assert_eq!(told["params"]["inputResponses"]["who"]["action"], "cancel");
    bench.stop().await;
}

/// Asks once the server has the call; the fake notes the answers to ids from 900 on.
async fn ask_when_called(fake: &FakeServer, id: u64) {
    until("the call is there", async || !fake.seen().is_empty()).await;
    let question = json!({"message": "Who?"});
    fake.push(
        &json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": question}),
    );
}

#[tokio::test]
async fn a_legacy_server_asks_whoever_follows() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Silent);
    let mut run = follow(&bench, with_client(write("hello"), can_elicit())).await;
    let (happening, ()) = tokio::join!(run.next(), ask_when_called(&bench.fake, 900));
    let Happening::Input(asked) = happening else {
        panic!("asked, not {happening:?}")
    };
    assert_eq!(
        asked[0].params.as_ref().unwrap().get(),
        r#"{"message":"Who?"}"#
    );
    let given = InputAnswer::Result(raw(r#"{"action":"accept","content":{"name":"Ann"}}"#));
    let given = vec![(asked[0].key.clone(), given)];
    let call_id = run.call_id().to_owned();
    bench
        .broker
        .answer_input(&admin(), &call_id, given)
        .unwrap();
    let answered = until("the server has the answer", async || {
        bench.fake.seen().len() == 2
    });
    tokio::select! {
        happening = run.next() => panic!("{happening:?}"),
        () = answered => {}
    }
    assert_eq!(bench.fake.seen()[1]["result"]["content"]["name"], "Ann");
    bench.stop().await;
}

#[tokio::test]
async fn a_legacy_server_is_declined_when_nobody_could_answer() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Silent);
    let plain = within(write("hello"), PATIENCE);
    let declined = async {
        ask_when_called(&bench.fake, 901).await;
        until("it is declined", async || bench.fake.seen().len() == 2).await;
    };
    tokio::select! {
        ended = bench.call(plain) => panic!("{ended:?}"),
        () = declined => {}
    }
    assert_eq!(bench.fake.seen()[1]["result"]["action"], "decline");
    bench.stop().await;
}

#[tokio::test]
async fn only_the_methods_of_the_list_are_passed_on() {
    let bench = Bench::new().await;
    let relay = |method: &str, params| Relay {
        server: "fake".to_owned(),
        method: method.to_owned(),
        params: transports::Params::from_raw(&raw(params)),
        lane: sessions::Lane::default(),
        agent_id: None,
        timeout: None,
        client: ClientSide::default(),
    };
    let refused = bench
        .broker
        .relay(&admin(), relay("tools/call", "{}"))
        .await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidRequest);
    let nameless = bench
        .broker
        .relay(&admin(), relay("resources/read", r#"{"uri":1}"#))
        .await;
    assert_eq!(nameless.unwrap_err().errors[0].pointer, "/params/uri");
    let viewer = asker("vic", Role::Viewer);
    let denied = relay("tasks/cancel", r#"{"taskId":"t"}"#);
    let denied = bench.broker.relay(&viewer, denied).await;
    assert_eq!(denied.unwrap_err().code, ErrorCode::PolicyDenied);
    bench.stop().await;
}

#[tokio::test]
async fn a_task_of_a_shared_session_belongs_to_whoever_began_it() {
    let definition = r#"{"transport":"stdio","command":["fake"],"isolation":"shared"}"#;
    let bench = Bench::with(definition, |_| {}).await;
    let began =
        r#"{"jsonrpc":"2.0","id":@ID@,"result":{"task":{"taskId":"t-1","status":"working"}}}"#;
    bench.fake.behave(Behaviour::Line(began.to_owned()));
    bench.call(write("hello")).await.unwrap();
    let look = |who: Asker| {
        let relay = Relay {
            server: "fake".to_owned(),
            method: "tasks/get".to_owned(),
            params: transports::Params::from_raw(&raw(r#"{"taskId":"t-1"}"#)),
            lane: sessions::Lane::default(),
            agent_id: None,
            timeout: None,
            client: ClientSide::default(),
        };
        let broker = bench.broker.clone();
        async move { broker.relay(&who, relay).await }
    };
    let foreign = look(asker("bob", Role::Admin)).await;
    assert_eq!(foreign.unwrap_err().code, ErrorCode::ResourceNotFound);
    assert!(look(admin()).await.is_ok());
    bench.stop().await;
}

#[tokio::test]
async fn raw_lists_hold_the_definitions_untouched_and_only_what_the_asker_may_see() {
    let bench = Bench::new().await;
    let all = bench
        .broker
        .raw_list(&admin(), "fake", catalog::Kind::Tool)
        .await
        .unwrap();
    let names = |list: &crate::operations::passing::RawList| -> Vec<String> {
        let name = |raw: &std::sync::Arc<RawValue>| {
            let tool: Value = serde_json::from_str(raw.get()).unwrap();
            tool["name"].as_str().unwrap().to_owned()
        };
        list.items.iter().map(name).collect()
    };
    assert_eq!(names(&all), ["echo", "write"]);
    let viewer = asker("vic", Role::Viewer);
    let few = bench
        .broker
        .raw_list(&viewer, "fake", catalog::Kind::Tool)
        .await
        .unwrap();
    assert_eq!(names(&few), ["echo"]);
    assert_ne!(few.hash, all.hash);
    let (admin, lane) = (admin(), sessions::Lane::default());
    let peer = bench.broker.server_peer(&admin, "fake", &lane).await;
    assert_eq!(peer.unwrap().era, transports::Era::Legacy);
    bench.stop().await;
}

#[tokio::test]
async fn a_subscription_is_said_once_taken_back_once_and_said_again_after_a_lost_connection() {
    let bench = Bench::new().await;
    let (ann, lane) = (admin(), sessions::Lane::default());
    let said = |method: &str| bench.fake.heard(method).len();
    let mut watch = bench
        .broker
        .watch_server(&ann, "fake", &lane)
        .await
        .unwrap();
    let subscribe = async || {
        let subscribing = bench
            .broker
            .subscribe_resource(&ann, ("fake", &lane), "file:///a");
        subscribing.await.unwrap()
    };
    let (first, second) = (subscribe().await, subscribe().await);
    assert_eq!(said("resources/subscribe"), 1);

    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "file:///a"}});
    bench.fake.push(&updated);
    let told = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    let Some(crate::operations::watching::ServerNotice::Upstream(told)) = told else {
        panic!("{told:?}")
    };
    assert_eq!(told.method, "notifications/resources/updated");

    bench.fake.kick();
    let again = until("it is said again", async || {
        said("resources/subscribe") == 2
    });
    tokio::select! {
        () = again => {}
        notice = watch.next() => panic!("{notice:?}"),
    }
    drop(first);
    assert_eq!(said("resources/unsubscribe"), 0);
    drop(second);
    until("it is taken back", async || {
        said("resources/unsubscribe") == 1
    })
    .await;
    bench.stop().await;
}
