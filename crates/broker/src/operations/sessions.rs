//! Sessions as callers see them: open, list, inspect, close, refresh; another user's do not exist.

use std::time::Duration;

use sessions::{Inspection, Lane};

use super::Broker;
use super::page::{Page, PageRequest};
use crate::asker::Asker;
use crate::error::BrokerError;

/// Which session is wanted.
#[derive(Debug, Clone, Default)]
pub struct OpenSession {
    /// The server.
    pub server: String,
    /// The run or conversation.
    pub lane: Lane,
    /// Keep it this long even when idle.
    pub ttl: Option<Duration>,
}

/// A session as its owner sees it.
#[derive(Debug, Clone)]
pub struct SessionView {
    /// Everything `sessions` knows; `stderr` and `last_error` are redacted.
    pub inspection: Inspection,
    /// Who shares it and why, in a sentence.
    pub sharing: String,
    /// The catalogue of its server, short.
    pub catalog_hash: Option<String>,
}

impl Broker {
    /// Opens a session now; calls open theirs by themselves.
    ///
    /// # Errors
    /// `server_not_found` and the codes of upstream faults.
    pub async fn open_session(
        &self,
        asker: &Asker,
        request: OpenSession,
    ) -> Result<SessionView, BrokerError> {
        let _ = (asker, request);
        todo!("filled next")
    }

    /// The asker's own and the workspace's shared sessions; all of the workspace for `admin`.
    ///
    /// # Errors
    /// `invalid_request`.
    pub async fn list_sessions(
        &self,
        asker: &Asker,
        page: PageRequest,
    ) -> Result<Page<SessionView>, BrokerError> {
        let _ = (asker, page);
        todo!("filled next")
    }

    /// One session (`ses_…`).
    ///
    /// # Errors
    /// `session_not_found`.
    pub async fn inspect_session(
        &self,
        asker: &Asker,
        session_id: &str,
    ) -> Result<SessionView, BrokerError> {
        let _ = (asker, session_id);
        todo!("filled next")
    }

    /// Closes a session; returns when its process or socket is gone.
    ///
    /// # Errors
    /// `session_not_found`; `forbidden` for a shared one without `operator` or `admin`.
    pub async fn close_session(&self, asker: &Asker, session_id: &str) -> Result<(), BrokerError> {
        let _ = (asker, session_id);
        todo!("filled next")
    }

    /// Drops the connection, opens a new one, and lists the catalogue again.
    ///
    /// # Errors
    /// As [`Broker::close_session`], and the codes of upstream faults.
    pub async fn refresh_session(
        &self,
        asker: &Asker,
        session_id: &str,
    ) -> Result<SessionView, BrokerError> {
        let _ = (asker, session_id);
        todo!("filled next")
    }
}
