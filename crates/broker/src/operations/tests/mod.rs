//! The operations through the public methods of [`Broker`]: a real store, and servers that speak MCP.

mod agents;
mod audit;
mod calls;
mod catalogs;
mod dialogue;
mod ends;
mod keys;
mod others;
mod pins;
mod principals;
mod reads;
mod servers;
mod trust;

use std::future::Future;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use sessions::{UserId, WorkspaceId};
use transports::testing::FakeServer;

use super::calls::{CallAnswer, CallDone, CallTool};
use super::{Broker, BrokerOptions};
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, ExecutedWire};
use crate::principal::{Principal, Role, Scopes};
use crate::store::Store;

/// Longest a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker over a store in a directory of its own, with one fake server named `fake`.
struct Bench {
    broker: Broker,
    fake: FakeServer,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with(r#"{"transport":"stdio","command":["fake"]}"#, |_| {}).await
    }

    async fn with(definition: &str, change: impl FnOnce(&mut BrokerOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeServer::legacy();
        let broker = start(&dir, change).await;
        add(&broker, "fake", definition, &fake);
        Self { broker, fake, dir }
    }

    /// Stops the broker and starts another over the same store, without waiting for calls.
    async fn restart(self) -> Self {
        self.restart_as(r#"{"transport":"stdio","command":["fake"]}"#)
            .await
    }

    async fn restart_as(self, definition: &str) -> Self {
        self.broker.shutdown(Duration::ZERO).await;
        let broker = start(&self.dir, |_| {}).await;
        add(&broker, "fake", definition, &self.fake);
        Self { broker, ..self }
    }

    fn url(&self) -> String {
        url(&self.dir)
    }

    async fn call(&self, request: CallTool) -> Result<CallDone, BrokerError> {
        done(self.broker.call_tool(&admin(), request).await)
    }

    async fn stop(self) {
        self.broker.shutdown(Duration::ZERO).await;
    }
}

fn url(dir: &tempfile::TempDir) -> String {
    format!("sqlite://{}", dir.path().join("store.db").display())
}

async fn start(dir: &tempfile::TempDir, change: impl FnOnce(&mut BrokerOptions)) -> Broker {
    let mut options = BrokerOptions::new(Store::open(&url(dir)).await.unwrap());
    change(&mut options);
    Broker::start(options).await.unwrap()
}

fn add(broker: &Broker, name: &str, definition: &str, fake: &FakeServer) {
    let definition = serde_json::from_str(definition).unwrap();
    let registry = &broker.inner.registry;
    let workspace = WorkspaceId::new("default").unwrap();
    registry.put_in_process(&workspace, (definition, fake.spec(name).unwrap()));
}

fn asker(user: &str, role: Role) -> Asker {
    let workspace = WorkspaceId::new("default").unwrap();
    Asker::new(Principal {
        user: UserId::new(user).unwrap(),
        workspace: workspace.clone(),
        workspaces: vec![workspace],
        roles: vec![role],
        key_id: format!("key-of-{user}"),
        scopes: Scopes::default(),
        expires_at: None,
    })
}

fn admin() -> Asker {
    asker("ann", Role::Admin)
}

fn echo(message: &str) -> CallTool {
    tool("fake.echo", &json!({"message": message}))
}

fn write(message: &str) -> CallTool {
    tool("fake.write", &json!({"message": message}))
}

fn tool(reference: &str, arguments: &Value) -> CallTool {
    CallTool {
        reference: reference.to_owned(),
        arguments: Some(serde_json::value::to_raw_value(arguments).unwrap()),
        ..CallTool::default()
    }
}

fn keyed(request: CallTool, key: &str) -> CallTool {
    CallTool {
        idempotency_key: Some(key.to_owned()),
        ..request
    }
}

fn within(request: CallTool, timeout: Duration) -> CallTool {
    CallTool {
        timeout: Some(timeout),
        ..request
    }
}

fn done(answer: Result<CallAnswer, BrokerError>) -> Result<CallDone, BrokerError> {
    answer.map(|answer| match answer {
        CallAnswer::Done(done) => done,
        other => panic!("not done but {other:?}"),
    })
}

fn text(done: &CallDone) -> String {
    let content: Value = serde_json::from_str(done.result.content().unwrap()).unwrap();
    content[0]["text"].as_str().unwrap().to_owned()
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn ends(fault: &BrokerError) -> (ErrorCode, ExecutedWire) {
    (fault.code, fault.executed)
}

/// Waits until something is so; fails when it never is.
async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "never happened: {what}");
}
