//! What `close` promises: nothing is left when it returns, whatever the session was doing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sessions::{Isolation, OpenError, SessionLimits, Sessions, Target};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::time::{Instant, timeout};
use transports::testing::FakeServer;
use transports::{Endpoint, InProcess, StdioSpec};

use crate::support::{MINUTE, acquire, caller, settle, target};

/// A server that takes connections and says nothing: its ends of them.
#[derive(Clone, Default)]
struct Mute(Arc<Mutex<Vec<DuplexStream>>>);

impl Mute {
    fn target(&self) -> Target {
        let ends = Arc::clone(&self.0);
        let connect = move || {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            ends.lock().unwrap().push(ours);
            theirs
        };
        let mut target = target(&FakeServer::legacy(), Isolation::User);
        let mut spec = (*target.spec).clone();
        spec.endpoint = Endpoint::InProcess(InProcess(Arc::new(connect)));
        target.spec = Arc::new(spec);
        target
    }

    /// Whether the other end of every connection is closed, now.
    async fn all_closed(&self) -> bool {
        let ends = std::mem::take(&mut *self.0.lock().unwrap());
        assert!(!ends.is_empty(), "somebody came");
        for mut end in ends {
            let mut said = Vec::new();
            if timeout(Duration::ZERO, end.read_to_end(&mut said))
                .await
                .is_err()
            {
                return false;
            }
        }
        true
    }
}

/// Starts opening a session, and gives up waiting for it.
async fn begin(sessions: &Sessions, target: &Target, patience: Duration) {
    let deadline = Instant::now() + patience;
    let waited = sessions.acquire(&caller("ann"), target, deadline).await;
    assert!(matches!(waited, Err(OpenError::Timeout { .. })));
}

#[tokio::test(start_paused = true)]
async fn closing_a_session_that_is_opening_takes_the_opening_down() {
    let server = Mute::default();
    let sessions = Sessions::new(SessionLimits::default());
    begin(&sessions, &server.target(), Duration::from_secs(1)).await;
    let id = sessions.list()[0].id;
    let before = Instant::now();
    assert!(sessions.close(id).await);
    assert!(server.all_closed().await, "its socket is gone");
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody waited for it");
    assert!(sessions.inspect(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_session_that_is_closed_hears_so_at_once() {
    let server = Mute::default();
    let sessions = Sessions::new(SessionLimits::default());
    let (waiting, target) = (sessions.clone(), server.target());
    let waiter = tokio::spawn(async move { acquire(&waiting, "ann", &target).await.err() });
    settle().await;
    let id = sessions.list()[0].id;
    let before = Instant::now();
    assert!(sessions.close(id).await);
    let told = waiter.await.unwrap();
    assert!(matches!(told, Some(OpenError::Connect(_))), "{told:?}");
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn draining_takes_down_what_is_opening() {
    let server = Mute::default();
    let sessions = Sessions::new(SessionLimits::default());
    begin(&sessions, &server.target(), Duration::from_secs(1)).await;
    sessions.drain(Instant::now() + MINUTE).await;
    assert!(server.all_closed().await);
}

/// A process that never answers and does not leave when its input ends; it writes its id into the file.
fn stubborn(file: &Path) -> Target {
    let _ = std::fs::remove_file(file);
    let script = "echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; exec sleep 1000";
    let mut target = target(&FakeServer::legacy(), Isolation::User);
    let mut spec = (*target.spec).clone();
    spec.endpoint = Endpoint::Stdio(StdioSpec {
        argv: ["sh", "-c", script, &file.to_string_lossy()]
            .map(str::to_owned)
            .to_vec(),
        env: std::collections::BTreeMap::new(),
        cwd: None,
        sandbox: transports::Sandbox::default(),
    });
    target.spec = Arc::new(spec);
    target
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

/// Waits for the process to have said who it is.
async fn process(file: &Path) -> PathBuf {
    loop {
        if let Ok(pid) = std::fs::read_to_string(file) {
            let _ = std::fs::remove_file(file);
            return Path::new("/proc").join(pid.trim());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn closing_a_session_that_is_opening_leaves_no_process() {
    let file = scratch("opening");
    let sessions = Sessions::new(SessionLimits::default());
    begin(&sessions, &stubborn(&file), Duration::from_millis(1)).await;
    let process = process(&file).await;
    assert!(process.exists());
    assert!(sessions.close(sessions.list()[0].id).await);
    assert!(!process.exists(), "{}", process.display());
}

#[tokio::test]
async fn a_place_is_free_only_when_the_process_that_held_it_is_gone() {
    let file = scratch("place");
    let sessions = Sessions::new(SessionLimits {
        max_per_user: 1,
        ..SessionLimits::default()
    });
    begin(&sessions, &stubborn(&file), Duration::from_millis(1)).await;
    let process = process(&file).await;
    let server = FakeServer::legacy();
    let mut next = target(&server, Isolation::User);
    let mut spec = server.spec("next").unwrap();
    let (held_by, connecting) = (process.clone(), server.clone());
    spec.endpoint = Endpoint::InProcess(InProcess(Arc::new(move || {
        assert!(!held_by.exists(), "two processes where one may be");
        connecting.connect()
    })));
    next.spec = Arc::new(spec);
    assert!(process.exists());
    acquire(&sessions, "ann", &next).await.unwrap();
    assert!(!process.exists());
}
