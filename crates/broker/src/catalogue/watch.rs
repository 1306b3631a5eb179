//! Listens to sessions: lists again when a server says so or came back, and tells session states as events.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sessions::{Caller, Lane, SessionId, SessionKey, SessionNotice, StateName, UserId};
use tokio::sync::broadcast::error::RecvError;
use transports::Notification;

use super::refresh::{Because, Errand};
use super::{Catalogues, SlotKey};
use crate::definition::Redactions;
use crate::events::{EventKind, NewEvent};
use crate::registry::Server;
use crate::vault::Holder;

/// Who lists for a session that belongs to the whole workspace.
const SHARED_LISTER: &str = "catalogue";
/// Longest log notification told, in bytes; the rest is for the server's own log.
const MAX_LOG_BYTES: usize = 16 * 1024;

pub(super) fn start(catalogues: &Catalogues) {
    let (watching, mut notices) = (catalogues.clone(), catalogues.shared.sessions.notices());
    let stop = catalogues.shared.stop.clone();
    catalogues.shared.tasks.spawn(async move {
        loop {
            let notice = tokio::select! {
                notice = notices.recv() => notice,
                () = stop.cancelled() => return,
            };
            match notice {
                Ok(notice) => watching.notice(notice),
                // Some notices are lost: any catalogue may have changed.
                Err(RecvError::Lagged(_)) => watching.all_due(),
                Err(RecvError::Closed) => return,
            }
        }
    });
}

impl Catalogues {
    fn notice(&self, notice: SessionNotice) {
        match notice {
            SessionNotice::State {
                id,
                key,
                state,
                reason,
            } => {
                if state == StateName::Reconnecting {
                    self.mark_due(&key);
                }
                if state == StateName::Ready {
                    self.refresh_due(&key);
                }
                metrics::gauge!("paperbot_sessions").set(count(self.shared.sessions.count()));
                self.tell_state(Teller { id, key: &key }, state, reason.as_deref());
            }
            SessionNotice::Upstream {
                id,
                key,
                notification,
            } => match notification.method.as_str() {
                "notifications/tools/list_changed"
                | "notifications/resources/list_changed"
                | "notifications/prompts/list_changed" => self.changed(&key),
                "notifications/message" => self.tell_log(Teller { id, key: &key }, &notification),
                _ => {}
            },
        }
    }

    fn slots_of(&self, key: &SessionKey) -> Vec<Arc<super::Slot>> {
        let slot = |user: Option<UserId>| {
            let key = SlotKey {
                workspace: key.workspace.clone(),
                server: key.server.clone(),
                user,
                agent: None,
            };
            self.shared.slots.get(&key)
        };
        let mut slots: Vec<_> = slot(None).into_iter().collect();
        if key.user.is_some() {
            slots.extend(slot(key.user.clone()));
        }
        slots
    }

    fn changed(&self, key: &SessionKey) {
        if key.call.is_some() {
            // A session of one call is gone before anybody could list on it; the one opened for listing would say
            // the same again, without end.
            return;
        }
        // An agent tells of its own servers by itself (`of_agents`).
        let Some(server) = self.shared.registry.get(&key.workspace, &key.server) else {
            return;
        };
        let Some(caller) = lister(key) else { return };
        for slot in self.slots_of(key) {
            slot.mark_due();
            let errand = Errand {
                server: Arc::clone(&server),
                caller: caller.clone(),
                because: Because::ListChanged,
            };
            self.refresh(&slot, errand);
        }
    }

    fn mark_due(&self, key: &SessionKey) {
        for slot in self.slots_of(key) {
            slot.mark_due();
        }
    }

    /// A connection is there again: what was marked is listed again.
    fn refresh_due(&self, key: &SessionKey) {
        let waiting = self.slots_of(key).into_iter().any(|slot| slot.is_marked());
        if waiting {
            self.changed(key);
        }
    }

    fn all_due(&self) {
        metrics::counter!("paperbot_events_dropped_total", "kind" => "session_notice").increment(1);
        for (_, slot) in &self.shared.slots {
            slot.mark_due();
        }
    }

    fn tell_state(&self, of: Teller<'_>, state: StateName, reason: Option<&str>) {
        #[derive(Serialize)]
        struct Change<'a> {
            server: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            lane: Option<&'a str>,
            state: StateName,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<String>,
        }
        let key = of.key;
        let server = self.shared.registry.of_session(key);
        let clean = |text: &str| match &server {
            Some(server) => self.known_of(server, key).clean(text),
            None => String::new(),
        };
        let reason = reason.map(clean);
        if let Some(reason) = &reason {
            tracing::info!(session.server = %key.server, session.state = ?state, reason, "session.changed");
        }
        let data = to_raw_value(&Change {
            server: key.server.as_str(),
            lane: key.lane.as_ref().map(Lane::as_str),
            state,
            reason,
        });
        let kind = match state {
            StateName::Opening => EventKind::SessionOpened,
            StateName::Ready => EventKind::SessionReady,
            StateName::Degraded => EventKind::SessionDegraded,
            StateName::Reconnecting => EventKind::SessionReconnecting,
            // Told when nothing of it is left.
            StateName::Closing => return,
            StateName::Closed => EventKind::SessionClosed,
        };
        if let Ok(data) = data {
            self.tell_session(of, kind, data);
        }
    }

    /// A log message that belongs to no single call.
    fn tell_log(&self, of: Teller<'_>, notification: &Notification) {
        let key = of.key;
        let Some(server) = self.shared.registry.of_session(key) else {
            return;
        };
        let text = notification.params.as_deref().map_or("", RawValue::get);
        let clean = self.known_of(&server, key).clean(text);
        let mut end = clean.len().min(MAX_LOG_BYTES);
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        let data = to_raw_value(&Log {
            channel: "stderr",
            data: &clean[..end],
            dropped_bytes: clean.len() - end,
            dropped_lines: 0,
        });
        if let Ok(data) = data {
            self.tell_session(of, EventKind::ToolLog, data);
        }
    }

    /// What must not be told of what a session of a server says.
    fn known_of(&self, server: &Server, key: &SessionKey) -> Redactions {
        let holder = Holder {
            workspace: key.workspace.clone(),
            server: key.server.clone(),
            user: key.user.clone(),
        };
        self.shared.vault.redactions(server, &holder)
    }

    fn tell_session(&self, of: Teller<'_>, kind: EventKind, data: Box<RawValue>) {
        self.shared.events.publish(NewEvent {
            kind,
            workspace: of.key.workspace.clone(),
            user: of.key.user.clone(),
            trace_id: None,
            session_id: Some(of.id.to_string()),
            call_id: None,
            agent_id: None,
            data,
        });
    }
}

#[derive(Serialize)]
struct Log<'a> {
    channel: &'a str,
    data: &'a str,
    dropped_bytes: usize,
    dropped_lines: u64,
}

/// The session an event is about.
#[derive(Clone, Copy)]
struct Teller<'a> {
    id: SessionId,
    key: &'a SessionKey,
}

/// A count as a gauge takes it; exact far beyond the cap on sessions.
fn count(sessions: usize) -> f64 {
    f64::from(u32::try_from(sessions).unwrap_or(u32::MAX))
}

fn lister(key: &SessionKey) -> Option<Caller> {
    let user = match &key.user {
        Some(user) => user.clone(),
        None => UserId::new(SHARED_LISTER).ok()?,
    };
    Some(Caller {
        user,
        workspace: key.workspace.clone(),
        lane: key.lane.clone().unwrap_or_default(),
    })
}
