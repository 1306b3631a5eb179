//! The pins of a server: what was approved, what differs from it, and approving it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Entry, Kind, Ref};
use tokio::time::Instant;

use super::page::{Page, PageRequest};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::catalogue::{Wanted, catalogue_caller};
use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};
use crate::events::{EventKind, NewEvent};
use crate::instant::rfc3339;
use crate::pins::{Pin, place};
use crate::policy;
use crate::registry::{Server, Source};

/// Longest wait for a server that was never listed.
const LISTING_WAIT: Duration = Duration::from_secs(10);
/// Digits of a hash that name it, at least.
const SHORTEST_HASH: usize = 12;

/// By name: what is offered now, and what was pinned.
type Tools = BTreeMap<Arc<str>, (Option<Arc<Entry>>, Option<Pin>)>;

/// One tool and its pin.
#[derive(Debug, Clone)]
pub struct PinView {
    /// `server.tool`.
    pub reference: String,
    /// `pinned`, `changed`, `unapproved`, `new`, `unwatched`; `gone`: pinned, and no longer offered.
    pub state: &'static str,
    /// Hash of the present definition, short; `None`: no longer offered.
    pub hash: Option<String>,
    /// Hash of the pinned one, short.
    pub pinned_hash: Option<String>,
    /// RFC 3339.
    pub pinned_at: Option<String>,
    /// Who approved it; `None` with a pin: it was seen first.
    pub approved_by: Option<String>,
    /// With `changed`: what differs, by place.
    pub differences: Vec<PointerDetail>,
}

impl Broker {
    /// The pins of a server, by ref.
    ///
    /// # Errors
    /// `server_not_found`, `invalid_request`, `store_unavailable`.
    pub async fn list_pins(
        &self,
        asker: &Asker,
        name: &str,
        page: PageRequest,
    ) -> Result<Page<PinView>, BrokerError> {
        let inner = &self.inner;
        let server = inner.server_or_fault(asker, name)?;
        let user = &asker.principal.user;
        let place = place(&server, user);
        let slot = inner.catalogues.slot_for(&server, user);
        let mut tools: Tools = inner
            .pins
            .of(&place)
            .into_iter()
            .map(|(tool, pin)| (tool, (None, Some(pin))))
            .collect();
        let held = slot.snapshot();
        let offered = held.iter().flat_map(|held| &held.entries);
        for entry in offered.filter(|entry| entry.kind == Kind::Tool) {
            let tool = tools.entry(Arc::clone(&entry.reference.name)).or_default();
            tool.0 = Some(Arc::clone(entry));
        }
        let tools: Vec<_> = tools.into_iter().collect();
        let page = page.cut(tools, |(tool, _)| tool.to_string())?;
        let mut items = Vec::with_capacity(page.items.len());
        for (tool, (entry, pin)) in page.items {
            let mut view = PinView {
                reference: format!("{}.{tool}", server.name),
                state: "gone",
                hash: entry.as_ref().map(|entry| entry.hash.short()),
                pinned_hash: pin.as_ref().map(|pin| pin.hash.short()),
                pinned_at: pin.as_ref().map(|pin| rfc3339(pin.pinned_at)),
                approved_by: pin.and_then(|pin| pin.approved_by),
                differences: Vec::new(),
            };
            if let Some(entry) = entry {
                view.state = inner.pins.standing(&server, user, &entry).name();
                if view.state == "changed" {
                    view.differences = inner.pins.differences(&place, &entry).await?;
                }
            }
            items.push(view);
        }
        Ok(Page {
            items,
            next_cursor: page.next_cursor,
        })
    }

    /// Approves the present definition of a tool; `hash` (12 digits or more) says which one was read.
    ///
    /// # Errors
    /// `forbidden`, `server_not_found`, `tool_not_found`, `schema_changed`, `store_unavailable`.
    #[expect(
        clippy::too_many_arguments,
        reason = "who approves which definition of which tool of which server"
    )]
    pub async fn approve_pin(
        &self,
        asker: &Asker,
        name: &str,
        reference: &str,
        hash: &str,
    ) -> Result<PinView, BrokerError> {
        let inner = &self.inner;
        let server = inner.server_or_fault(asker, name)?;
        // A server of the user's own agent is nobody else's to approve.
        if server.source != Source::Agent {
            policy::require_admin(&asker.principal)?;
        }
        let entry = inner.present(asker, &server, reference).await?;
        let known = hash.to_ascii_lowercase();
        if known.len() < SHORTEST_HASH || !entry.hash.hex().starts_with(&known) {
            let detail = format!("{} is now {}", entry.reference, entry.hash.short());
            let mut fault = Fault::new(ErrorCode::SchemaChanged, detail);
            fault.hint = Some("read the definition again before approving it".to_owned());
            return Err(fault);
        }
        let who = &asker.principal;
        let place = place(&server, &who.user);
        inner.pins.approve(&place, &entry, &who.user).await?;
        let target = format!("{}@{}", entry.reference, entry.hash.short());
        inner.note_action(asker, "pin_approved", &target).await;
        inner.tell_approved(asker, &entry);
        inner.catalogues.reconsidered(&server);
        let pin = inner.pins.pin(&place, &entry.reference.name);
        Ok(PinView {
            reference: entry.reference.to_string(),
            state: inner.pins.standing(&server, &who.user, &entry).name(),
            hash: Some(entry.hash.short()),
            pinned_hash: pin.as_ref().map(|pin| pin.hash.short()),
            pinned_at: pin.as_ref().map(|pin| rfc3339(pin.pinned_at)),
            approved_by: pin.and_then(|pin| pin.approved_by),
            differences: Vec::new(),
        })
    }
}

impl Inner {
    /// A tool as its server defines it now.
    async fn present(
        &self,
        asker: &Asker,
        server: &Arc<Server>,
        reference: &str,
    ) -> Result<Arc<Entry>, BrokerError> {
        let parsed = Ref::parse(reference).filter(|one| one.server == server.name);
        if let Some(parsed) = parsed {
            let caller = catalogue_caller(server, &asker.principal.user);
            let wanted = Wanted {
                caller: &caller,
                kind: Kind::Tool,
                reference: &parsed,
                deadline: Instant::now() + LISTING_WAIT,
            };
            if let Some(entry) = self.catalogues.entry(server, wanted).await? {
                return Ok(entry);
            }
        }
        Err(self.no_such_tool(asker, reference).await)
    }

    /// Whoever keeps a catalogue looks at the tool again.
    fn tell_approved(&self, asker: &Asker, entry: &Entry) {
        let none: [&str; 0] = [];
        let data = serde_json::json!({
            "server": entry.reference.server,
            "added": none,
            "removed": none,
            "changed": [entry.reference.to_string()],
        });
        if let Ok(data) = serde_json::value::to_raw_value(&data) {
            self.events.publish(NewEvent {
                kind: EventKind::CatalogChanged,
                workspace: asker.principal.workspace.clone(),
                user: None,
                trace_id: Some(asker.trace.id()),
                session_id: None,
                call_id: None,
                agent_id: None,
                data,
            });
        }
    }
}
