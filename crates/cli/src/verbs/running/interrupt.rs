//! Ctrl-C in the middle of a call: it reaches the server, and what the call ended as is told.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;

use super::Running;
use crate::ask::Ask;
use crate::bridge::segment;
use crate::failure::{Executed, Failure};
use crate::verbs::outcome::is_terminal;
use crate::verbs::text;

/// How long Ctrl-C waits for the call's end upstream.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// Pause between looks for a call that is just being recorded.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Running<'_> {
    /// Dropping `work` closes its connection, which cancels a call without a key; the rest is asked for.
    pub(crate) async fn unless_interrupted(
        &self,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        tokio::select! {
            outcome = work => return outcome,
            () = interrupted() => {}
        }
        self.desk
            .output
            .note("cancelling; Ctrl-C again leaves at once");
        tokio::select! {
            failure = self.withdraw() => Err(failure),
            () = interrupted() => Err(Failure::cancelled("left before the call's end was known", Executed::Unknown)),
            () = tokio::time::sleep(CANCEL_WAIT) => {
                Err(Failure::cancelled("cancelled; the call's end is not known yet", Executed::Unknown))
            }
        }
        .map_err(|failure| failure.traced(Some(self.desk.bridge.trace_id().to_owned())))
    }

    /// Cancels the call and waits for its end; what it ended as is told in the failure.
    async fn withdraw(&self) -> Failure {
        let id = match self.known_id() {
            Some(id) => id,
            None => self.find_id().await,
        };
        let path = format!("/v1/calls/{}", segment(&id));
        // Refused when it ended meanwhile; the state asked for next tells.
        let _ = self
            .desk
            .bridge
            .ask(Ask::post(format!("{path}/cancel"), b"{}".to_vec()))
            .await;
        loop {
            let ask = Ask::get(path.clone()).query("wait_ms", Some("1000"));
            match self
                .desk
                .bridge
                .ask(ask)
                .await
                .and_then(|answer| answer.value())
            {
                Ok(view) if is_terminal(text(&view, "state")) => return ended_as(&view),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The call of this process by its key or trace; it is recorded before it is sent, so it turns up.
    async fn find_id(&self) -> String {
        loop {
            let ask = Ask::get("/v1/calls")
                .query("ref", Some(self.reference))
                .query("idempotency_key", self.key)
                .query("limit", Some("20"));
            let page = self
                .desk
                .bridge
                .ask(ask)
                .await
                .and_then(|answer| answer.value());
            let ours = |call: &&Value| text(call, "trace_id") == self.desk.bridge.trace_id();
            let page = page.unwrap_or_default();
            let calls = page.get("items").and_then(Value::as_array);
            if let Some(call) = calls.into_iter().flatten().find(ours) {
                return text(call, "call_id").to_owned();
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

fn ended_as(view: &Value) -> Failure {
    let state = text(view, "state");
    let told = ["error", "fault"]
        .iter()
        .find_map(|name| view.get(name)?.get("executed")?.as_str());
    let executed = match (told, state) {
        (Some(told), _) => Executed::parse(told),
        (None, "succeeded" | "failed") => Executed::Yes,
        _ => Executed::Unknown,
    };
    let mut failure = Failure::cancelled(format!("the call ended as {state}"), executed);
    let call_id = text(view, "call_id");
    failure.more.insert("call_id".to_owned(), call_id.into());
    failure
}

/// Ends at Ctrl-C; where signals cannot be had, never.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
