//! The guarantees of the tunnel, attacked with the real bridge and the real agent: broken lines, `kill -9` on either
//! side, floods and frames without end. `PAPERBOT_SEED` runs a printed seed again.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::chaos::{Rig, Story, TOOLS, aloud, calls, seeded, storm, token};
use testkit::gate::Weather;
use testkit::peer::{FIRST_FRAGMENT, NEXT_FRAGMENT, Peer, WHOLE_TEXT};
use testkit::{Bridge, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What a flood or an endless frame may cost the bridge at most; what it is given is more.
const MAX_GROWTH_KIB: u64 = 64 * 1024;

/// What a run came to.
#[derive(Debug, Default)]
struct Sum {
    /// Calls with a result.
    succeeded: usize,
    /// Calls made in vain while the agent was away, and made again.
    refused: usize,
    /// Calls nobody can tell the outcome of, that the server had begun.
    unknown_begun: usize,
    /// The same, that no server ever saw.
    unknown_unseen: usize,
}

/// When who was killed.
#[derive(Debug, Default)]
struct Kills {
    agent: Vec<Instant>,
    bridge: Vec<Instant>,
}

/// Reads every call again and holds each guarantee against what the server did.
async fn check(rig: &Rig, stories: &[Story], (lines, kills): (usize, &Kills)) -> Sum {
    let (done, begun) = (rig.done_lines(), rig.begun_lines());
    let twice = |counts: &HashMap<String, usize>| -> Vec<String> {
        let twice = counts.iter().filter(|(_, count)| **count > 1);
        twice.map(|(line, _)| line.clone()).collect()
    };
    assert_eq!(twice(&done), [""; 0], "took effect twice");
    assert_eq!(twice(&begun), [""; 0], "was begun twice");
    let mut sum = Sum::default();
    for story in stories {
        let (line, end) = (&story.line, &story.end);
        match story.state() {
            "succeeded" => {
                sum.succeeded += 1;
                assert_eq!(end["result"]["content"][0]["text"], format!("did {line}"));
                assert!(done.contains_key(line), "{line} has a result and no effect");
            }
            // Of a call that ran, nobody can tell only when the agent was killed over it.
            "outcome_unknown" if begun.contains_key(line) => {
                assert!(story.lived_at(&kills.agent), "no agent was killed: {end}");
                sum.unknown_begun += 1;
            }
            // One whose bridge was killed over it may never have come to the agent; the next bridge cannot know.
            "outcome_unknown" => {
                let killed = story.lived_at(&kills.agent) || story.lived_at(&kills.bridge);
                assert!(killed, "nobody was killed: {end}");
                sum.unknown_unseen += 1;
            }
            _ if story.is_refused() => sum.refused += 1,
            _ => panic!("{line} ended as it must not: {end}"),
        }
        let again = rig.caller().end(&story.call_id).await;
        for member in ["state", "result", "error"] {
            assert_eq!(again[member], end[member], "{line}: {end}, then {again}");
        }
        tells_its_end(&rig.bridge, story).await;
    }
    let ended = sum.succeeded + sum.unknown_begun + sum.unknown_unseen;
    assert_eq!(ended, lines, "every call ends once for its caller: {sum:?}");
    if kills.agent.is_empty() {
        let unsaid = (sum.unknown_begun, sum.unknown_unseen);
        assert_eq!(unsaid, (0, 0), "{sum:?}");
    }
    none_open(&rig.bridge, stories).await;
    sum
}

/// Its events tell its end once, and no other one than it has; also when the events of a bridge's last moment before
/// a kill are gone.
async fn tells_its_end(bridge: &Bridge, story: &Story) {
    let path = format!("/v1/calls/{}/events", story.call_id);
    let told = bridge.send("GET", &path, None).await;
    let ends: Vec<Value> = events(&told.text(), "tool_result");
    assert_eq!(ends.len(), 1, "{}: {}", story.line, told.text());
    let succeeded = story.state() == "succeeded";
    assert_eq!(ends[0]["data"]["ok"], succeeded, "{}", ends[0]);
}

fn events(text: &str, kind: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    events.filter(|event| event["type"] == kind).collect()
}

/// The ledger holds every call made, each in a terminal state, and beside them only such as were refused at once.
async fn none_open(bridge: &Bridge, stories: &[Story]) {
    let mut open: HashSet<&str> = stories.iter().map(|story| &*story.call_id).collect();
    assert_eq!(open.len(), stories.len(), "no two calls share an id");
    let mut cursor = String::new();
    loop {
        let page = bridge.get(&format!("/v1/calls?limit=500{cursor}")).await;
        for call in page["items"].as_array().unwrap() {
            assert!(call["ended_at"].is_string(), "{call}");
            let known = open.remove(call["call_id"].as_str().unwrap());
            assert!(known || call["error"]["executed"] == "no", "{call}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(open, HashSet::new(), "calls the ledger does not know");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_lines_lose_no_result_and_double_no_effect() {
    const CALLS: usize = 1000;
    let mut random = seeded("broken lines");
    let rig = Rig::start().await;
    let (told, broken) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let calls = calls(CALLS, &mut random);
    let caller = rig.caller();
    let weather = storm(Arc::clone(&rig.gate), random, Arc::clone(&broken));
    let stories = tokio::select! {
        stories = caller.all(calls, told) => stories,
        () = weather => unreachable!("the storm goes on"),
    };
    rig.gate.set(Weather::Fair);
    rig.online().await;
    let sum = check(&rig, &stories, (CALLS, &Kills::default())).await;
    aloud(&format!(
        "{CALLS} calls, the line broken {} times: {sum:?}",
        broken.load(Ordering::SeqCst)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_agents_and_bridges_lose_no_result_and_double_no_effect() {
    const CALLS: usize = 1000;
    // At these many ends known: whom it hits next, in turns.
    const KILLS: usize = 8;
    let mut random = seeded("kills");
    let mut rig = Rig::start().await;
    let (told, broken) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let calls = calls(CALLS, &mut random);
    let caller = rig.caller();
    let count = Arc::clone(&told);
    let calling = tokio::spawn(async move { caller.all(calls, count).await });
    let gate = Arc::clone(&rig.gate);
    let weather = tokio::spawn(storm(gate, random, Arc::clone(&broken)));
    let mut kills = Kills::default();
    for kill in 0..KILLS {
        let mark = (kill + 1) * CALLS / (KILLS + 2);
        eventually("calls go on", || async {
            (told.load(Ordering::SeqCst) >= mark || calling.is_finished()).then_some(())
        })
        .await;
        if kill % 2 == 0 {
            kills.agent.push(Instant::now());
            rig.kill_agent().await;
        } else {
            kills.bridge.push(Instant::now());
            rig.kill_bridge().await;
        }
    }
    let stories = calling.await.unwrap();
    weather.abort();
    rig.gate.set(Weather::Fair);
    rig.gate.cut();
    rig.online().await;
    // What was told must also be what is kept.
    rig.kill_bridge().await;
    rig.online().await;
    let sum = check(&rig, &stories, (CALLS, &kills)).await;
    aloud(&format!(
        "{CALLS} calls, {KILLS} kills, the line broken {} times: {sum:?}",
        broken.load(Ordering::SeqCst)
    ));
}

/// A minute, killed in its sixth second: longer than any timer of the tunnel, so that none of them ends the call.
#[tokio::test]
async fn a_long_call_survives_the_kill_of_the_bridge_and_is_read_by_its_id() {
    let mut rig = Rig::start().await;
    let call = json!({"ref": format!("{TOOLS}.slow"), "arguments": {"line": "long", "ms": 60_000}, "timeout_ms": 120_000});
    let call_id = rig.caller().begin("long", &call).await;
    rig.begun("long").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    rig.kill_bridge().await;
    let adopted = rig.bridge.get(&format!("/v1/calls/{call_id}")).await;
    assert_eq!(adopted["state"], "running", "{adopted}");
    // Its key still stands for it.
    assert_eq!(rig.caller().begin("long", &call).await, call_id);
    let end = rig.caller().end(&call_id).await;
    assert_eq!(end["result"]["content"][0]["text"], "did long", "{end}");
    assert_eq!(rig.begun_lines()["long"], 1);
    // And it was committed before the agent was told to forget it.
    rig.agent.end(Signal::SIGKILL).await;
    rig.kill_bridge().await;
    let again = rig.caller().end(&call_id).await;
    assert_eq!(
        (&again["state"], &again["result"]),
        (&end["state"], &end["result"])
    );
}

fn rss_kib(bridge: &Bridge) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bridge.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// A stream of events whose reader never reads.
async fn deaf(bridge: &Bridge, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&bridge.authority).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: text/event-stream\r\n\r\n",
        bridge.authority, bridge.admin_key
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// 100 MB, half again as much as the bridge may grow by.
#[tokio::test]
async fn a_flood_of_logs_past_readers_who_do_not_read_is_bounded_counted_and_harms_no_result() {
    const MESSAGES: u64 = 25_000;
    let rig = Rig::start().await;
    let warm = json!({"ref": format!("{TOOLS}.noisy"), "arguments": {"line": "warm", "messages": 10, "bytes": 1000}});
    let warm = rig.caller().begin("warm", &warm).await;
    rig.caller().end(&warm).await;
    let before = rss_kib(&rig.bridge);
    let _all = deaf(&rig.bridge, "/v1/events").await;
    let flood = json!({"ref": format!("{TOOLS}.noisy"), "arguments": {"line": "flood", "messages": MESSAGES, "bytes": 4000}, "timeout_ms": 300_000});
    let call_id = rig.caller().begin("flood", &flood).await;
    let path = format!("/v1/calls/{call_id}/events");
    let _one = deaf(&rig.bridge, &path).await;
    let mut most = 0;
    let end = {
        let caller = rig.caller();
        let mut end = std::pin::pin!(caller.end(&call_id));
        loop {
            tokio::select! {
                end = &mut end => break end,
                () = tokio::time::sleep(Duration::from_millis(50)) => most = most.max(rss_kib(&rig.bridge)),
            }
        }
    };
    assert_eq!(end["result"]["content"][0]["text"], "did flood", "{end}");
    let growth = most.max(rss_kib(&rig.bridge)).saturating_sub(before);
    assert!(growth < MAX_GROWTH_KIB, "the bridge grew by {growth} KiB");
    let told = rig.bridge.send("GET", &path, None).await.text();
    let logs = events(&told, "tool_log");
    let texts = logs
        .iter()
        .filter(|log| {
            log["data"]["data"]
                .as_str()
                .is_some_and(|data| data.contains("xxx"))
        })
        .count();
    let dropped: u64 = logs
        .iter()
        .map(|log| log["data"]["dropped_lines"].as_u64().unwrap())
        .sum();
    aloud(&format!(
        "{MESSAGES} messages: {texts} kept, {dropped} counted as dropped, the bridge grew by {growth} KiB"
    ));
    let texts = u64::try_from(texts).unwrap();
    assert!(texts + dropped <= MESSAGES, "counted more than there was");
    assert!(texts + dropped >= MESSAGES, "lost and not counted");
    assert_eq!(events(&told, "tool_result").len(), 1);
}

#[tokio::test]
async fn frames_without_end_are_cut_off_and_nobody_else_notices() {
    const PIECE: usize = 256 * 1024;
    const GIANT: usize = 17 * 1024 * 1024;
    // Four times what a bridge that keeps it all would be allowed to grow by.
    const MOST_PIECES: usize = 1024;
    let rig = Rig::start().await;
    let pass = token(&rig.bridge, "other").await;
    let authority = rig.bridge.authority.clone();
    let before = rss_kib(&rig.bridge);
    let slow =
        json!({"ref": format!("{TOOLS}.slow"), "arguments": {"line": "meanwhile", "ms": 500}});
    let call_id = rig.caller().begin("meanwhile", &slow).await;
    for let_in in [false, true] {
        let dial = || async {
            if let_in {
                Peer::connect(&authority, "other", &pass).await
            } else {
                Peer::dial(&authority).await
            }
        };
        let mut endless = dial().await;
        let mut kind = FIRST_FRAGMENT;
        for piece in 0.. {
            assert!(piece < MOST_PIECES, "the bridge takes all there is");
            if !endless.write(kind, PIECE as u64, PIECE).await {
                break;
            }
            kind = NEXT_FRAGMENT;
        }
        endless.closed().await;
        let mut giant = dial().await;
        giant.write(WHOLE_TEXT, GIANT as u64, GIANT).await;
        giant.closed().await;
        // One that only promises: its length alone is enough.
        let mut promised = dial().await;
        promised.write(WHOLE_TEXT, u64::MAX >> 1, 0).await;
        promised.closed().await;
    }
    let growth = rss_kib(&rig.bridge).saturating_sub(before);
    assert!(growth < MAX_GROWTH_KIB, "the bridge grew by {growth} KiB");
    let end = rig.caller().end(&call_id).await;
    assert_eq!(
        end["result"]["content"][0]["text"], "did meanwhile",
        "{end}"
    );
    let mine = rig.bridge.get("/v1/agents/my-laptop").await;
    assert_eq!(
        (&mine["status"], &mine["epoch"]),
        (&json!("online"), &json!(1)),
        "{mine}"
    );
}
