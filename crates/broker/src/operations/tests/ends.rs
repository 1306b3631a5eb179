//! How calls end when things go wrong: one terminal state each, with an honest `executed`.

use transports::testing::Behaviour;

use super::*;
use crate::call_state::CallState;
use crate::operations::calls::ListCalls;

async fn only_state(bench: &Bench) -> CallState {
    let calls = bench
        .broker
        .list_calls(&admin(), ListCalls::default())
        .await
        .unwrap();
    assert_eq!(calls.items.len(), 1, "{:?}", calls.items);
    calls.items[0].state
}

#[tokio::test]
async fn a_deadline_ends_a_read_timed_out_and_a_write_unknown_and_both_are_cancelled_upstream() {
    let bench = Bench::new().await;
    bench.call(echo("warm")).await.unwrap();
    bench.fake.behave(Behaviour::Silent);
    let short = Duration::from_millis(200);
    let read = bench.call(within(echo("x"), short)).await.unwrap_err();
    assert_eq!(
        ends(&read),
        (ErrorCode::UpstreamTimeout, ExecutedWire::Unknown)
    );
    let wrote = bench.call(within(write("x"), short)).await.unwrap_err();
    assert_eq!(
        ends(&wrote),
        (ErrorCode::OutcomeUnknown, ExecutedWire::Unknown)
    );
    until("the server was told of both", || async {
        bench.fake.cancelled() == 2
    })
    .await;
    let calls = bench
        .broker
        .list_calls(&admin(), ListCalls::default())
        .await
        .unwrap();
    let states: Vec<_> = calls.items.iter().map(|call| call.state).collect();
    assert_eq!(
        states,
        [
            CallState::OutcomeUnknown,
            CallState::TimedOut,
            CallState::Succeeded
        ]
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_call_upstream_and_the_row_says_so() {
    for request in [echo("x"), write("x")] {
        let bench = Bench::new().await;
        bench.fake.behave(Behaviour::Silent);
        let waiting = tokio::spawn({
            let broker = bench.broker.clone();
            async move { broker.call_tool(&admin(), request).await }
        });
        until("the call is sent", || async { bench.fake.calls() == 1 }).await;
        waiting.abort();
        until("the server was told", || async {
            bench.fake.cancelled() == 1
        })
        .await;
        until("the call is settled", || async {
            bench.broker.inner.live.all().is_empty()
        })
        .await;
        assert_eq!(only_state(&bench).await, CallState::Cancelled);
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_call_with_a_key_outlives_its_caller() {
    let bench = Bench::new().await;
    bench
        .fake
        .behave(Behaviour::Slow(Duration::from_millis(300)));
    let waiting = tokio::spawn({
        let broker = bench.broker.clone();
        async move { broker.call_tool(&admin(), keyed(write("x"), "k")).await }
    });
    until("the call is sent", || async { bench.fake.calls() == 1 }).await;
    waiting.abort();
    let again = bench.call(keyed(write("x"), "k")).await.unwrap();
    assert!(again.replayed);
    assert_eq!(
        (
            text(&again).as_str(),
            bench.fake.calls(),
            bench.fake.cancelled()
        ),
        ("x", 1, 0)
    );
    bench.stop().await;
}

#[tokio::test]
async fn an_async_call_answers_at_once_and_is_fetched_and_cancelled_by_id() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Silent);
    let request = CallTool {
        respond_async: true,
        ..write("x")
    };
    let CallAnswer::Accepted { call_id } = bench.broker.call_tool(&admin(), request).await.unwrap()
    else {
        panic!("an async call is accepted");
    };
    until("the call is sent", || async { bench.fake.calls() == 1 }).await;
    let running = bench
        .broker
        .get_call(&admin(), &call_id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(running.state, CallState::Dispatched);
    assert!(running.session_id.is_some());
    let cancelled = bench.broker.cancel_call(&admin(), &call_id).await.unwrap();
    assert_eq!(cancelled.state, CallState::Cancelled);
    assert_eq!(cancelled.fault.unwrap().code, ErrorCode::Cancelled);
    until("the server was told", || async {
        bench.fake.cancelled() == 1
    })
    .await;
    let again = bench.broker.cancel_call(&admin(), &call_id).await.unwrap();
    assert_eq!(again.state, CallState::Cancelled);
    bench.stop().await;
}

#[tokio::test]
async fn waiting_for_a_call_ends_with_it_and_its_result_is_kept() {
    let bench = Bench::new().await;
    bench
        .fake
        .behave(Behaviour::Slow(Duration::from_millis(100)));
    let request = CallTool {
        respond_async: true,
        ..echo("kept")
    };
    let CallAnswer::Accepted { call_id } = bench.broker.call_tool(&admin(), request).await.unwrap()
    else {
        panic!("an async call is accepted");
    };
    let ended = bench
        .broker
        .get_call(&admin(), &call_id, PATIENCE)
        .await
        .unwrap();
    assert_eq!(ended.state, CallState::Succeeded);
    until("it is stored", || async {
        bench.broker.inner.live.all().is_empty()
    })
    .await;
    let stored = bench
        .broker
        .get_call(&admin(), &call_id, Duration::ZERO)
        .await
        .unwrap();
    assert!(stored.result.unwrap().content().unwrap().contains("kept"));
    bench.stop().await;
}

#[tokio::test]
async fn what_the_upstream_does_wrong_has_a_code_each() {
    let garbled = Behaviour::Line(r#"{"jsonrpc":"2.0","id":@ID@,"result":[]}"#.to_owned());
    let asking = Behaviour::Line(
        r#"{"jsonrpc":"2.0","id":@ID@,"result":{"resultType":"input_required"}}"#.to_owned(),
    );
    let cases = [
        (
            Behaviour::Refuse(-32602, "no such thing".to_owned()),
            ErrorCode::InvalidArguments,
            ExecutedWire::No,
        ),
        (
            Behaviour::Refuse(-32603, "broken".to_owned()),
            ErrorCode::UpstreamProtocolError,
            ExecutedWire::Unknown,
        ),
        (
            garbled,
            ErrorCode::UpstreamProtocolError,
            ExecutedWire::Unknown,
        ),
        (
            asking,
            ErrorCode::UpstreamProtocolError,
            ExecutedWire::Unknown,
        ),
    ];
    let bench = Bench::new().await;
    for (behaviour, code, executed) in cases {
        bench.fake.behave(behaviour.clone());
        let fault = bench.call(write("x")).await.unwrap_err();
        assert_eq!(ends(&fault), (code, executed), "{behaviour:?}");
        assert_eq!(fault.upstream.unwrap().0, "fake");
        assert!(fault.call_id.is_some());
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_server_that_leaves_in_the_middle_fails_the_call_at_once() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Leave);
    let fault = bench.call(write("x")).await.unwrap_err();
    let broke = [ErrorCode::UpstreamExited, ErrorCode::UpstreamProtocolError];
    assert!(broke.contains(&fault.code), "{fault}");
    assert_eq!(fault.executed, ExecutedWire::Unknown);
    bench.stop().await;
}

#[tokio::test]
async fn a_result_over_the_limit_is_refused() {
    let bench = Bench::with(r#"{"transport":"stdio","command":["fake"]}"#, |options| {
        options.calls.result_bytes = 200;
    })
    .await;
    let fault = bench.call(echo(&"x".repeat(300))).await.unwrap_err();
    assert_eq!(
        ends(&fault),
        (ErrorCode::ResultTooLarge, ExecutedWire::Unknown)
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_tool_that_says_it_failed_is_a_result() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Line(
        r#"{"jsonrpc":"2.0","id":@ID@,"result":{"isError":true,"content":[]}}"#.to_owned(),
    ));
    let answer = bench.call(echo("x")).await.unwrap();
    assert!(answer.result.is_error());
    assert_eq!(only_state(&bench).await, CallState::Succeeded);
    bench.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_told_as_such_and_nothing_was_executed() {
    let bench = Bench::new().await;
    bench.fake.refuse_connections(true);
    let fault = bench
        .call(within(write("x"), Duration::from_secs(5)))
        .await
        .unwrap_err();
    let away = [
        ErrorCode::UpstreamUnreachable,
        ErrorCode::UpstreamProtocolError,
        ErrorCode::UpstreamTimeout,
    ];
    assert!(away.contains(&fault.code), "{fault}");
    assert_eq!(fault.executed, ExecutedWire::No);
    bench.stop().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_told_at_once() {
    let bench = Bench::new().await;
    let file = r#"{"transport":"stdio","command":["/nonexistent/paperbot-test-program"]}"#;
    let servers = [(
        transports::ServerName::new("gone").unwrap(),
        serde_json::from_str(file).unwrap(),
    )];
    bench.broker.apply_file(servers.into()).await.unwrap();
    let fault = bench.call(tool("gone.x", &json!({}))).await.unwrap_err();
    assert_eq!(
        ends(&fault),
        (ErrorCode::UpstreamUnreachable, ExecutedWire::No)
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_shutdown_settles_what_is_left_and_refuses_what_comes() {
    let bench = Bench::new().await;
    bench.fake.behave(Behaviour::Silent);
    let waiting = tokio::spawn({
        let broker = bench.broker.clone();
        async move { broker.call_tool(&admin(), write("x")).await }
    });
    until("the call is sent", || async { bench.fake.calls() == 1 }).await;
    bench.broker.shutdown(Duration::from_millis(50)).await;
    let fault = waiting.await.unwrap().unwrap_err();
    assert_eq!(
        ends(&fault),
        (ErrorCode::OutcomeUnknown, ExecutedWire::Unknown)
    );
    let refused = bench.call(echo("late")).await.unwrap_err();
    assert_eq!(ends(&refused), (ErrorCode::ShuttingDown, ExecutedWire::No));
    assert_eq!(
        bench.broker.ready().await.unwrap_err().code,
        ErrorCode::ShuttingDown
    );
    let bench = bench.restart().await;
    assert_eq!(only_state(&bench).await, CallState::OutcomeUnknown);
    bench.stop().await;
}

#[tokio::test]
async fn with_the_store_away_reads_go_on_and_writes_are_refused_before_they_are_sent() {
    let bench = Bench::new().await;
    bench.call(echo("warm")).await.unwrap();
    bench.broker.inner.store.shutdown().await;
    let fault = bench.call(write("x")).await.unwrap_err();
    assert_eq!(
        ends(&fault),
        (ErrorCode::StoreUnavailable, ExecutedWire::No)
    );
    assert!(fault.retry_after.is_some());
    bench.call(echo("y")).await.unwrap();
    assert_eq!(bench.fake.calls(), 2);
    assert!(bench.broker.inner.live.all().is_empty());
    let ready = bench.broker.ready().await.unwrap_err();
    assert_eq!(ready.code, ErrorCode::StoreUnavailable);
    bench.stop().await;
}

#[tokio::test]
async fn the_first_end_of_a_call_stands_also_when_another_start_swept_it() {
    let bench = Bench::new().await;
    bench
        .fake
        .behave(Behaviour::Slow(Duration::from_millis(500)));
    let request = CallTool {
        respond_async: true,
        ..write("x")
    };
    let CallAnswer::Accepted { call_id } = bench.broker.call_tool(&admin(), request).await.unwrap()
    else {
        panic!("an async call is accepted");
    };
    until("the call is sent", || async { bench.fake.calls() == 1 }).await;
    let second = start(&bench.dir, |_| {}).await;
    until("the first one ended", || async {
        bench.broker.inner.live.all().is_empty()
    })
    .await;
    let swept = second
        .get_call(&admin(), &call_id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(swept.state, CallState::OutcomeUnknown);
    assert_eq!(
        swept.fault.map(|fault| fault.executed),
        Some(ExecutedWire::Unknown)
    );
    second.shutdown(Duration::ZERO).await;
    bench.stop().await;
}
