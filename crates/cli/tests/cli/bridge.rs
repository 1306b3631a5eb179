//! A bridge that answers what the test says, and remembers what it was asked.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// Only a test that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn route(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    pub(crate) fn queries(&self, name: &str) -> Vec<&str> {
        let matching = self.query.iter().filter(|(known, _)| known == name);
        matching.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    pub(crate) fn trace_id(&self) -> &str {
        let traceparent = self.header("traceparent").expect("every request has one");
        traceparent
            .split('-')
            .nth(1)
            .expect("version-trace-span-flags")
    }
}

/// What the bridge says.
pub(crate) enum Reply {
    Json(u16, Value),
    /// With one more header.
    With(u16, &'static str, &'static str, Value),
    Text(u16, String),
    /// These events, then the end.
    Events(Vec<Value>),
    /// These events, then silence until the client leaves.
    EventsThenSilence(Vec<Value>),
    /// Nothing until the client leaves.
    Silence,
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The bridge; its threads end with the test's process.
pub(crate) struct Bridge {
    pub(crate) url: String,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    entries: Mutex<(Vec<Seen>, usize)>,
    changed: Condvar,
}

impl Bridge {
    pub(crate) fn answering(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Log::default());
        let script: Arc<Script> = Arc::new(script);
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, script) = (Arc::clone(&shared), Arc::clone(&script));
                std::thread::spawn(move || serve(stream.unwrap(), &log, &*script));
            }
        });
        Self { url, log }
    }

    /// Always the same answer.
    pub(crate) fn saying(status: u16, body: Value) -> Self {
        Self::answering(move |_| Reply::Json(status, body.clone()))
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.entries.lock().unwrap().0.clone()
    }

    pub(crate) fn routes(&self) -> Vec<String> {
        self.seen().iter().map(Seen::route).collect()
    }

    /// The first request of this route, waiting for it.
    pub(crate) fn wait_for(&self, route: &str) -> Seen {
        let find = |entries: &(Vec<Seen>, usize)| {
            entries.0.iter().find(|seen| seen.route() == route).cloned()
        };
        let entries = self.log.entries.lock().unwrap();
        let waited = self
            .log
            .changed
            .wait_timeout_while(entries, PATIENCE, |entries| find(entries).is_none())
            .unwrap();
        find(&waited.0).unwrap_or_else(|| panic!("{route} never came"))
    }

    /// Waits until a client left a silent answer.
    pub(crate) fn wait_for_hangup(&self) {
        let entries = self.log.entries.lock().unwrap();
        let waited = self
            .log
            .changed
            .wait_timeout_while(entries, PATIENCE, |entries| entries.1 == 0)
            .unwrap();
        assert!(waited.0.1 > 0, "the client never left");
    }
}

fn serve(mut stream: TcpStream, log: &Log, script: &Script) {
    let Some(seen) = read_request(&stream) else {
        return;
    };
    let reply = script(&seen);
    log.entries.lock().unwrap().0.push(seen);
    log.changed.notify_all();
    match reply {
        Reply::Json(status, body) => answer(&mut stream, status, "", &body.to_string()),
        Reply::With(status, name, value, body) => {
            answer(
                &mut stream,
                status,
                &format!("{name}: {value}\r\n"),
                &body.to_string(),
            );
        }
        Reply::Text(status, body) => answer(&mut stream, status, "", &body),
        Reply::Events(events) => send_events(&mut stream, &events),
        Reply::EventsThenSilence(events) => {
            send_events(&mut stream, &events);
            hang(stream, log);
        }
        Reply::Silence => hang(stream, log),
    }
}

fn hang(mut stream: TcpStream, log: &Log) {
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest), Ok(count) if count > 0) {}
    log.entries.lock().unwrap().1 += 1;
    log.changed.notify_all();
}

fn send_events(stream: &mut TcpStream, events: &[Value]) {
    let mut text =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hi\n\n"
            .to_owned();
    for event in events {
        let _ = write!(
            text,
            "id: {}\nevent: {}\ndata: {event}\n\n",
            event["id"], event["type"]
        );
    }
    let _ = stream.write_all(text.as_bytes());
}

fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let kind = if status < 400 {
        "application/json"
    } else {
        "application/problem+json"
    };
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes());
}

pub(crate) fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let url = url::Url::parse("http://x").unwrap().join(&target).unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen {
        method,
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}

/// A problem as the bridge writes it.
pub(crate) fn problem(code: &str, status: u16) -> Value {
    json!({
        "type": format!("urn:paperbot:problem:{code}"), "title": "A title", "status": status,
        "detail": "what went wrong", "instance": "/v1/calls", "code": code,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "retryable": false, "executed": "no",
    })
}

/// The answer of a finished call with one text.
pub(crate) fn done(text: &str) -> Value {
    json!({
        "call_id": "call_0199", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "is_error": false,
        "content": [{"type": "text", "text": text}], "duration_ms": 3, "replayed": false,
    })
}
