//! Which definition of each tool is good: the one seen first or the one an admin approved. What differs from it is
//! quarantined. Decides nothing else about who may call.

mod difference;
mod standing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use catalog::{Entry, Hash, Hints, Kind, Snapshot};
use chrono::{DateTime, Utc};
use foldhash::HashMap;
use sessions::UserId;
use transports::tunnel::AgentId;

use self::difference::differences;
pub(crate) use self::standing::Standing;
use crate::definition::PinRule;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::Server;
use crate::store::{PinPlace, PinRow, Store};

/// Pins of one server. A server that invents names without end pins no more of them: what is new is quarantined.
const MAX_PINS: usize = 50_000;

/// One pin, as it is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Pin {
    pub(crate) hash: Hash,
    pub(crate) hints: Hints,
    /// `None`: seen first.
    pub(crate) approved_by: Option<String>,
    pub(crate) pinned_at: DateTime<Utc>,
}

type Pinned = HashMap<Arc<str>, Pin>;

/// All pins, in memory and in the store.
#[derive(Debug)]
pub(crate) struct Pins {
    by: RwLock<HashMap<PinPlace, Pinned>>,
    /// Rises whenever an answer about quarantine may change.
    changes: AtomicU64,
    store: Store,
}

/// The pins of one server.
pub(crate) struct PinsOf<'a> {
    by: RwLockReadGuard<'a, HashMap<PinPlace, Pinned>>,
    place: PinPlace,
    rule: PinRule,
}

impl PinsOf<'_> {
    /// How a definition of it stands against its pin.
    pub(crate) fn standing(&self, entry: &Entry) -> Standing {
        if self.rule == PinRule::Off || entry.kind != Kind::Tool {
            return Standing::Unwatched;
        }
        let pinned = self.by.get(&self.place);
        let pin = pinned.and_then(|pinned| pinned.get(&entry.reference.name));
        Standing::of(pin.map(|pin| (pin.hash, pin.hints)), entry, self.rule)
    }
}

/// Whose pins a server's tools have.
pub(crate) fn place(server: &Server, user: &UserId) -> PinPlace {
    let agent = server.via.as_ref().map(|via| via.agent.id());
    PinPlace {
        workspace: server.workspace.clone(),
        server: server.name.clone(),
        scope: agent.map_or_else(String::new, |agent| scope_of(user, agent)),
    }
}

/// Ids hold no blank.
pub(crate) fn scope_of(user: &UserId, agent: &AgentId) -> String {
    format!("{user} {agent}")
}

impl Pins {
    /// With what the store holds.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn load(store: &Store) -> Result<Self, BrokerError> {
        let mut by = HashMap::<PinPlace, Pinned>::default();
        for row in store.load_pins().await? {
            let Some(hash) = Hash::from_hex(&row.hash) else {
                tracing::error!(server.name = %row.place.server, "a pin cannot be read; its tool counts as new");
                continue;
            };
            let pin = Pin {
                hash,
                hints: from_bits(row.hints),
                approved_by: row.approved_by,
                pinned_at: row.pinned_at,
            };
            let pinned = by.entry(row.place).or_default();
            pinned.insert(Arc::from(row.tool), pin);
        }
        Ok(Self {
            by: RwLock::new(by),
            changes: AtomicU64::new(0),
            store: store.clone(),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<PinPlace, Pinned>> {
        self.by.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<PinPlace, Pinned>> {
        self.by.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rises whenever an answer about quarantine may change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// One tool's pin.
    pub(crate) fn pin(&self, place: &PinPlace, tool: &str) -> Option<Pin> {
        self.read().get(place)?.get(tool).cloned()
    }

    /// How a definition stands against its pin.
    pub(crate) fn standing(&self, server: &Server, user: &UserId, entry: &Entry) -> Standing {
        self.of_server(server, user).standing(entry)
    }

    /// The pins of one server, for looking at many of its tools. No pin changes while it is held.
    pub(crate) fn of_server(&self, server: &Server, user: &UserId) -> PinsOf<'_> {
        PinsOf {
            by: self.read(),
            place: place(server, user),
            rule: server.definition.pins,
        }
    }

    /// The hints that hold for a call: where the definition changed, the more careful of both, after the owner's word.
    pub(crate) fn hints(&self, server: &Server, user: &UserId, entry: &Entry) -> Hints {
        let told = self.standing(server, user, entry).careful(entry.hints);
        server.definition.corrected(&entry.reference.name, told)
    }

    /// Pins every tool of a listing that has no pin yet.
    pub(crate) async fn see(&self, place: &PinPlace, snapshot: &Snapshot) {
        let tools = snapshot.entries.iter().filter(|one| one.kind == Kind::Tool);
        let fresh: Vec<&Arc<Entry>> = {
            let by = self.read();
            let pinned = by.get(place);
            let known = |one: &&Arc<Entry>| {
                pinned.is_some_and(|pinned| pinned.contains_key(&one.reference.name))
            };
            let room = MAX_PINS.saturating_sub(pinned.map_or(0, HashMap::len));
            tools.filter(|one| !known(one)).take(room).collect()
        };
        if fresh.is_empty() {
            return;
        }
        let rows: Vec<PinRow> = fresh.iter().map(|one| row(place, one, None)).collect();
        if let Err(error) = self.store.add_pins(&rows).await {
            // They stay new: a call of one tries again before it is sent.
            tracing::warn!(server.name = %place.server, error = %error, "tools seen first could not be pinned in the store");
            return;
        }
        self.remember(rows);
    }

    fn remember(&self, rows: Vec<PinRow>) {
        let mut by = self.write();
        for row in rows {
            let Some(hash) = Hash::from_hex(&row.hash) else {
                continue;
            };
            let pinned = by.entry(row.place).or_default();
            let pin = Pin {
                hash,
                hints: from_bits(row.hints),
                approved_by: row.approved_by,
                pinned_at: row.pinned_at,
            };
            if pin.approved_by.is_some() {
                pinned.insert(Arc::from(row.tool), pin);
            } else {
                pinned.entry(Arc::from(row.tool)).or_insert(pin);
            }
        }
        drop(by);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets a call of this definition pass, pinning what is seen first.
    ///
    /// # Errors
    /// `tool_quarantined` with what differs; `store_unavailable` when a tool that may act cannot be pinned.
    pub(crate) async fn check(
        &self,
        server: &Server,
        user: &UserId,
        entry: &Entry,
    ) -> Result<(), BrokerError> {
        match self.standing(server, user, entry) {
            Standing::Unwatched | Standing::Pinned => Ok(()),
            Standing::First => self.first(server, user, entry).await,
            Standing::Unapproved => Err(quarantined(entry, "waits for its first approval")),
            Standing::Changed { hints, hash } => {
                if self.hints(server, user, entry).read_only && hints.read_only {
                    metrics::counter!("paperbot_quarantined_reads_total").increment(1);
                    return Ok(());
                }
                let detail = format!(
                    "changed since {} was approved: it is now {}",
                    hash.short(),
                    entry.hash.short()
                );
                let mut fault = quarantined(entry, &detail);
                let old = self
                    .store
                    .pinned_definition(&place(server, user), &entry.reference.name)
                    .await?;
                fault.errors = differences(&old.unwrap_or_default(), entry.raw.get());
                Err(fault)
            }
        }
    }

    async fn first(
        &self,
        server: &Server,
        user: &UserId,
        entry: &Entry,
    ) -> Result<(), BrokerError> {
        let place = place(server, user);
        let full = self
            .read()
            .get(&place)
            .is_some_and(|pinned| pinned.len() >= MAX_PINS);
        if full {
            let detail = "is new, and its server has shown too many tools";
            return Err(quarantined(entry, detail));
        }
        let row = row(&place, entry, None);
        match self.store.add_pins(std::slice::from_ref(&row)).await {
            Ok(()) => self.remember(vec![row]),
            Err(_) if self.hints(server, user, entry).read_only => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Approves a definition in place of the pin before.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn approve(
        &self,
        place: &PinPlace,
        entry: &Entry,
        by: &UserId,
    ) -> Result<(), BrokerError> {
        let row = row(place, entry, Some(by));
        self.store.replace_pin(&row).await?;
        self.remember(vec![row]);
        Ok(())
    }

    /// What differs between a pin and a definition.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn differences(
        &self,
        place: &PinPlace,
        entry: &Entry,
    ) -> Result<Vec<crate::error::PointerDetail>, BrokerError> {
        let old = self
            .store
            .pinned_definition(place, &entry.reference.name)
            .await?;
        Ok(differences(&old.unwrap_or_default(), entry.raw.get()))
    }

    /// Every pin of a server, by tool.
    pub(crate) fn of(&self, place: &PinPlace) -> Vec<(Arc<str>, Pin)> {
        let by = self.read();
        let pinned = by.get(place).into_iter().flatten();
        pinned
            .map(|(tool, pin)| (Arc::clone(tool), pin.clone()))
            .collect()
    }
}

fn quarantined(entry: &Entry, detail: &str) -> BrokerError {
    let mut fault = Fault::new(
        ErrorCode::ToolQuarantined,
        format!("{} {detail}", entry.reference),
    );
    fault.hint = Some(format!(
        "an admin who agrees with the definition approves it: paperbot-mcp server pins {} approve {} {}",
        entry.reference.server,
        entry.reference,
        entry.hash.short()
    ));
    fault.upstream = Some((entry.reference.server.to_string(), None));
    fault
}

fn row(place: &PinPlace, entry: &Entry, by: Option<&UserId>) -> PinRow {
    PinRow {
        place: place.clone(),
        tool: entry.reference.name.to_string(),
        hash: entry.hash.hex(),
        hints: to_bits(entry.hints),
        definition: entry.raw.get().to_owned(),
        approved_by: by.map(ToString::to_string),
        pinned_at: Utc::now(),
    }
}

fn to_bits(hints: Hints) -> i64 {
    i64::from(hints.read_only)
        | i64::from(hints.destructive) << 1
        | i64::from(hints.idempotent) << 2
        | i64::from(hints.open_world) << 3
}

fn from_bits(bits: i64) -> Hints {
    Hints {
        read_only: bits & 1 != 0,
        destructive: bits & 2 != 0,
        idempotent: bits & 4 != 0,
        open_world: bits & 8 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_survive_the_store() {
        for bits in 0..16 {
            assert_eq!(to_bits(from_bits(bits)), bits);
        }
    }
}
