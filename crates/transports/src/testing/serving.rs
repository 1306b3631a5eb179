//! How the fake answers on one connection.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Behaviour, FakeServer};

/// What one connection has going on.
#[derive(Debug, Default)]
struct Running {
    calls: HashMap<String, JoinHandle<()>>,
    listening: HashSet<String>,
}

impl FakeServer {
    /// Serves one connection to its end.
    pub(super) async fn serve(self, stream: DuplexStream) {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut lines = BufReader::new(reader).lines();
        let (answers, mut outgoing) = mpsc::channel::<Option<String>>(256);
        let (mut pushed, mut kicked) = (self.0.push.subscribe(), self.0.kick.subscribe());
        let mut running = Running::default();
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else { return };
                    if self.0.deaf.load(Ordering::SeqCst) { continue; }
                    let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                    self.take(&message, &answers, &mut running);
                }
                answer = outgoing.recv() => match answer.flatten() {
                    Some(answer) => {
                        if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() { return }
                    }
                    None => return,
                },
                Ok(message) = pushed.recv() => {
                    if writer.write_all(format!("{message}\n").as_bytes()).await.is_err() { return }
                }
                Ok(()) = kicked.recv() => return,
            }
        }
    }

    fn take(&self, message: &Value, answers: &mpsc::Sender<Option<String>>, running: &mut Running) {
        let id = message["id"].clone();
        if message["method"] != "tools/call" {
            let mut heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.push(message.clone());
        }
        let result =
            |result: Value| Some(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
        let refuse = |code: i64, text: &str| {
            Some(
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})
                    .to_string(),
            )
        };
        let answer = match message["method"].as_str().unwrap_or_default() {
            "server/discover" | "initialize" => match self.greet(message) {
                Some(greeting) => result(greeting),
                None => refuse(-32601, "no such method"),
            },
            "ping" => {
                self.0.pings.fetch_add(1, Ordering::SeqCst);
                result(json!({}))
            }
            "tools/list" => result(self.list()),
            "tools/call" => {
                self.0.calls.fetch_add(1, Ordering::SeqCst);
                self.see(message);
                let (server, message, answers) = (self.clone(), message.clone(), answers.clone());
                running.calls.retain(|_, task| !task.is_finished());
                running.calls.insert(
                    id.to_string(),
                    tokio::spawn(async move { server.call(&message, &answers).await }),
                );
                return;
            }
            "notifications/cancelled" => {
                self.cancel(&message["params"]["requestId"].to_string(), running);
                return;
            }
            "subscriptions/listen" if self.0.modern => {
                running.listening.insert(id.to_string());
                Some(acknowledgement(message))
            }
            "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel"
                if !self.0.modern =>
            {
                result(json!({}))
            }
            "" if id.as_u64().is_some_and(|id| id >= 900) => {
                let _ = self.0.push.send(json!({"answered": message}).to_string());
                self.see(message);
                return;
            }
            _ if id.is_null() => return,
            _ => refuse(-32601, "no such method"),
        };
        let _ = answers.try_send(answer);
    }

    fn see(&self, message: &Value) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(message.clone());
    }

    fn cancel(&self, id: &str, running: &mut Running) {
        if running.listening.remove(id) {
            return;
        }
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        if let Some(task) = running.calls.remove(id) {
            task.abort();
        }
    }

    fn list(&self) -> Value {
        self.0.lists.fetch_add(1, Ordering::SeqCst);
        json!({"tools": *self.0.tools.lock().unwrap_or_else(PoisonError::into_inner)})
    }

    /// The handshake of its era; `None` for the other's.
    fn greet(&self, message: &Value) -> Option<Value> {
        let capabilities = json!({"tools": {"listChanged": true}});
        let discovers = message["method"] == "server/discover";
        if discovers != self.0.modern {
            return None;
        }
        let version = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
        if !discovers || version == "2026-07-28" {
            self.0.initialized.fetch_add(1, Ordering::SeqCst);
        }
        Some(if discovers {
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities})
        } else {
            let version = &message["params"]["protocolVersion"];
            json!({"protocolVersion": version, "capabilities": capabilities, "serverInfo": {"name": "fake", "version": "1"}})
        })
    }

    async fn call(&self, message: &Value, answers: &mpsc::Sender<Option<String>>) {
        let id = &message["id"];
        let behaviour = self
            .0
            .behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let text = message["params"]["arguments"]["message"].clone();
        let echo = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}).to_string();
        let send = |line: String| async move {
            let _ = answers.send(Some(line)).await;
        };
        match behaviour {
            Behaviour::Echo => send(echo).await,
            Behaviour::Slow(wait) => {
                tokio::time::sleep(wait).await;
                send(echo).await;
            }
            Behaviour::Silent => std::future::pending().await,
            Behaviour::LineOnce(_) if !message["params"]["inputResponses"].is_null() => {
                send(echo).await;
            }
            Behaviour::Line(line) | Behaviour::LineOnce(line) => {
                send(line.replace("@ID@", &id.to_string())).await;
            }
            Behaviour::Progress(steps) => {
                let token = &message["params"]["_meta"]["progressToken"];
                for step in 1..=steps {
                    send(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": step, "total": steps}}).to_string()).await;
                }
                send(echo).await;
            }
            Behaviour::Leave => {
                let _ = answers.send(None).await;
            }
            Behaviour::Refuse(code, words) => {
                send(
                    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": words}})
                        .to_string(),
                )
                .await;
            }
            Behaviour::Ask(method) => {
                let ask = self.0.asks.fetch_add(1, Ordering::SeqCst);
                send(
                    json!({"jsonrpc": "2.0", "id": ask, "method": method, "params": {}})
                        .to_string(),
                )
                .await;
                send(echo).await;
            }
        }
    }
}

/// All that was asked for will be told, but resources whose name holds `unknown`.
fn acknowledgement(listen: &Value) -> String {
    let mut wanted = listen["params"]["notifications"].clone();
    if let Some(uris) = wanted["resourceSubscriptions"].as_array_mut() {
        uris.retain(|uri| !uri.as_str().unwrap_or_default().contains("unknown"));
    }
    let meta = json!({"io.modelcontextprotocol/subscriptionId": listen["id"]});
    let method = "notifications/subscriptions/acknowledged";
    let params = json!({"notifications": wanted, "_meta": meta});
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}
