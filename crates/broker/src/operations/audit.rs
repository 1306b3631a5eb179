//! The audit record as callers see it: pages, exports, and whether the chain holds.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sessions::{UserId, WorkspaceId};
use uuid::Uuid;

use super::page::{Page, PageRequest, bad_cursor};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::audit::{Entry, Link, PlaceKind, SignedPlace, Walk, public_key_text};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::policy;
use crate::store::EntryFilter;

/// Entries read at once by an export or a walk: about a megabyte.
const PAGE: usize = 1000;
/// When to ask again for a verification while others run.
const VERIFY_AGAIN: Duration = Duration::from_secs(5);

/// Which audit entries.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// RFC 3339.
    pub since: Option<String>,
    /// RFC 3339.
    pub until: Option<String>,
    /// Only this user.
    pub user: Option<String>,
    /// Only this ref.
    pub reference: Option<String>,
    /// Only this outcome: a state or a code.
    pub outcome: Option<String>,
    /// Which part.
    pub page: PageRequest,
}

/// What verifying a workspace's chains found.
#[derive(Debug, Clone)]
pub struct AuditReport {
    /// Every chain holds.
    pub ok: bool,
    /// Entries looked at.
    pub entries: u64,
    /// The first place that does not hold.
    pub first_bad: Option<BadEntry>,
    /// The signed end of this node's chain: fresh when all is well, else the last one that was kept.
    pub head: Option<SignedPlace>,
    /// The signed ends and beginnings of all chains.
    pub places: Vec<SignedPlace>,
    /// Ed25519, base64.
    pub public_key: String,
}

/// Where a chain does not hold.
#[derive(Debug, Clone)]
pub struct BadEntry {
    /// The chain.
    pub chain: String,
    /// The entry's number.
    pub seq: u64,
    /// Why.
    pub reason: &'static str,
}

/// All entries a query takes, some at a time.
#[derive(Debug)]
pub struct AuditExport {
    broker: Broker,
    asker: Asker,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Whole chains, each in its order: what can be verified elsewhere.
    Chains(VecDeque<Stretch>, Span),
    /// What fits a filter, newest first, until the cursor is gone.
    Pages(Option<AuditQuery>),
}

/// What is left of a chain.
#[derive(Debug)]
struct Stretch {
    chain: String,
    after: Link,
    last: u64,
}

type Span = (DateTime<Utc>, DateTime<Utc>);

impl Broker {
    /// The audit record of the asker's workspace, newest first: calls at their end, refused ones too, and
    /// administrative acts. Who is no admin sees his own entries.
    ///
    /// # Errors
    /// `invalid_request`, `store_unavailable`.
    pub async fn list_audit(
        &self,
        asker: &Asker,
        query: AuditQuery,
    ) -> Result<Page<Entry<'static>>, BrokerError> {
        let limit = query.page.limit()?;
        let span = span(&query)?;
        let cursor = query.page.cursor.as_deref();
        let before = cursor
            .map(|text| Uuid::try_parse(text).map_err(|_| bad_cursor()))
            .transpose()?;
        let user = match whose(asker, query.user.as_deref()) {
            Whose::All => None,
            Whose::Of(user) => Some(user),
            Whose::Nobodys => {
                return Ok(Page {
                    items: Vec::new(),
                    next_cursor: None,
                });
            }
        };
        self.inner.store.flush().await;
        let filter = EntryFilter {
            workspace: asker.principal.workspace.clone(),
            user,
            reference: query.reference,
            outcome: query.outcome,
            span,
            before,
            limit: limit + 1,
        };
        let mut found = self.inner.store.entries(&filter).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| more).map(|(id, _)| id.to_string());
        Ok(Page {
            items: found.into_iter().map(|(_, entry)| entry).collect(),
            next_cursor,
        })
    }

    /// All entries a query takes: an admin who narrows it by nothing but time gets whole chains in their order,
    /// others what fits, newest first.
    ///
    /// # Errors
    /// As [`Broker::list_audit`].
    pub async fn export_audit(
        &self,
        asker: &Asker,
        query: AuditQuery,
    ) -> Result<AuditExport, BrokerError> {
        let narrowed = query.user.is_some() || query.reference.is_some() || query.outcome.is_some();
        let whole = !narrowed
            && query.page.cursor.is_none()
            && policy::require_admin(&asker.principal).is_ok();
        let span = span(&query)?;
        let way = if whole {
            self.inner.store.flush().await;
            Way::Chains(
                self.stretches(&asker.principal.workspace, &query, span)
                    .await?,
                span,
            )
        } else {
            Way::Pages(Some(query))
        };
        Ok(AuditExport {
            broker: self.clone(),
            asker: asker.clone(),
            way,
        })
    }

    /// From where to where each chain is exported.
    async fn stretches(
        &self,
        workspace: &WorkspaceId,
        query: &AuditQuery,
        span: Span,
    ) -> Result<VecDeque<Stretch>, BrokerError> {
        let store = &self.inner.store;
        let places = store.places(workspace).await?;
        let mut stretches = VecDeque::new();
        for chain in store.chains(workspace).await? {
            let mut after = anchor(&places, &chain).map_or(Link::START, |one| one.place.link);
            if query.since.is_some() {
                let Some(first) = store.first_since((workspace, &chain), span.0).await? else {
                    continue;
                };
                after = self
                    .inner
                    .link_before((workspace, &chain), first, after)
                    .await?;
            }
            let last = store.last_seq((workspace, &chain)).await?;
            stretches.push_back(Stretch { chain, after, last });
        }
        Ok(stretches)
    }

    /// Walks every chain of the asker's workspace and signs where it ends.
    ///
    /// # Errors
    /// `forbidden`, `overloaded` while others verify, `store_unavailable`.
    pub async fn verify_audit(&self, asker: &Asker) -> Result<AuditReport, BrokerError> {
        policy::require_admin(&asker.principal)?;
        let keeper = &self.inner.audit;
        let _permit = keeper.verifiers.try_acquire().map_err(|_| {
            let mut fault = Fault::new(ErrorCode::Overloaded, "others verify the record just now");
            fault.retry_after = Some(VERIFY_AGAIN);
            fault
        })?;
        let (store, workspace) = (&self.inner.store, &asker.principal.workspace);
        store.flush().await;
        // First: what is signed is on disk before, so that no end seems to be missing.
        let kept = store.places(workspace).await?;
        let mut chains = store.chains(workspace).await?;
        if !chains.iter().any(|chain| chain == store.chain()) {
            chains.push(store.chain().to_owned());
        }
        let signer = keeper.signer().await?;
        let mut report = AuditReport {
            ok: true,
            entries: 0,
            first_bad: None,
            head: None,
            places: Vec::new(),
            public_key: public_key_text(&signer.public_key()),
        };
        for chain in chains {
            let (anchor, head) = (anchor(&kept, &chain), head(&kept, &chain));
            let walk = Walk::new(&signer, anchor, head.cloned());
            let found = self.inner.walk((workspace, &chain), walk).await?;
            report.entries += found.entries;
            let end = match found.first_bad {
                None => Some(keeper.attest(workspace, &chain, found.end).await?),
                Some((seq, reason)) => {
                    report.ok = false;
                    let chain = chain.clone();
                    report
                        .first_bad
                        .get_or_insert(BadEntry { chain, seq, reason });
                    head.cloned()
                }
            };
            if chain == store.chain() {
                report.head.clone_from(&end);
            }
            report.places.extend(anchor.cloned());
            report.places.extend(end);
        }
        Ok(report)
    }

    /// The key that signs heads, for those who verify elsewhere.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn audit_key(&self) -> Result<String, BrokerError> {
        Ok(public_key_text(
            &self.inner.audit.signer().await?.public_key(),
        ))
    }
}

impl AuditExport {
    /// The next entries; `None` at the end.
    ///
    /// # Errors
    /// As [`Broker::list_audit`].
    pub async fn next(&mut self) -> Result<Option<Vec<Entry<'static>>>, BrokerError> {
        match &mut self.way {
            Way::Pages(query) => {
                let Some(mut wanted) = query.take() else {
                    return Ok(None);
                };
                let page = self.broker.list_audit(&self.asker, wanted.clone()).await?;
                if page.next_cursor.is_some() {
                    wanted.page.cursor = page.next_cursor;
                    *query = Some(wanted);
                }
                Ok(Some(page.items))
            }
            Way::Chains(stretches, span) => {
                let Some(stretch) = stretches.front_mut() else {
                    return Ok(None);
                };
                let workspace = &self.asker.principal.workspace;
                let entries = stretch
                    .advance(&self.broker.inner, workspace, *span)
                    .await?;
                if entries.is_none() {
                    stretches.pop_front();
                }
                Ok(Some(entries.unwrap_or_default()))
            }
        }
    }
}

impl Stretch {
    /// The next entries of a chain within a span of time, as they are stored; `None` at its end.
    async fn advance(
        &mut self,
        inner: &Inner,
        workspace: &WorkspaceId,
        span: Span,
    ) -> Result<Option<Vec<Entry<'static>>>, BrokerError> {
        if self.after.seq >= self.last {
            return Ok(None);
        }
        let of = (workspace, self.chain.as_str());
        let page = inner.store.chain_page(of, self.after.seq, PAGE).await?;
        if page.is_empty() {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(page.len());
        for mut line in page {
            line.entry.prev = self.after.hash.hex();
            line.entry.hash = line.stored.map(|hash| hash.hex());
            self.after = Link {
                seq: line.entry.seq,
                hash: line.stored.unwrap_or(Link::START.hash),
            };
            if line.entry.seq <= self.last
                && line.times.began >= span.0
                && line.times.began < span.1
            {
                entries.push(line.entry);
            }
        }
        Ok(Some(entries))
    }
}

impl Inner {
    /// Walks a chain to its end, or to the first place that does not hold.
    async fn walk(
        &self,
        of: (&WorkspaceId, &str),
        mut walk: Walk,
    ) -> Result<crate::audit::Verified, BrokerError> {
        let last = self.store.last_seq(of).await?;
        while !walk.is_over() && walk.at().seq < last {
            let page = self.store.chain_page(of, walk.at().seq, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for mut line in page {
                walk.step(&mut line);
            }
        }
        Ok(walk.finish())
    }

    /// The place before an entry: `start`, or the entry before it.
    async fn link_before(
        &self,
        of: (&WorkspaceId, &str),
        first: u64,
        start: Link,
    ) -> Result<Link, BrokerError> {
        if first <= start.seq + 1 {
            return Ok(start);
        }
        let before = self.store.chain_page(of, first - 2, 1).await?;
        Ok(before.first().map_or(start, |line| Link {
            seq: line.entry.seq,
            hash: line.stored.unwrap_or(Link::START.hash),
        }))
    }
}

fn anchor<'p>(places: &'p [SignedPlace], chain: &str) -> Option<&'p SignedPlace> {
    of_kind(places, chain, PlaceKind::Anchor)
}

fn head<'p>(places: &'p [SignedPlace], chain: &str) -> Option<&'p SignedPlace> {
    of_kind(places, chain, PlaceKind::Head)
}

fn of_kind<'p>(places: &'p [SignedPlace], chain: &str, kind: PlaceKind) -> Option<&'p SignedPlace> {
    let fits = |one: &&SignedPlace| one.place.chain == chain && one.place.kind == kind;
    places.iter().find(fits)
}

/// Whose entries an asker gets.
enum Whose {
    All,
    Of(UserId),
    /// He wishes another's, or those of one who cannot be.
    Nobodys,
}

/// An admin's wish, or else the asker's own.
fn whose(asker: &Asker, wished: Option<&str>) -> Whose {
    let admin = policy::require_admin(&asker.principal).is_ok();
    let own = &asker.principal.user;
    match wished.map(UserId::new) {
        None if admin => Whose::All,
        None => Whose::Of(own.clone()),
        Some(Ok(user)) if admin || user == *own => Whose::Of(user),
        Some(_) => Whose::Nobodys,
    }
}

/// The span of time a query takes.
fn span(query: &AuditQuery) -> Result<Span, BrokerError> {
    let since = moment(query.since.as_deref())?.unwrap_or(DateTime::UNIX_EPOCH);
    let until = moment(query.until.as_deref())?;
    Ok((
        since,
        until.unwrap_or_else(|| Utc::now() + TimeDelta::days(1)),
    ))
}

fn moment(text: Option<&str>) -> Result<Option<DateTime<Utc>>, BrokerError> {
    let Some(text) = text else { return Ok(None) };
    let read = DateTime::parse_from_rfc3339(text);
    let bad = |_| {
        Fault::new(
            ErrorCode::InvalidRequest,
            "since and until are RFC 3339 times",
        )
    };
    read.map(|at| Some(at.with_timezone(&Utc))).map_err(bad)
}
