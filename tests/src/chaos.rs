//! A bridge and an agent with a line between them that breaks, and a caller who does not give up.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::eventually;
use crate::gate::{Gate, Weather};
use crate::http::{Reply, try_request};
use crate::tunnel::{AGENT, Agent};
use crate::upstreams::built;
use crate::{Bridge, BridgeOptions};

/// How the bridge names the tools of the chaos server.
pub const TOOLS: &str = "my-laptop-chaos";
/// Calls at once.
const IN_FLIGHT: usize = 16;
/// How often one call may be refused before the test is called stuck.
const MAX_REFUSALS: usize = 2000;
/// Between two tries of whoever was refused.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one `GET /v1/calls/{id}` waits.
const WAIT_MS: u32 = 5000;
/// The states a call ends in.
const TERMINAL: [&str; 5] = [
    "succeeded",
    "failed",
    "cancelled",
    "timed_out",
    "outcome_unknown",
];

/// A line on stderr that also a passing test shows: the harness captures what the macros print, not what is written.
///
/// # Panics
/// When stderr cannot be written.
pub fn aloud(line: &str) {
    let written = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    written.unwrap_or_else(|error| panic!("stderr: {error}"));
}

/// The seed of this run, printed; `PAPERBOT_SEED` runs one again.
///
/// # Panics
/// When that is no number.
#[must_use]
pub fn seeded(what: &str) -> StdRng {
    let given = std::env::var("PAPERBOT_SEED").ok();
    let seed: u64 = given.map_or_else(rand::random, |seed| {
        seed.parse()
            .unwrap_or_else(|error| panic!("PAPERBOT_SEED: {error}"))
    });
    aloud(&format!("{what}: PAPERBOT_SEED={seed}"));
    StdRng::seed_from_u64(seed)
}

/// Bridge, line and agent.
#[derive(Debug)]
pub struct Rig {
    /// The bridge.
    pub bridge: Bridge,
    /// The line.
    pub gate: Arc<Gate>,
    /// The agent, which offers the chaos server.
    pub agent: Agent,
    caller: Caller,
}

impl Rig {
    /// All of it, once the tools are listed.
    pub async fn start() -> Self {
        let gate = Gate::open().await;
        // As behind a proxy: the bridge answers to no other name than its own.
        let options = BridgeOptions {
            extra: format!("public_url: http://{}\n", gate.address()),
            ..BridgeOptions::default()
        };
        let bridge = Bridge::start_with(options).await;
        gate.lead_to(&bridge.authority);
        let url = format!("ws://{}/v1/agents/tunnel", gate.address());
        let token = token(&bridge, AGENT).await;
        let mut agent = Agent::with_servers((&url, &token), |home| {
            let (server, effects) = (built("chaos-server"), home.join(crate::tunnel::EFFECTS));
            let (server, effects) = (server.display(), effects.display());
            format!("\x20 - {{name: chaos, command: {server}, args: [{effects}]}}\n")
        });
        agent.start();
        listed(&bridge).await;
        let caller = Caller {
            authority: Arc::new(Mutex::new(bridge.authority.clone())),
            key: bridge.admin_key.clone(),
        };
        Self {
            bridge,
            gate: Arc::new(gate),
            agent,
            caller,
        }
    }

    /// Whoever calls through this bridge, also when it was started again. Cheap to clone.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// `kill -9` and a new bridge on the same directories, to which the line leads from then on.
    pub async fn kill_bridge(&mut self) {
        self.bridge.crash_and_restart().await;
        self.gate.lead_to(&self.bridge.authority);
        let mut authority = self
            .caller
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        authority.clone_from(&self.bridge.authority);
    }

    /// `kill -9` and a new agent on the same directories.
    pub async fn kill_agent(&mut self) {
        self.agent.end(Signal::SIGKILL).await;
        self.agent.start();
    }

    /// Waits until the bridge sees the agent.
    pub async fn online(&self) {
        eventually("the agent is online", || async {
            let view = self.bridge.get(&format!("/v1/agents/{AGENT}")).await;
            (view["status"] == "online").then_some(())
        })
        .await;
    }

    /// Waits until the server has begun a call.
    pub async fn begun(&self, line: &str) {
        eventually(line, || async {
            self.begun_lines().contains_key(line).then_some(())
        })
        .await;
    }

    /// How often each call was begun.
    #[must_use]
    pub fn begun_lines(&self) -> HashMap<String, usize> {
        counted(&self.agent.effects_path().with_added_extension("begun"))
    }

    /// How often each call took effect.
    #[must_use]
    pub fn done_lines(&self) -> HashMap<String, usize> {
        counted(&self.agent.effects_path())
    }
}

/// A server of an agent that has not come yet is no server: the whole catalogue is asked.
async fn listed(bridge: &Bridge) {
    let wanted = format!("{TOOLS}.quick");
    eventually("the agent's tools are listed", || async {
        let page = bridge.get("/v1/catalog?limit=500").await;
        let items = page["items"].as_array()?;
        items.iter().any(|item| item["ref"] == wanted).then_some(())
    })
    .await;
}

fn counted(path: &std::path::Path) -> HashMap<String, usize> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut counts = HashMap::new();
    for line in text.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// A token for one agent of the admin's.
///
/// # Panics
/// When there is none.
pub async fn token(bridge: &Bridge, agent_id: &str) -> String {
    let wish = json!({"agent_id": agent_id});
    let issued = bridge.send("POST", "/v1/agents/tokens", Some(wish)).await;
    let token = issued.json()["token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("no token: {}", issued.text()))
}

/// Breaks the line at random until dropped: RST, a stall, or bytes that vanish until an RST.
pub async fn storm(gate: Arc<Gate>, mut random: StdRng, broken: Arc<AtomicUsize>) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(150..900))).await;
        let hold = Duration::from_millis(random.random_range(20..600));
        match random.random_range(0..4) {
            0 | 1 => gate.cut(),
            2 => {
                gate.set(Weather::Stalled);
                tokio::time::sleep(hold).await;
                gate.set(Weather::Fair);
            }
            _ => {
                gate.set(Weather::Swallowing);
                tokio::time::sleep(hold).await;
                gate.cut();
                gate.set(Weather::Fair);
            }
        }
        broken.fetch_add(1, Ordering::SeqCst);
    }
}

/// A call as its caller saw it.
#[derive(Debug, Clone)]
pub struct Story {
    /// What it appends.
    pub line: String,
    /// `call_…`.
    pub call_id: String,
    /// How it ended, whole.
    pub end: Value,
    /// From when it was asked for until its end was known.
    pub lasted: (Instant, Instant),
}

impl Story {
    /// Its terminal state.
    #[must_use]
    pub fn state(&self) -> &str {
        self.end["state"].as_str().unwrap_or_default()
    }

    /// Whether one of these moments fell into it.
    #[must_use]
    pub fn lived_at(&self, moments: &[Instant]) -> bool {
        let (began, ended) = self.lasted;
        moments.iter().any(|at| (began..=ended).contains(at))
    }

    /// Whether the bridge said that nothing was executed: such a call is made again by its caller.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state() == "failed" && self.end["error"]["executed"] == "no"
    }
}

/// Calls, and asks again until it knows how the call ended. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    authority: Arc<Mutex<String>>,
    key: String,
}

impl Caller {
    /// One request; `None` when the bridge was not there or went away over it.
    async fn ask(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Option<Reply> {
        let authority = self
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (method, path) = line.split_once(' ')?;
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", &authority);
        request = request.header("authorization", format!("Bearer {}", self.key));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = body
            .map(|body| Bytes::from(body.to_string()))
            .unwrap_or_default();
        let request = request.body(Full::new(bytes)).ok()?;
        try_request(&authority, request).await.ok()
    }

    /// Begins a call by its idempotency key and says its id, whatever happens to the bridge meanwhile.
    ///
    /// # Panics
    /// When it is refused for another reason than that the agent is away.
    pub async fn begin(&self, key: &str, call: &Value) -> String {
        let headers = [("prefer", "respond-async"), ("idempotency-key", key)];
        for _ in 0..MAX_REFUSALS {
            if let Some(reply) = self.ask("POST /v1/calls", &headers, Some(call)).await {
                let answer = reply.json();
                if let (true, Some(id)) = (reply.status.is_success(), answer["call_id"].as_str()) {
                    return id.to_owned();
                }
                assert_eq!(
                    (&answer["executed"], &answer["retryable"]),
                    (&json!("no"), &json!(true)),
                    "{call}: {answer}"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{call}: refused {MAX_REFUSALS} times");
    }

    /// Waits for a call's end by asking for it again and again.
    ///
    /// # Panics
    /// When the bridge does not know a call it took on.
    pub async fn end(&self, call_id: &str) -> Value {
        let path = format!("GET /v1/calls/{call_id}?wait_ms={WAIT_MS}");
        for _ in 0..MAX_REFUSALS {
            let Some(reply) = self.ask(&path, &[], None).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            assert_eq!(reply.status, 200, "{call_id} is lost: {}", reply.text());
            let call = reply.json();
            if call["state"]
                .as_str()
                .is_some_and(|state| TERMINAL.contains(&state))
            {
                return call;
            }
        }
        panic!("{call_id} does not end");
    }

    /// Calls until the call is not refused any more; every call made, the refused ones too.
    ///
    /// # Panics
    /// When it is refused for ever.
    pub async fn insist(&self, line: &str, call: &Value, told: &AtomicUsize) -> Vec<Story> {
        let mut stories = Vec::new();
        for attempt in 0..MAX_REFUSALS {
            let began = Instant::now();
            let call_id = self.begin(&format!("{line}.{attempt}"), call).await;
            let end = self.end(&call_id).await;
            let story = Story {
                line: line.to_owned(),
                call_id,
                end,
                lasted: (began, Instant::now()),
            };
            let refused = story.is_refused();
            stories.push(story);
            if !refused {
                told.fetch_add(1, Ordering::SeqCst);
                return stories;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{line}: refused {MAX_REFUSALS} times");
    }

    /// Makes `calls`, each named by its line, sixteen at once. `told` counts those whose end is known.
    pub async fn all(&self, calls: Vec<(String, Value)>, told: Arc<AtomicUsize>) -> Vec<Story> {
        let waiting = Arc::new(Mutex::new(calls.into_iter()));
        let mut callers = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let (caller, told) = (self.clone(), Arc::clone(&told));
            let waiting = Arc::clone(&waiting);
            callers.spawn(async move {
                let mut stories = Vec::new();
                loop {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .next();
                    let Some((line, call)) = next else {
                        return stories;
                    };
                    stories.extend(caller.insist(&line, &call, &told).await);
                }
            });
        }
        callers.join_all().await.into_iter().flatten().collect()
    }
}

/// `count` calls that act: most at once, some after a while.
pub fn calls(count: usize, random: &mut StdRng) -> Vec<(String, Value)> {
    let one = |number: usize| {
        let line = format!("effect-{number}");
        let mut arguments = json!({"line": line});
        let tool = if random.random_bool(0.3) {
            arguments["ms"] = json!(random.random_range(20..400));
            "slow"
        } else {
            "quick"
        };
        let call = json!({"ref": format!("{TOOLS}.{tool}"), "arguments": arguments, "timeout_ms": 120_000});
        (line, call)
    };
    (0..count).map(one).collect()
}
