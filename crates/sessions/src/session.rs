//! A session as its caller sees it: the lease he holds while using it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;
use transports::{Connection, LogLevel, PeerInfo, Request, RequestError, RequestId};

use crate::entry::{Entry, Link};
use crate::key::{SessionId, SessionKey};
use crate::questions::{Answer, Question};
use crate::registry::Inner;

/// One session, over the connection it had when the lease was taken.
#[derive(Debug)]
pub struct Session {
    pub(crate) entry: Arc<Entry>,
    pub(crate) link: Arc<Link>,
}

impl Session {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.entry.id
    }

    /// Whom it belongs to.
    #[must_use]
    pub fn key(&self) -> &SessionKey {
        &self.entry.key
    }

    /// What the current connection's handshake told.
    #[must_use]
    pub fn peer(&self) -> &PeerInfo {
        self.link.connection.info()
    }

    /// Rises with each connection.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.link.generation
    }

    /// Sends a request; dropping the future cancels it upstream.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(&self, request: Request) -> Result<Box<RawValue>, RequestError> {
        self.link.connection.request(request).await
    }

    /// Answers what the server asked on a request's own stream ([`Request::asks`]).
    pub async fn answer_on_stream(&self, id: RequestId, answer: Answer) {
        self.connection().answer(id, answer).await;
    }

    fn connection(&self) -> &Connection {
        &self.link.connection
    }

    /// As [`Connection::subscribe_resource`].
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn subscribe_resource(
        &self,
        uri: &str,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        self.connection().subscribe_resource(uri, timeout).await
    }

    /// As [`Connection::unsubscribe_resource`].
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn unsubscribe_resource(
        &self,
        uri: &str,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        self.connection().unsubscribe_resource(uri, timeout).await
    }

    /// As [`Connection::set_log_level`].
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn set_log_level(
        &self,
        level: LogLevel,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        self.connection().set_log_level(level, timeout).await
    }
}

/// A session in use: while one is held the session is not idle and not evicted.
/// For isolation `call` the session closes when this is dropped.
#[derive(Debug)]
pub struct SessionLease {
    session: Session,
    registry: Arc<Inner>,
    /// Rises with each lease.
    number: u64,
}

impl SessionLease {
    /// The entry's in-flight count was raised under the registry's lock already.
    pub(crate) fn new(session: Session, registry: Arc<Inner>) -> Self {
        let number = registry.leases.fetch_add(1, Ordering::Relaxed);
        Self {
            session,
            registry,
            number,
        }
    }

    /// From now on hears what the server asks in the middle of things, until the connection or this lease ends.
    /// A later call replaces an earlier one.
    ///
    /// Of several listening leases the one taken last hears a question. On a session that users share, a question
    /// may be about anybody's call: it is handed over only while this lease is alone in the session. What nobody
    /// hears, or what comes faster than it is heard, is declined at once; pings are answered without asking.
    #[must_use]
    pub fn listen_requests(&self) -> mpsc::Receiver<Question> {
        self.session.link.questions.listen(self.number)
    }

    /// Answers a question heard by this lease, without waiting for it to be sent. False when there is no such
    /// question: it was answered or withdrawn, or the connection is gone.
    ///
    /// Dropping the lease answers what is left: an elicitation is cancelled, all else is an error.
    #[must_use = "false tells that nobody waits for the answer any more"]
    pub fn answer(&self, id: &RequestId, answer: Answer) -> bool {
        self.session.link.questions.answer(self.number, id, answer)
    }
}

impl std::ops::Deref for SessionLease {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        // First the answers: the session may close once the lease is given back.
        self.session.link.questions.leave(self.number);
        self.registry.release(&self.session.entry);
    }
}
