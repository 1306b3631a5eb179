use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;

use super::*;
use crate::testing::{Behaviour, FakeServer};
use crate::tunnel::agent::status::ServerState;
use crate::tunnel::frame::{InvokeMethod, Lists, Stream};

/// On paused time this is never waited for, only a bound.
const LONG: Duration = Duration::from_mins(10);

struct Stage {
    servers: Servers,
    events: mpsc::Receiver<Event>,
}

fn definition(fake: &FakeServer, deny: &[&str]) -> AgentServer {
    AgentServer {
        name: "fake".to_owned(),
        spec: fake.spec("fake").unwrap(),
        allow_tools: Vec::new(),
        deny_tools: deny.iter().map(|s| (*s).to_owned()).collect(),
    }
}

async fn stage(fake: &FakeServer, deny: &[&str]) -> Stage {
    let (servers, events) = Servers::start(vec![definition(fake, deny)]);
    let stage = Stage { servers, events };
    stage
        .until("it is ready", |one| one.problem.is_none())
        .await;
    stage
}

fn invoke(tool: &str, key: &str) -> Invoke {
    let params = json!({"name": tool, "arguments": {"message": "hello"}}).to_string();
    Invoke {
        server: "fake".to_owned(),
        method: InvokeMethod::ToolsCall,
        params: RawValue::from_string(params).unwrap(),
        timeout_ms: 60_000,
        deadline_ts: 0,
        stream: Stream { enabled: true },
        isolation_key: key.to_owned(),
    }
}

fn id(text: &str) -> ReqId {
    ReqId::new(text).unwrap()
}

impl Stage {
    async fn until(&self, what: &str, fits: impl Fn(&ServerTools) -> bool) {
        let mut changes = self.servers.changes();
        let waiting = async {
            loop {
                if self.servers.offered().first().is_some_and(&fits) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(LONG, waiting).await;
        waited.unwrap_or_else(|_| panic!("{what}: {:?}", self.servers.status()));
    }

    /// Chunks of a call, then its end.
    async fn end(&mut self, of: &str) -> (Vec<(Channel, String)>, CallResult) {
        let mut chunks = Vec::new();
        loop {
            let event = tokio::time::timeout(LONG, self.events.recv()).await;
            match event.unwrap().unwrap() {
                Event::Chunk {
                    req_id,
                    channel,
                    data,
                } if *req_id == *of => chunks.push((channel, data)),
                Event::Ended { req_id, result } if *req_id == *of => return (chunks, result),
                _ => {}
            }
        }
    }

    async fn call(&mut self, tool: &str, key: &str) -> CallResult {
        let req_id = format!("call_{tool}_{}", rand::random::<u32>());
        self.servers.call(id(&req_id), invoke(tool, key));
        self.end(&req_id).await.1
    }
}

fn code(result: &CallResult) -> FailureCode {
    result.error.as_ref().unwrap().code
}

#[tokio::test(start_paused = true)]
async fn a_call_gets_the_servers_own_bytes() {
    for fake in [FakeServer::legacy(), FakeServer::modern()] {
        let mut stage = stage(&fake, &[]).await;
        let result = stage.call("echo", "user:a").await;
        assert!(result.result_json.unwrap().get().contains("hello"));
        stage.servers.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_neither_shown_nor_called() {
    let fake = FakeServer::legacy();
    let mut stage = stage(&fake, &["wr*"]).await;
    let offered = stage.servers.offered();
    assert_eq!(offered[0].tools.len(), 1, "{offered:?}");
    assert_eq!(
        code(&stage.call("write", "").await),
        FailureCode::ToolNotFound
    );
    assert_eq!(fake.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_is_read_again_and_told() {
    for fake in [FakeServer::legacy(), FakeServer::modern()] {
        let stage = stage(&fake, &[]).await;
        let tools = ["echo", "later"].map(|name| json!({"name": name, "inputSchema": {}}));
        fake.set_tools(tools.to_vec());
        stage
            .until("the new tool", |one| {
                one.tools.iter().any(|tool| tool.get().contains("later"))
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn progress_comes_in_order_and_before_the_end() {
    let fake = FakeServer::legacy();
    fake.behave(Behaviour::Progress(5));
    let mut stage = stage(&fake, &[]).await;
    stage.servers.call(id("call_1"), invoke("echo", ""));
    let (chunks, result) = stage.end("call_1").await;
    let steps: Vec<_> = chunks
        .iter()
        .map(|(channel, data)| {
            assert_eq!(*channel, Channel::Progress);
            let params: serde_json::Value = serde_json::from_str(data).unwrap();
            params["progress"].as_f64().unwrap()
        })
        .collect();
    assert_eq!((steps.len(), steps.is_sorted(), result.ok), (5, true, true));
}

#[tokio::test(start_paused = true)]
async fn what_a_server_logs_is_heard_by_the_calls_on_it() {
    let fake = FakeServer::legacy();
    fake.behave(Behaviour::Slow(Duration::from_secs(5)));
    let mut stage = stage(&fake, &[]).await;
    stage.servers.call(id("call_1"), invoke("echo", ""));
    while fake.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let params = json!({"level": "warning", "data": "low on paper"});
    fake.push(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}));
    let (chunks, _) = stage.end("call_1").await;
    assert_eq!(chunks, [(Channel::Stderr, params.to_string())]);
}

#[tokio::test(start_paused = true)]
async fn of_a_flood_of_logs_before_an_answer_each_is_told_or_counted_before_it() {
    const LOGS: u64 = 2_000;
    let fake = FakeServer::legacy();
    let params = json!({"level": "info", "data": "low on paper"});
    let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
    let mut lines = format!("{log}\n").repeat(usize::try_from(LOGS).unwrap());
    lines.push_str(r#"{"jsonrpc":"2.0","id":@ID@,"result":{"content":[]}}"#);
    fake.behave(Behaviour::Line(lines));
    let mut stage = stage(&fake, &[]).await;
    stage.servers.call(id("call_1"), invoke("echo", ""));
    let (mut told, mut lost) = (0, 0);
    loop {
        let event = tokio::time::timeout(LONG, stage.events.recv()).await;
        match event.unwrap().unwrap() {
            Event::Chunk { .. } => told += 1,
            Event::Lost { lines, .. } => lost += lines,
            Event::Ended { result, .. } => {
                assert!(result.ok);
                break;
            }
        }
    }
    assert!(told > 0);
    assert_eq!(told + lost, LOGS, "{told} told, {lost} counted");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ended_is_started_again_and_its_calls_fail() {
    let fake = FakeServer::legacy();
    fake.behave(Behaviour::Leave);
    let mut stage = stage(&fake, &[]).await;
    let failed = stage.call("echo", "").await;
    assert_eq!(code(&failed), FailureCode::ProtocolError);
    fake.behave(Behaviour::Echo);
    assert!(stage.call("echo", "").await.ok, "the call starts it");
    let status = &stage.servers.status()[0];
    assert_eq!((status.restarts, status.state), (1, ServerState::Ready));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_reached_says_why_and_nothing_is_run() {
    let fake = FakeServer::legacy();
    let mut stage = stage(&fake, &[]).await;
    fake.refuse_connections(true);
    fake.kick();
    stage.until("it is down", |one| one.problem.is_some()).await;
    let offered = stage.servers.offered();
    assert_eq!(offered[0].tools.len(), 2, "the last known list is kept");
    assert_eq!(code(&stage.call("echo", "").await), FailureCode::Rejected);
    fake.refuse_connections(false);
    stage.until("it is back", |one| one.problem.is_none()).await;
    assert_eq!(fake.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_lists_of_a_server_never_read_are_unknown_and_not_empty() {
    let fake = FakeServer::legacy();
    fake.refuse_connections(true);
    let (servers, events) = Servers::start(vec![definition(&fake, &[])]);
    let stage = Stage { servers, events };
    assert_eq!(stage.servers.offered()[0].lists, Lists::Unknown);
    let down = |one: &ServerTools| one.problem.as_deref() != Some("it was not reached yet");
    stage.until("it is down", down).await;
    assert_eq!(stage.servers.offered()[0].lists, Lists::Unknown);
    fake.refuse_connections(false);
    stage.until("it is read", |one| one.lists.are_known()).await;
    assert_eq!(stage.servers.offered()[0].tools.len(), 2);
    fake.refuse_connections(true);
    fake.kick();
    stage.until("it is down", |one| one.problem.is_some()).await;
    assert!(
        stage.servers.offered()[0].lists.are_known(),
        "they were read"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_cancelled_on_the_server_and_ends_once() {
    let fake = FakeServer::legacy();
    fake.behave(Behaviour::Silent);
    let mut stage = stage(&fake, &[]).await;
    stage.servers.call(id("call_1"), invoke("echo", ""));
    while fake.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(stage.servers.cancel("call_1"));
    let (_, result) = stage.end("call_1").await;
    assert_eq!(
        (code(&result), result.canceled),
        (FailureCode::Canceled, true)
    );
    assert!(!stage.servers.cancel("call_1"), "it is over");
    while fake.cancelled() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_over_at_its_deadline() {
    let fake = FakeServer::legacy();
    fake.behave(Behaviour::Silent);
    let mut stage = stage(&fake, &[]).await;
    let started = tokio::time::Instant::now();
    assert_eq!(code(&stage.call("echo", "").await), FailureCode::Timeout);
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn keys_share_no_connection_and_a_single_calls_goes_with_it() {
    let fake = FakeServer::legacy();
    let mut stage = stage(&fake, &[]).await;
    assert_eq!(fake.opened(), 1);
    for (key, opened) in [
        ("user:a", 1),
        ("user:a", 1),
        ("user:b", 2),
        ("user:a", 2),
        ("user:b", 2),
        ("call:1", 3),
        ("call:2", 4),
    ] {
        assert!(stage.call("echo", key).await.ok);
        assert_eq!(fake.opened(), opened, "{key}");
    }
    let server = Arc::clone(&stage.servers.shared.servers()["fake"]);
    assert_eq!(server.slot_count(), 1, "only that of user:b");
    tokio::time::sleep(one::SLOT_IDLE * 2).await;
    assert_eq!(server.slot_count(), 0, "nobody used it");
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_an_agent_may_have_are_rejected() {
    let fake = FakeServer::legacy();
    fake.behave(Behaviour::Silent);
    let mut stage = stage(&fake, &[]).await;
    for number in 0..IN_FLIGHT {
        let call = id(&format!("call_{number}"));
        stage.servers.call(call, invoke("echo", ""));
    }
    assert_eq!(code(&stage.call("echo", "").await), FailureCode::Rejected);
}

#[tokio::test(start_paused = true)]
async fn replacing_keeps_what_did_not_change_and_finishes_calls_on_what_goes() {
    let fake = FakeServer::legacy();
    let stdio = |argument: &str| AgentServer {
        name: "child".to_owned(),
        spec: crate::ServerSpec {
            endpoint: crate::Endpoint::Stdio(crate::StdioSpec {
                argv: vec!["/nonexistent".to_owned(), argument.to_owned()],
                env: std::collections::BTreeMap::new(),
                cwd: None,
                sandbox: crate::Sandbox::default(),
            }),
            ..fake.spec("child").unwrap()
        },
        allow_tools: Vec::new(),
        deny_tools: Vec::new(),
    };
    let mut stage = stage(&fake, &[]).await;
    fake.behave(Behaviour::Slow(Duration::from_secs(10)));
    stage.servers.call(id("call_1"), invoke("echo", ""));
    while fake.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stage.servers.replace(vec![stdio("a")]);
    let of = |stage: &Stage| Arc::clone(&stage.servers.shared.servers()["child"]);
    let first = of(&stage);
    stage.servers.replace(vec![stdio("a")]);
    assert!(Arc::ptr_eq(&first, &of(&stage)), "the same definition");
    stage.servers.replace(vec![stdio("b")]);
    assert!(!Arc::ptr_eq(&first, &of(&stage)), "another one");
    assert!(
        stage.end("call_1").await.1.ok,
        "the running call was finished"
    );
    let words = stage.call("echo", "").await.error.unwrap();
    assert_eq!(words.code, FailureCode::ToolNotFound, "{words:?}");
    stage.servers.close().await;
}
