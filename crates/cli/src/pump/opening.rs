//! Opening, opening again and ending a legacy session, with the host's own lines.

use std::time::Duration;

use http::Method;
use serde::Deserialize;

use super::exchange::{Reply, with_session};
use super::message::Message;
use super::session::View;
use super::{PARTING_WAIT, Pump};
use crate::failure::Failure;

/// `initialize` holds up everything after it, so it must end.
const INITIALIZE_WAIT: Duration = Duration::from_mins(1);

#[derive(Debug, Deserialize)]
struct Initialized {
    result: Option<Agreed>,
}

#[derive(Debug, Deserialize)]
struct Agreed {
    #[serde(rename = "protocolVersion")]
    version: Option<String>,
}

impl Pump {
    /// Opens a session for the host; what it had before is over.
    pub(super) async fn initialize(&self, message: &Message) {
        let before = self.session.forget();
        let _ = tokio::time::timeout(PARTING_WAIT, self.part(&before)).await;
        match self.open(message).await {
            Ok(line) => self.pass(line).await,
            Err(failure) => self.fail(message, &failure).await,
        }
    }

    /// Sends `initialize` and keeps what the bridge gives for it.
    async fn open(&self, initialize: &Message) -> Result<String, Failure> {
        let view = View::default();
        let asked = self.endpoint.exchange(initialize, &view, Vec::new());
        let Ok(reply) = tokio::time::timeout(INITIALIZE_WAIT, asked).await else {
            return Err(Failure::bridge_timeout(INITIALIZE_WAIT.as_millis()));
        };
        let Reply::Answer { line, session } = reply? else {
            return Err(Failure::protocol("the bridge opens no session"));
        };
        let told: Option<Initialized> = serde_json::from_str(&line).ok();
        if let Some(agreed) = told.and_then(|told| told.result) {
            let line = initialize.line.clone();
            self.session.opened(line, session, agreed.version);
        }
        Ok(line)
    }

    /// The host is ready: the bridge hears of it before anything else.
    pub(super) async fn initialized(&self, message: &Message) {
        self.session.ready(message.line.clone());
        self.notify(message).await;
    }

    /// A session newer than `gone`, opened with the host's own lines if nobody else did meanwhile.
    pub(super) async fn renewed(&self, gone: &View) -> Result<View, Failure> {
        let _alone = self.session.renewing.lock().await;
        let now = self.session.view();
        if now.generation != gone.generation {
            return Ok(now);
        }
        let opening = self.session.opening();
        let reopen = |line: &bytes::Bytes| Message::read(line.to_vec()).ok();
        let Some(initialize) = opening.initialize.as_ref().and_then(reopen) else {
            return Err(Failure::protocol(
                "the session is gone and was never opened",
            ));
        };
        self.output.note("the session was gone; opening it again");
        let answer = self.open(&initialize).await?;
        let now = self.session.view();
        if now.generation == gone.generation {
            let why = format!("the bridge does not open the session again: {answer}");
            return Err(Failure::protocol(why));
        }
        if now.version != gone.version {
            self.output
                .note("the bridge now speaks another revision than it agreed on with the host");
        }
        if let Some(initialized) = opening.initialized.as_ref().and_then(reopen) {
            self.notify(&initialized).await;
        }
        Ok(now)
    }

    /// Ends a legacy session; one that has no id has no end either.
    pub(super) async fn part(&self, view: &View) {
        if view.id.is_some() {
            let ask = self.endpoint.place.clone().method(Method::DELETE);
            let _ = self.endpoint.bridge.send(with_session(ask, view)).await;
        }
    }
}
