//! Fetches a server's whole offer over a session: every page, with caps and a cycle guard.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sessions::Session;
use tokio::time::Instant;
use transports::{Era, Params, Request, RequestError};

use crate::header_annotations;
use crate::json::Members;

/// The raw definitions a server listed.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// `tools/list`.
    pub tools: Vec<Arc<RawValue>>,
    /// `resources/list`.
    pub resources: Vec<Arc<RawValue>>,
    /// `resources/templates/list`.
    pub templates: Vec<Arc<RawValue>>,
    /// `prompts/list`.
    pub prompts: Vec<Arc<RawValue>>,
    /// The smallest `ttlMs` the server gave, if any.
    pub ttl_ms: Option<u64>,
    /// `cacheScope` was `public` on every list: may be shared in the workspace.
    pub public: bool,
    /// A list was cut at a cap or failed, in words.
    pub truncated: Option<String>,
    /// Definitions the specification tells a client to drop (invalid `x-mcp-header` annotations).
    pub left_out: usize,
}

/// A listing failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer is no list.
    #[error("{detail}")]
    Malformed {
        /// In words.
        detail: String,
    },
}

/// Lists everything the server's capabilities offer. A method the server does not know counts as an empty list.
/// A server that declares none of the three is asked for all, leniently. When only resources or prompts fail to
/// list, what could be listed is kept and [`Listing::truncated`] says so.
///
/// # Errors
/// [`FetchError`]; the whole takes no longer than `timeout`.
pub async fn fetch(session: &Session, timeout: Duration) -> Result<Listing, FetchError> {
    let peer = session.peer();
    let ask = Ask {
        offered: Offered::of(peer.capabilities.get()),
        deadline: Instant::now() + timeout,
        timeout,
    };
    // Boxed: four lists at once make a large future.
    let mut listing = Box::pin(ask.everything(|request| session.request(request))).await?;
    // Only these annotations become HTTP headers; elsewhere the specification lets a client ignore them.
    if peer.era == Era::Modern && peer.transport == "streamable_http" {
        let listed = listing.tools.len();
        listing
            .tools
            .retain(|tool| header_annotations::are_valid(tool));
        listing.left_out += listed - listing.tools.len();
    }
    Ok(listing)
}

/// Pages of one list; a server with more is cut, and said to be.
const MAX_PAGES: usize = 1_000;

/// Entries of one list; 9 times the largest real collection measured.
const MAX_ENTRIES: usize = 50_000;

/// Bytes of one list's pages together: what a snapshot may keep in memory and in the store.
const MAX_LIST_BYTES: usize = 64 * 1024 * 1024;

/// Longest cursor sent back, in bytes.
const MAX_CURSOR_BYTES: usize = 64 * 1024;

/// JSON-RPC: the method does not exist.
const METHOD_NOT_FOUND: i64 = -32_601;

/// A request on its way. Not an `AsyncFn`: its future could not be shown to be `Send` to those who spawn a listing.
trait Answered: Future<Output = Result<Box<RawValue>, RequestError>> {}

impl<F: Future<Output = Result<Box<RawValue>, RequestError>>> Answered for F {}

/// Which lists a server says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the specification's three capabilities, and whether any was named"
)]
struct Offered {
    tools: bool,
    resources: bool,
    prompts: bool,
    /// It named at least one of them; else all are asked for, and any refusal means none.
    declared: bool,
}

impl Offered {
    fn of(capabilities: &str) -> Self {
        let members = Members::parse(capabilities);
        let has = |key: &str| {
            let member = members.as_ref().and_then(|members| members.get(key));
            member.is_some_and(|value| value.get() != "null" && value.get() != "false")
        };
        let (tools, resources, prompts) = (has("tools"), has("resources"), has("prompts"));
        let declared = tools || resources || prompts;
        Self {
            tools: tools || !declared,
            resources: resources || !declared,
            prompts: prompts || !declared,
            declared,
        }
    }
}

/// One list's worth of definitions.
#[derive(Debug, Default)]
struct Pages {
    entries: Vec<Arc<RawValue>>,
    ttl_ms: Option<u64>,
    /// Pages that said `public`, and all pages.
    public: (usize, usize),
    cut: Option<String>,
}

/// How far one list may go wrong before the whole fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A failure is the caller's.
    Must,
    /// A refusal in JSON-RPC, or an answer that is no list, leaves the list empty and is noted.
    May,
    /// As [`Need::May`], but a refusal says nothing: the server never claimed to have the list.
    Perhaps,
}

#[derive(Debug, Clone, Copy)]
struct Ask {
    offered: Offered,
    deadline: Instant,
    timeout: Duration,
}

impl Ask {
    async fn everything<F: Answered>(
        self,
        ask: impl Fn(Request) -> F,
    ) -> Result<Listing, FetchError> {
        let declared = |need: Need| {
            if self.offered.declared {
                need
            } else {
                Need::Perhaps
            }
        };
        let (tools, resources, templates, prompts) = tokio::try_join!(
            self.list(
                &ask,
                ("tools/list", "tools"),
                self.offered.tools.then(|| declared(Need::Must))
            ),
            self.list(
                &ask,
                ("resources/list", "resources"),
                self.offered.resources.then(|| declared(Need::May))
            ),
            self.list(
                &ask,
                ("resources/templates/list", "resourceTemplates"),
                self.offered.resources.then_some(Need::Perhaps)
            ),
            self.list(
                &ask,
                ("prompts/list", "prompts"),
                self.offered.prompts.then(|| declared(Need::May))
            ),
        )?;
        let lists = [&tools, &resources, &templates, &prompts];
        let cuts: Vec<&str> = lists
            .iter()
            .filter_map(|list| list.cut.as_deref())
            .collect();
        let pages: usize = lists.iter().map(|list| list.public.1).sum();
        Ok(Listing {
            ttl_ms: lists.iter().filter_map(|list| list.ttl_ms).min(),
            public: pages > 0 && lists.iter().all(|list| list.public.0 == list.public.1),
            truncated: (!cuts.is_empty()).then(|| cuts.join("; ")),
            left_out: 0,
            tools: tools.entries,
            resources: resources.entries,
            templates: templates.entries,
            prompts: prompts.entries,
        })
    }

    /// Follows one list to its end.
    async fn list<F: Answered>(
        self,
        ask: &impl Fn(Request) -> F,
        (method, member): (&'static str, &'static str),
        need: Option<Need>,
    ) -> Result<Pages, FetchError> {
        let mut list = Pages::default();
        let Some(need) = need else {
            return Ok(list);
        };
        match self.follow(ask, (method, member), &mut list).await {
            Err(FetchError::Request(RequestError::Rpc {
                code: METHOD_NOT_FOUND,
                ..
            })) if list.public.1 == 0 => {}
            Err(FetchError::Request(RequestError::Rpc { .. })) if need == Need::Perhaps => {}
            Err(FetchError::Request(RequestError::Rpc { code, .. })) if need == Need::May => {
                list.cut = Some(format!("{method} answered error {code}"));
            }
            Err(FetchError::Malformed { detail }) if need != Need::Must => list.cut = Some(detail),
            other => other?,
        }
        Ok(list)
    }

    async fn follow<F: Answered>(
        self,
        ask: &impl Fn(Request) -> F,
        (method, member): (&'static str, &'static str),
        list: &mut Pages,
    ) -> Result<(), FetchError> {
        let mut cursors: HashSet<String> = HashSet::new();
        let mut cursor: Option<String> = None;
        let mut size_bytes = 0;
        loop {
            let request = self.page_request(method, cursor.as_deref())?;
            let page = match tokio::time::timeout_at(self.deadline, ask(request)).await {
                Ok(answer) => answer?,
                Err(_elapsed) => return Err(self.late()),
            };
            size_bytes += page.get().len();
            cursor = list.add(page.get(), (method, member))?;
            let Some(next) = &cursor else {
                return Ok(());
            };
            list.cut = if list.public.1 >= MAX_PAGES {
                Some(format!("{method} was cut at {MAX_PAGES} pages"))
            } else if list.entries.len() >= MAX_ENTRIES {
                Some(format!("{method} was cut at {MAX_ENTRIES} entries"))
            } else if size_bytes >= MAX_LIST_BYTES {
                Some(format!("{method} was cut at {MAX_LIST_BYTES} bytes"))
            } else if next.len() > MAX_CURSOR_BYTES {
                Some(format!(
                    "{method} was cut at a cursor over {MAX_CURSOR_BYTES} bytes"
                ))
            } else if !cursors.insert(next.clone()) {
                Some(format!("{method} was cut where its pages began to repeat"))
            } else {
                None
            };
            if list.cut.is_some() {
                list.entries.truncate(MAX_ENTRIES);
                return Ok(());
            }
        }
    }

    fn page_request(
        self,
        method: &'static str,
        cursor: Option<&str>,
    ) -> Result<Request, FetchError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.late());
        }
        let mut params = Params::default();
        if let Some(cursor) = cursor {
            let cursor = serde_json::value::to_raw_value(cursor);
            let cursor = cursor.map_err(|error| FetchError::Malformed {
                detail: error.to_string(),
            })?;
            params.0.push((Cow::Borrowed("cursor"), cursor));
        }
        Ok(Request {
            params,
            repeatable: true,
            ..Request::new(method, left)
        })
    }

    fn late(self) -> FetchError {
        FetchError::Request(RequestError::Timeout {
            after: self.timeout,
        })
    }
}

impl Pages {
    /// Takes a page in and gives the cursor of the next. An empty cursor, or one that is no string, is the end.
    fn add(
        &mut self,
        page: &str,
        (method, member): (&'static str, &'static str),
    ) -> Result<Option<String>, FetchError> {
        let malformed = || FetchError::Malformed {
            detail: format!("the answer to {method} holds no list of {member}"),
        };
        let members = Members::parse(page).ok_or_else(malformed)?;
        let entries = members.get(member).ok_or_else(malformed)?;
        let entries: Vec<Arc<RawValue>> = serde_json::from_str::<Vec<Box<RawValue>>>(entries.get())
            .map_err(|_no_array| malformed())?
            .into_iter()
            .map(Arc::from)
            .collect();
        self.entries.extend(entries);
        let ttl_ms = members
            .get("ttlMs")
            .and_then(|ttl| serde_json::from_str(ttl.get()).ok());
        self.ttl_ms = self.ttl_ms.into_iter().chain(ttl_ms).min();
        self.public.0 += usize::from(members.text("cacheScope").as_deref() == Some("public"));
        self.public.1 += 1;
        Ok(members
            .text("nextCursor")
            .filter(|cursor| !cursor.is_empty()))
    }
}

#[cfg(test)]
mod tests;
