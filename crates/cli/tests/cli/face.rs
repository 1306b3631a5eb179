//! A streamable HTTP server whose every answer the test writes, in the test's own words and time.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bridge::{Seen, read_request};

/// Only a test that fails waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One connection with one request; dropping it closes it.
pub(crate) struct Talk {
    stream: TcpStream,
}

impl Talk {
    /// A whole answer.
    pub(crate) fn answer(mut self, status: u16, headers: &str, body: &str) {
        let kind = if status < 400 || body.starts_with("{\"jsonrpc\"") {
            "application/json"
        } else {
            "application/problem+json"
        };
        let text = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = self.stream.write_all(text.as_bytes());
    }

    /// A JSON-RPC result.
    pub(crate) fn result(self, seen: &Seen, result: &Value) {
        let answer = json!({"jsonrpc": "2.0", "id": seen.json()["id"], "result": result});
        self.answer(200, "", &answer.to_string());
    }

    /// Begins an event stream, as revision 2025-11-25 does: with an id and nothing else.
    pub(crate) fn events(mut self, headers: &str) -> Events {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{headers}connection: close\r\n\r\n: hi\n\nid: 0\ndata:\n\n"
        );
        let _ = self.stream.write_all(head.as_bytes());
        Events {
            stream: self.stream,
        }
    }
}

/// An event stream; dropping it ends it.
pub(crate) struct Events {
    stream: TcpStream,
}

impl Events {
    pub(crate) fn send(&mut self, message: &Value) {
        let _ = write!(self.stream, "event: message\ndata: {message}\n\n");
    }

    pub(crate) fn send_with_id(&mut self, id: &str, message: &Value) {
        let _ = write!(self.stream, "id: {id}\ndata: {message}\n\n");
    }

    /// Waits until the client closes its side.
    pub(crate) fn wait_for_hangup(&mut self) {
        let mut rest = [0; 64];
        while matches!(self.stream.read(&mut rest), Ok(count) if count > 0) {}
    }
}

type Script = dyn Fn(&Seen, Talk) + Send + Sync;

/// The server; its threads end with the test's process.
pub(crate) struct Face {
    pub(crate) url: String,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    entries: Mutex<Vec<String>>,
    seen: Mutex<Vec<Seen>>,
    changed: Condvar,
}

/// Facts a script tells the test, in order.
#[derive(Clone)]
pub(crate) struct Diary(Arc<Log>);

impl Diary {
    pub(crate) fn note(&self, fact: &str) {
        self.0.entries.lock().unwrap().push(fact.to_owned());
        self.0.changed.notify_all();
    }

    /// Waits until a fact was noted.
    pub(crate) fn wait_for(&self, fact: &str) {
        self.wait_for_many(fact, 1);
    }

    /// Waits until a fact was noted so many times.
    pub(crate) fn wait_for_many(&self, fact: &str, times: usize) {
        let entries = self.0.entries.lock().unwrap();
        let missing = |entries: &mut Vec<String>| {
            entries.iter().filter(|known| *known == fact).count() < times
        };
        let waited = self
            .0
            .changed
            .wait_timeout_while(entries, PATIENCE, missing);
        let (entries, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "{fact} never came, but {entries:?}");
    }
}

impl Face {
    pub(crate) fn answering(script: impl Fn(&Seen, Talk, &Diary) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(crate) fn on(
        listener: TcpListener,
        script: impl Fn(&Seen, Talk, &Diary) + Send + Sync + 'static,
    ) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Log::default());
        let diary = Diary(Arc::clone(&log));
        let script: Arc<Script> = Arc::new(move |seen: &Seen, talk| script(seen, talk, &diary));
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, script) = (Arc::clone(&shared), Arc::clone(&script));
                std::thread::spawn(move || serve(stream.unwrap(), &log, &*script));
            }
        });
        Self { url, log }
    }

    pub(crate) fn diary(&self) -> Diary {
        Diary(Arc::clone(&self.log))
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    /// What was asked, in order: `POST method`, or the HTTP method alone.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen().iter().map(asked).collect()
    }
}

/// `POST tools/call`, `POST (answer)`, `GET`, `DELETE`.
pub(crate) fn asked(seen: &Seen) -> String {
    let mut asked = seen.method.clone();
    if seen.method == "POST" {
        let body = seen.json();
        let method = body["method"].as_str().unwrap_or("(answer)");
        let _ = write!(asked, " {method}");
    }
    asked
}

fn serve(stream: TcpStream, log: &Log, script: &Script) {
    let Some(seen) = read_request(&stream) else {
        return;
    };
    log.seen.lock().unwrap().push(seen.clone());
    log.entries.lock().unwrap().push(asked(&seen));
    log.changed.notify_all();
    script(&seen, Talk { stream });
}
