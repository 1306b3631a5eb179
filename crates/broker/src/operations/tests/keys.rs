//! Idempotency: one effect per key, whoever repeats it and whenever.

use transports::testing::Behaviour;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_equal_calls_at_once_are_one_call_upstream() {
    let bench = Bench::with(r#"{"transport":"stdio","command":["fake"]}"#, |options| {
        options.calls.in_flight_per_user = 1000;
    })
    .await;
    bench
        .fake
        .behave(Behaviour::Slow(Duration::from_millis(100)));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let broker = bench.broker.clone();
            tokio::spawn(async move {
                done(broker.call_tool(&admin(), keyed(write("once"), "k")).await)
            })
        })
        .collect();
    let mut replayed = 0;
    let mut ids = std::collections::BTreeSet::new();
    for call in calls {
        let answer = call.await.unwrap().unwrap();
        assert_eq!(text(&answer), "once");
        replayed += usize::from(answer.replayed);
        ids.insert(answer.call_id);
    }
    assert_eq!((bench.fake.calls(), replayed, ids.len()), (1, 99, 1));
    bench.stop().await;
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused_and_with_another_tool_or_user_is_another_call() {
    let bench = Bench::new().await;
    bench.call(keyed(write("one"), "k")).await.unwrap();
    let fault = bench.call(keyed(write("two"), "k")).await.unwrap_err();
    assert_eq!(
        ends(&fault),
        (ErrorCode::IdempotencyMismatch, ExecutedWire::No)
    );
    let lane = CallTool {
        lane: sessions::Lane::new("other").unwrap(),
        ..keyed(write("one"), "k")
    };
    assert_eq!(
        bench.call(lane).await.unwrap_err().code,
        ErrorCode::IdempotencyMismatch
    );
    assert!(!bench.call(keyed(echo("one"), "k")).await.unwrap().replayed);
    let bob = asker("bob", Role::Operator);
    let theirs = done(bench.broker.call_tool(&bob, keyed(write("two"), "k")).await).unwrap();
    assert!(!theirs.replayed);
    assert_eq!(bench.fake.calls(), 3);
    bench.stop().await;
}

#[tokio::test]
async fn a_repeat_gives_the_same_answer_after_a_restart() {
    let bench = Bench::new().await;
    let first = bench.call(keyed(write("kept"), "k")).await.unwrap();
    let bench = bench.restart().await;
    let again = bench.call(keyed(write("kept"), "k")).await.unwrap();
    assert!(again.replayed);
    assert_eq!(
        (again.call_id, again.trace_id),
        (first.call_id, first.trace_id)
    );
    assert_eq!(again.result.raw().get(), first.result.raw().get());
    assert_eq!(bench.fake.calls(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_repeat_of_a_call_whose_outcome_is_unknown_runs_nothing_again() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Silent);
    let request = within(keyed(write("x"), "k"), Duration::from_millis(200));
    let first = bench.call(request.clone()).await.unwrap_err();
    assert_eq!(first.code, ErrorCode::OutcomeUnknown);
    bench.fake.behave(Behaviour::Echo);
    let again = bench.call(request).await.unwrap_err();
    assert_eq!(ends(&again), ends(&first));
    assert_eq!((again.call_id, bench.fake.calls()), (first.call_id, 1));
    bench.stop().await;
}

#[tokio::test]
async fn a_repeat_that_waits_too_long_is_told_which_call_runs() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Silent);
    let request = CallTool {
        respond_async: true,
        ..keyed(write("x"), "k")
    };
    let CallAnswer::Accepted { call_id } = bench.broker.call_tool(&admin(), request).await.unwrap()
    else {
        panic!("an async call is accepted");
    };
    let repeat = within(keyed(write("x"), "k"), Duration::from_millis(100));
    let fault = bench.call(repeat).await.unwrap_err();
    assert_eq!(ends(&fault), (ErrorCode::InProgress, ExecutedWire::No));
    assert_eq!(fault.call_id, Some(call_id));
    bench.stop().await;
}

#[tokio::test]
async fn a_request_refused_before_the_intent_does_not_use_up_its_key() {
    let bench = Bench::new().await;
    let wrong = keyed(tool("fake.write", &json!({"message": 1})), "k");
    assert_eq!(
        bench.call(wrong).await.unwrap_err().code,
        ErrorCode::InvalidArguments
    );
    assert!(!bench.call(keyed(write("x"), "k")).await.unwrap().replayed);
    let odd = bench.call(keyed(write("x"), "")).await.unwrap_err();
    assert_eq!(odd.code, ErrorCode::InvalidRequest);
    bench.stop().await;
}
