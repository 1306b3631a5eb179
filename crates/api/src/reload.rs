//! Reading the configuration again: on SIGHUP, when the file changes, when an admin asks. A bad file changes
//! nothing and is told in the log, as an event and in `/readyz`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::{BrokerError, ErrorCode, Fault, PointerDetail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::{App, ReloadAnswer};
use crate::config::{File, Source};
use crate::daemon::{self, StartError};
use crate::wire::Reloaded;

/// How often the file is looked at. Polling works on every file system and costs one `stat`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// The one task that reloads.
#[derive(Debug)]
pub(crate) struct Reloader {
    app: Arc<App>,
    source: Source,
    /// As the process was started: a reload changes a part of it only.
    started: File,
    address: SocketAddr,
    seen: Option<Stamp>,
}

/// What a change of the file changes.
type Stamp = (SystemTime, u64);

impl Reloader {
    /// A reloader of what was loaded at the start.
    pub(crate) fn new(app: Arc<App>, source: Source, started: (File, SocketAddr)) -> Self {
        let seen = source.path.as_deref().and_then(stamp);
        Self {
            app,
            source,
            started: started.0,
            address: started.1,
            seen,
        }
    }

    /// Reloads until shutdown.
    pub(crate) async fn run(mut self, mut wishes: mpsc::Receiver<ReloadAnswer>) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let closing = self.app.closing.clone();
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                () = received(&mut hangup) => {
                    let _ = self.reload().await;
                }
                () = tokio::time::sleep(WATCH_INTERVAL) => {
                    if self.file_changed() {
                        let _ = self.reload().await;
                    }
                }
                wish = wishes.recv() => {
                    let Some(answer) = wish else { return };
                    let outcome = self.reload().await;
                    // Whoever asked may be gone; the reload stands all the same.
                    let _ = answer.send(outcome);
                }
            }
        }
    }

    fn file_changed(&self) -> bool {
        let now = self.source.path.as_deref().and_then(stamp);
        now.is_some() && now != self.seen
    }

    async fn reload(&mut self) -> Result<Reloaded, BrokerError> {
        self.seen = self.source.path.as_deref().and_then(stamp);
        match self.apply().await {
            Ok(changed) => {
                self.app.reload_fault.store(None);
                tracing::info!(
                    servers.added = changed.added.len(), servers.changed = changed.changed.len(),
                    servers.removed = changed.removed.len(), needs_restart = ?changed.needs_restart,
                    "the configuration was read again"
                );
                Ok(changed)
            }
            Err(error) => {
                let detail = error.to_string();
                tracing::error!(error = %detail, "the configuration cannot be used; nothing changed");
                self.app.broker.publish_config_failure(&detail);
                self.app.reload_fault.store(Some(Arc::new(detail)));
                Err(fault(error))
            }
        }
    }

    async fn apply(&mut self) -> Result<Reloaded, StartError> {
        let file = self.source.load()?;
        let servers = daemon::servers(&file, self.source.path.is_some())?;
        let policy = file.policy()?;
        let applied = self
            .app
            .broker
            .apply_file(servers)
            .await
            .map_err(daemon::complaint)?;
        self.app.broker.apply_policy(policy).await;
        self.app
            .live
            .store(Arc::new(daemon::live(&file, self.address)));
        let needs_restart = self.started.needs_restart(&file);
        Ok(Reloaded {
            added: applied.added,
            changed: applied.changed,
            removed: applied.removed,
            needs_restart,
        })
    }
}

fn fault(error: StartError) -> BrokerError {
    match error {
        StartError::Broker(fault) => fault,
        StartError::Config(error) => {
            let mut fault = Fault::new(ErrorCode::InvalidArguments, error.to_string());
            fault.errors.push(PointerDetail {
                pointer: error.place,
                detail: error.detail,
            });
            fault
        }
        other => Fault::new(ErrorCode::Internal, other.to_string()),
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

async fn received(hangup: &mut Option<Signal>) {
    match hangup {
        Some(signal) => {
            if signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
