//! What the users of a connection ask to be told, in the words of the era it speaks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::connection::Connection;
use crate::error::{Executed, RequestError};
use crate::listen::{Listener, Lists};
use crate::spec::Era;
use crate::wire::{LogLevel, Request};
use crate::wishes::{log_level_request, watch_request};

impl Connection {
    /// Asks to be told when a resource is updated: `notifications/resources/updated` comes as
    /// [`crate::Inbound::Notification`]. Asked twice it is the same; whoever shares a connection counts for itself.
    /// Said again by itself when a legacy session was lost or a modern stream broke.
    ///
    /// # Errors
    /// As [`Connection::request`]; -32602 when a modern server does not tell of this resource, and
    /// [`RequestError::Overloaded`] when a thousand are watched already.
    pub async fn subscribe_resource(
        &self,
        uri: &str,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        let wishes = &self.carrier.wishes;
        // Before it is said, so that a session lost on the way is told too.
        let (version, is_new) = wishes.watch(uri)?;
        let told = if self.info().era == Era::Legacy {
            self.say(watch_request(true, uri), timeout).await
        } else {
            self.until_heard(uri, version, timeout).await
        };
        // Another user's wish outlives this one's failure.
        if told.is_err() && is_new {
            wishes.unwatch(uri);
        }
        told
    }

    /// Takes [`Connection::subscribe_resource`] back.
    ///
    /// # Errors
    /// As [`Connection::request`]; a modern server is not asked, its stream is replaced soon.
    pub async fn unsubscribe_resource(
        &self,
        uri: &str,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        self.carrier.wishes.unwatch(uri);
        match self.info().era {
            Era::Legacy => self.say(watch_request(false, uri), timeout).await,
            Era::Modern => Ok(()),
        }
    }

    /// The least level the server may log at. A legacy server is told at once, and again when its session
    /// was lost; a modern one with each request that names no level of its own.
    ///
    /// # Errors
    /// As [`Connection::request`], on legacy; the level stays as it was then.
    pub async fn set_log_level(
        &self,
        level: LogLevel,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        if self.info().era == Era::Legacy {
            self.say(log_level_request(level), timeout).await?;
        }
        self.carrier.wishes.set_log_level(level);
        Ok(())
    }

    /// Sends a request whose result says nothing.
    async fn say(&self, request: Request, timeout: Duration) -> Result<(), RequestError> {
        let request = Request { timeout, ..request };
        self.request(request).await.map(drop)
    }

    /// Waits until a modern server said whether it tells of a resource.
    async fn until_heard(
        &self,
        uri: &str,
        version: u64,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        let mut heard = {
            let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
            let listener = listener.get_or_insert_with(|| {
                Box::new(Listener::start(Arc::clone(&self.carrier), Lists::default()))
            });
            listener.heard.clone()
        };
        let answer = heard.wait_for(|heard| heard.version >= version);
        match tokio::time::timeout(timeout, answer).await {
            Err(_elapsed) => Err(RequestError::Timeout { after: timeout }),
            // The listener ends with the connection.
            Ok(Err(_)) => Err(RequestError::Closed {
                executed: Executed::Unknown,
            }),
            Ok(Ok(heard)) => match &heard.refusal {
                Some(refusal) => Err(refusal.clone().into_error()),
                None if heard.resources.contains(uri) => Ok(()),
                None => Err(RequestError::Rpc {
                    code: -32602,
                    message: "the server does not tell of this resource".to_owned(),
                    data: None,
                }),
            },
        }
    }
}
