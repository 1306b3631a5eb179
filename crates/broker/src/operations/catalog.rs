//! `list_catalog`, `get_tool_help`, and the lists of resources, templates and prompts.

mod cursor;
mod help;

use std::sync::Arc;

use catalog::{Entry, Hints, Kind, Query};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use self::cursor::Cursor;
use super::page::{Page, PageRequest};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::catalogue::{Slot, ViewDelta};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::Server;

/// What of the catalogue is wanted.
#[derive(Debug, Clone, Default)]
pub struct ListCatalog {
    /// Sub-queries, merged into one ranked list; empty = everything by ref.
    pub queries: Vec<String>,
    /// Only this server.
    pub server: Option<String>,
    /// Only these kinds; empty = tools, resources, templates and prompts.
    pub kinds: Vec<Kind>,
    /// An earlier `catalog_hash` (12 or 64 hex digits): only what changed since.
    pub since: Option<String>,
    /// Which part.
    pub page: PageRequest,
}

/// What `list_catalog` answers.
#[derive(Debug, Clone)]
pub struct CatalogAnswer {
    /// Of everything the asker may see; also the `ETag`. 12 hex digits.
    pub catalog_hash: String,
    /// Entries asked for; empty when `delta` is there.
    pub items: Vec<CatalogItem>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
    /// A search found nothing that fits.
    pub nothing_fits: bool,
    /// With `since`: what changed.
    pub delta: Option<CatalogDelta>,
    /// `since` was asked but is no longer remembered; `items` is the whole.
    pub reset: bool,
    /// Every server the asker may see.
    pub servers: Vec<ServerStatus>,
}

/// What changed since an earlier catalogue, by ref.
#[derive(Debug, Clone, Default)]
pub struct CatalogDelta {
    /// Entries that are new.
    pub added: Vec<CatalogItem>,
    /// Entries whose hash changed.
    pub changed: Vec<CatalogItem>,
    /// Refs that are gone.
    pub removed: Vec<String>,
}

/// One entry, with what the bridge knows besides.
#[derive(Debug, Clone)]
pub struct CatalogItem {
    /// The entry; `entry.hash.short()` goes on the wire.
    pub entry: Arc<Entry>,
    /// Hints after the owner's overrides.
    pub hints: Hints,
    /// For searches.
    pub score: Option<f32>,
    /// The server's entries could not be refreshed.
    pub stale: bool,
    /// Its definition is not the approved one.
    pub quarantined: bool,
}

/// One server's place in the catalogue.
#[derive(Debug, Clone)]
pub struct ServerStatus {
    /// Its name.
    pub server: String,
    /// `opening`, `ready`, `stale`, `down`, `disabled`.
    pub state: &'static str,
    /// `modern` or `legacy`, once known.
    pub era: Option<&'static str>,
    /// How many tools.
    pub tools: usize,
    /// RFC 3339: since when its entries could not be refreshed.
    pub stale_since: Option<String>,
    /// Why, in words.
    pub last_error: Option<String>,
    /// A list was cut at the cap, in words.
    pub truncated: Option<String>,
}

/// Everything that decides what a list shows one asker: equal stamps and equal requests mean equal answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CatalogStamp {
    hash: String,
    digest: [u8; 32],
}

impl CatalogStamp {
    /// The catalogue's hash, short.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// Which tools are to be explained.
#[derive(Debug, Clone, Default)]
pub struct HelpRequest {
    /// 1 to [`MAX_HELP_REFS`] refs.
    pub refs: Vec<String>,
    /// Hashes the caller has already; a tool with one of them answers `Unchanged`.
    pub if_hash: Vec<String>,
}

/// Most refs in one `get_tool_help`: more is a catalogue, not help.
pub const MAX_HELP_REFS: usize = 20;

/// One tool explained.
#[derive(Debug, Clone)]
pub enum HelpItem {
    /// The caller has it already.
    Unchanged {
        /// The ref.
        reference: String,
        /// Its hash, short.
        hash: String,
    },
    /// There is none. Only when others were found; otherwise the whole is `tool_not_found`.
    Missing {
        /// The ref asked for.
        reference: String,
        /// Refs that look like it.
        near: Vec<String>,
    },
    /// The whole definition.
    Tool(Box<ToolHelp>),
}

/// A tool's whole definition.
#[derive(Debug, Clone)]
pub struct ToolHelp {
    /// Compact form: ref, title, summary, shape, hash, flags.
    pub item: CatalogItem,
    /// The upstream's `description`, whole; untrusted text.
    pub description: Option<String>,
    /// The upstream's `inputSchema`, untouched.
    pub input_schema: Option<Box<RawValue>>,
    /// The upstream's `outputSchema`, untouched.
    pub output_schema: Option<Box<RawValue>>,
    /// The upstream's `annotations`, untouched.
    pub annotations: Option<Box<RawValue>>,
    /// Arguments that satisfy the required part of the schema.
    pub example: serde_json::Value,
}

/// A list of resources, templates or prompts of one or all servers.
#[derive(Debug, Clone, Default)]
pub struct ListOffer {
    /// Only this server.
    pub server: Option<String>,
    /// Which part.
    pub page: PageRequest,
}

impl Broker {
    /// What can be called, read and asked for.
    ///
    /// # Errors
    /// `invalid_request` (cursor, limit), `server_not_found`.
    pub async fn list_catalog(
        &self,
        asker: &Asker,
        request: ListCatalog,
    ) -> Result<CatalogAnswer, BrokerError> {
        let limit = request.page.limit()?;
        check_queries(&request.queries)?;
        let inner = &self.inner;
        let who = (&asker.principal.workspace, &asker.principal.user);
        if let Some(server) = &request.server {
            inner.server_or_fault(asker, server)?;
        }
        let slots = inner.look(asker).await;
        let view = inner.views.over(who, &slots).await?;
        let showing = Showing {
            inner,
            asker,
            slots: &slots,
        };
        let mut answer = CatalogAnswer {
            catalog_hash: view.hash.clone(),
            items: Vec::new(),
            next_cursor: None,
            nothing_fits: false,
            delta: None,
            reset: false,
            servers: slots
                .iter()
                .map(|(server, slot)| status(server, slot))
                .collect(),
        };
        if let Some(since) = &request.since {
            match inner.views.since(who, since, &view) {
                Some(delta) => {
                    answer.delta = Some(showing.delta(&request, delta));
                    return Ok(answer);
                }
                None => answer.reset = true,
            }
        }
        let cursor = Cursor::read(&request, &view.hash)?;
        let visible = |entry: &Entry| inner.may_list(&asker.principal, entry);
        let query = Query {
            texts: request.queries.clone(),
            server: request.server.clone(),
            kinds: request.kinds.clone(),
        };
        let ranked = view.index.find(&query, &visible);
        let from = cursor.place(&ranked.hits);
        let to = ranked.hits.len().min(from + limit);
        if let (true, Some((last, _))) = (to < ranked.hits.len(), ranked.hits[from..to].last()) {
            answer.next_cursor = Some(cursor.next(to, last)?);
        }
        answer.nothing_fits = ranked.nothing_fits;
        let shown = ranked.hits[from..to].iter();
        answer.items = shown
            .map(|(entry, score)| showing.item(entry, *score))
            .collect();
        Ok(answer)
    }

    /// What a list would show this asker now, in one digest. Memory only, once loaded.
    ///
    /// # Errors
    /// `internal`, when the index cannot be built.
    pub async fn catalog_stamp(&self, asker: &Asker) -> Result<CatalogStamp, BrokerError> {
        let who = &asker.principal;
        let slots = self.inner.look(asker).await;
        let view = self.inner.views.over((&who.workspace, &who.user), &slots);
        let view = view.await?;
        let seen_by = (
            who.workspace.as_str(),
            who.user.as_str(),
            &who.roles,
            &who.scopes.0,
            *self.inner.policy.now().digest(),
        );
        let servers = slots.iter().map(|(server, slot)| {
            let target = server
                .checked
                .as_ref()
                .ok()
                .map(|checked| checked.lead.version());
            (status(server, slot), server.version, target)
        });
        let pins = self.inner.pins.changes();
        let told = format!("{seen_by:?}{pins}{:?}", servers.collect::<Vec<_>>());
        Ok(CatalogStamp {
            hash: view.hash.clone(),
            digest: Sha256::digest(told).into(),
        })
    }

    /// The catalogue hash alone, for `If-None-Match`; short form. Memory only, once loaded.
    ///
    /// # Errors
    /// `internal`, when the index cannot be built.
    pub async fn catalog_hash(&self, asker: &Asker) -> Result<String, BrokerError> {
        let slots = self.inner.look(asker).await;
        let who = (&asker.principal.workspace, &asker.principal.user);
        Ok(self.inner.views.over(who, &slots).await?.hash.clone())
    }

    /// Resources by ref; `entry.reference.name` is the URI.
    ///
    /// # Errors
    /// As [`Broker::list_catalog`].
    pub async fn list_resources(
        &self,
        asker: &Asker,
        request: ListOffer,
    ) -> Result<Page<CatalogItem>, BrokerError> {
        self.list_kind(asker, request, Kind::Resource).await
    }

    /// Resource templates by ref; `entry.reference.name` is the URI template.
    ///
    /// # Errors
    /// As [`Broker::list_catalog`].
    pub async fn list_resource_templates(
        &self,
        asker: &Asker,
        request: ListOffer,
    ) -> Result<Page<CatalogItem>, BrokerError> {
        self.list_kind(asker, request, Kind::Template).await
    }

    /// Prompts by ref.
    ///
    /// # Errors
    /// As [`Broker::list_catalog`].
    pub async fn list_prompts(
        &self,
        asker: &Asker,
        request: ListOffer,
    ) -> Result<Page<CatalogItem>, BrokerError> {
        self.list_kind(asker, request, Kind::Prompt).await
    }

    async fn list_kind(
        &self,
        asker: &Asker,
        request: ListOffer,
        kind: Kind,
    ) -> Result<Page<CatalogItem>, BrokerError> {
        let answer = self
            .list_catalog(
                asker,
                ListCatalog {
                    server: request.server,
                    kinds: vec![kind],
                    page: request.page,
                    ..ListCatalog::default()
                },
            )
            .await?;
        Ok(Page {
            items: answer.items,
            next_cursor: answer.next_cursor,
        })
    }
}

/// Sub-queries in one request; each costs a ranking.
const MAX_QUERIES: usize = 16;
/// Longest sub-query, in bytes.
const MAX_QUERY_BYTES: usize = 1024;
fn check_queries(queries: &[String]) -> Result<(), BrokerError> {
    if queries.len() > MAX_QUERIES || queries.iter().any(|query| query.len() > MAX_QUERY_BYTES) {
        let detail = format!("q may stand {MAX_QUERIES} times with {MAX_QUERY_BYTES} bytes each");
        return Err(Fault::new(ErrorCode::InvalidRequest, detail));
    }
    Ok(())
}

/// What turns entries into what one asker sees of them.
struct Showing<'a> {
    inner: &'a Inner,
    asker: &'a Asker,
    slots: &'a [(Arc<Server>, Arc<Slot>)],
}

impl Showing<'_> {
    fn item(&self, entry: &Arc<Entry>, score: Option<f32>) -> CatalogItem {
        let name = &entry.reference.server;
        let place = self.slots.iter().find(|(server, _)| server.name == *name);
        let (pins, user) = (&self.inner.pins, &self.asker.principal.user);
        CatalogItem {
            entry: Arc::clone(entry),
            hints: place.map_or(entry.hints, |(server, _)| pins.hints(server, user, entry)),
            quarantined: place
                .is_some_and(|(server, _)| pins.standing(server, user, entry).is_quarantined()),
            score,
            stale: place.is_some_and(|(_, slot)| slot.shown().stale_since.is_some()),
        }
    }

    fn delta(&self, request: &ListCatalog, delta: ViewDelta) -> CatalogDelta {
        let wanted = |entry: &Arc<Entry>| {
            let server = request.server.as_deref();
            server.is_none_or(|server| server == entry.reference.server.as_str())
                && (request.kinds.is_empty() || request.kinds.contains(&entry.kind))
                && self.inner.may_list(&self.asker.principal, entry)
        };
        let items = |entries: Vec<Arc<Entry>>| -> Vec<CatalogItem> {
            let entries = entries.iter().filter(|entry| wanted(entry));
            entries.map(|entry| self.item(entry, None)).collect()
        };
        let removed = delta.removed.iter().filter(|entry| wanted(entry));
        CatalogDelta {
            removed: removed.map(|entry| entry.reference.to_string()).collect(),
            added: items(delta.added),
            changed: items(delta.changed),
        }
    }
}

fn status(server: &Server, slot: &Slot) -> ServerStatus {
    let shown = slot.shown();
    let state = match (&shown.snapshot, &shown.error) {
        _ if server.definition.disabled => "disabled",
        (Some(_), _) if shown.stale_since.is_some() => "stale",
        (Some(_), _) => "ready",
        (None, Some(_)) => "down",
        (None, None) => "opening",
    };
    let tools = shown.snapshot.as_ref().map_or(0, |snapshot| {
        snapshot
            .entries
            .iter()
            .filter(|e| e.kind == Kind::Tool)
            .count()
    });
    ServerStatus {
        server: server.name.to_string(),
        state,
        era: shown.era,
        tools,
        stale_since: shown.stale_since,
        last_error: shown.error.map(|fault| fault.to_string()),
        truncated: shown
            .snapshot
            .and_then(|snapshot| snapshot.truncated.clone()),
    }
}

impl Inner {
    /// The servers this asker may see, with their slots; starts and bounded waits for what is needed.
    async fn look(&self, asker: &Asker) -> Vec<(Arc<Server>, Arc<Slot>)> {
        let servers = self.visible_servers(&asker.principal);
        self.catalogues.look(&servers, &asker.principal.user).await
    }
}
