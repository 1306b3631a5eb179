//! A server's task that the bridge waits for, of either kind: cancelled when nobody would wait for it any more.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sessions::Caller;
use tokio::time::Instant;
use transports::{Params, Request};

use super::questions::capabilities;
use super::run::Job;
use crate::operations::Inner;
use crate::registry::Server;

/// How long a server may take to be told that nobody waits for a task any more.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// A task that runs at its server; dropped before it [`ended`](Self::ended), it is cancelled there.
pub(super) struct Unfinished {
    inner: Arc<Inner>,
    caller: Caller,
    server: Arc<Server>,
    /// A modern server hears of tasks from those alone who say that they know them.
    capabilities: Option<Arc<RawValue>>,
    /// `None` once it ended.
    id: Option<String>,
}

impl Unfinished {
    /// The task of this job.
    pub(super) fn of(inner: &Arc<Inner>, job: &Job, id: String) -> Self {
        Self {
            inner: Arc::clone(inner),
            caller: job.caller.clone(),
            server: Arc::clone(&job.server),
            capabilities: capabilities(job.client.as_deref(), job.attended),
            id: Some(id),
        }
    }

    /// There is nothing left to cancel.
    pub(super) fn ended(&mut self) {
        self.id = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        // Without a runtime the session goes as well.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (inner, server) = (Arc::clone(&self.inner), Arc::clone(&self.server));
        let (caller, capabilities) = (self.caller.clone(), self.capabilities.take());
        self.inner.tasks.spawn_on(
            async move {
                let Ok(target) = server.target() else { return };
                let deadline = Instant::now() + CANCEL_TIMEOUT;
                if let Ok(lease) = inner.sessions.acquire(&caller, target, deadline).await {
                    let request = Request {
                        params: Params::default().with_text("taskId", &id),
                        client_capabilities: capabilities,
                        ..Request::new("tasks/cancel", CANCEL_TIMEOUT)
                    };
                    // A task that ended meanwhile, or that cannot be cancelled, runs into its own end.
                    let _ = lease.request(request).await;
                }
            },
            &runtime,
        );
    }
}
