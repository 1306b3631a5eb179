//! `list_catalog`, `get_tool_help`, and the lists of resources, templates and prompts.

use std::sync::Arc;

use catalog::{Entry, Hints, Kind};
use serde_json::value::RawValue;

use super::Broker;
use super::page::{Page, PageRequest};
use crate::asker::Asker;
use crate::error::BrokerError;

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
        let _ = (asker, request);
        todo!("filled next")
    }

    /// The catalogue hash alone, for `If-None-Match`; short form. Memory only, once loaded.
    ///
    /// # Errors
    /// None of its own at present; the signature leaves room.
    pub async fn catalog_hash(&self, asker: &Asker) -> Result<String, BrokerError> {
        let _ = asker;
        todo!("filled next")
    }

    /// Explains up to [`MAX_HELP_REFS`] tools, in the order asked.
    ///
    /// # Errors
    /// `invalid_request`, or `tool_not_found` when none of them exists.
    pub async fn get_tool_help(
        &self,
        asker: &Asker,
        request: HelpRequest,
    ) -> Result<Vec<HelpItem>, BrokerError> {
        let _ = (asker, request);
        todo!("filled next")
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
        let _ = (asker, request);
        todo!("filled next")
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
        let _ = (asker, request);
        todo!("filled next")
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
        let _ = (asker, request);
        todo!("filled next")
    }
}
