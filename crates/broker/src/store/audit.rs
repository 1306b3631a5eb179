//! The audit chain as it is read back: in its own order for verifying and exporting, newest first for asking; its
//! signed places; and its oldest part as retention removes it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use uuid::Uuid;

use super::calls::{PRUNE_CHUNK, uuid_at};
use super::heads::read_link;
use super::insert::seq;
use super::reach::within;
use super::{Store, StoreError, calls, from_ms, ms};
use crate::audit::{Entry, Line, Link, Place, PlaceKind, SignedPlace, Signer, Times, executed};
use crate::instant::rfc3339;

/// Name of the secret the signing key is made of.
const SIGNING_SECRET: &str = "audit_ed25519";
/// Chains of one workspace that are looked at: one for each node that ever wrote for it.
const MAX_CHAINS: usize = 256;
/// Ids are minted about when a call begins; a time is looked for so far around itself.
const ID_SLACK: TimeDelta = TimeDelta::seconds(1);
/// What of a call's row is audited.
const CALL_COLUMNS: &str = "id, workspace, user_id, key_id, kind, reference, lane, trace_id, arguments_digest, preview, \
     schema_hash, created_ms, ended_ms, state, session_id, duration_ms, code, fault, agent_id, approval_id, chain, seq, hash";
/// What of an act's row is audited.
const ACT_COLUMNS: &str =
    "id, workspace, user_id, key_id, action, target, trace_id, created_ms, chain, seq, hash";
/// The hash before an entry that is read alone.
const PREV: &str = "COALESCE((SELECT hash FROM calls p WHERE p.workspace = e.workspace AND p.chain = e.chain AND p.seq = e.seq - 1), \
     (SELECT hash FROM actions p WHERE p.workspace = e.workspace AND p.chain = e.chain AND p.seq = e.seq - 1), \
     (SELECT hash FROM audit_heads p WHERE p.workspace = e.workspace AND p.chain = e.chain AND p.kind = 'anchor' \
     AND p.seq = e.seq - 1)) AS prev";

/// The two tables entries stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Calls,
    Actions,
}

/// Which entries are wanted; newest first.
#[derive(Debug, Clone)]
pub struct EntryFilter {
    /// Only of this workspace.
    pub workspace: WorkspaceId,
    /// Only of this user.
    pub user: Option<UserId>,
    /// Only of this ref.
    pub reference: Option<String>,
    /// Only with this terminal state or code.
    pub outcome: Option<String>,
    /// Begun at or after, and before.
    pub span: (DateTime<Utc>, DateTime<Utc>),
    /// Only older than this id.
    pub before: Option<Uuid>,
    /// At most so many.
    pub limit: usize,
}

impl Store {
    /// The chain this process writes.
    pub(crate) fn chain(&self) -> &str {
        self.writer.own().node
    }

    /// The ends of the chains this process wrote, as of the last commit.
    pub(crate) fn chain_ends(&self) -> Vec<(WorkspaceId, Link)> {
        self.writer.heads.all()
    }

    /// What signs the places of chains: the same key after a restart and on every node.
    pub(crate) async fn audit_signer(&self) -> Result<Signer, StoreError> {
        let made = self.signer.get_or_try_init(|| async {
            let secret = self.signing_secret(SIGNING_SECRET).await?;
            Ok::<_, StoreError>(Signer::new(secret))
        });
        made.await.cloned()
    }

    /// The chains of a workspace.
    pub(crate) async fn chains(&self, workspace: &WorkspaceId) -> Result<Vec<String>, StoreError> {
        let mut found = BTreeSet::new();
        let tables = [
            "SELECT MIN(chain) FROM calls WHERE workspace = $1 AND chain > $2 AND seq IS NOT NULL",
            "SELECT MIN(chain) FROM actions WHERE workspace = $1 AND chain > $2 AND seq IS NOT NULL",
            "SELECT MIN(chain) FROM audit_heads WHERE workspace = $1 AND chain > $2",
        ];
        for sql in tables {
            let mut last = String::new();
            while found.len() < MAX_CHAINS {
                let row = sqlx::query(sql)
                    .bind(workspace.as_str())
                    .bind(&last)
                    .fetch_one(&self.db.browse)
                    .await?;
                let Some(next) = row.try_get::<Option<String>, _>(0)? else {
                    break;
                };
                found.insert(next.clone());
                last = next;
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Entries of a chain after a number, in their order.
    pub(crate) async fn chain_page(
        &self,
        (workspace, chain): (&WorkspaceId, &str),
        after: u64,
        limit: usize,
    ) -> Result<Vec<Line>, StoreError> {
        let calls = format!(
            "SELECT {CALL_COLUMNS} FROM calls WHERE workspace = $1 AND chain = $2 AND seq > $3 ORDER BY seq LIMIT $4"
        );
        let acts = format!(
            "SELECT {ACT_COLUMNS} FROM actions WHERE workspace = $1 AND chain = $2 AND seq > $3 ORDER BY seq LIMIT $4"
        );
        let mut lines = Vec::new();
        for (table, sql) in [(Table::Calls, calls), (Table::Actions, acts)] {
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(workspace.as_str())
                .bind(chain)
                .bind(i64::try_from(after).unwrap_or(i64::MAX))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&self.db.browse)
                .await?;
            lines.extend(rows.iter().map(|row| read_line(row, table)));
        }
        // Whatever is among the first of both is among the first of its own.
        lines.sort_by_key(|line| line.entry.seq);
        lines.truncate(limit);
        Ok(lines)
    }

    /// The number of a chain's last entry; 0 when there is none.
    pub(crate) async fn last_seq(
        &self,
        (workspace, chain): (&WorkspaceId, &str),
    ) -> Result<u64, StoreError> {
        let mut last = 0;
        for sql in [
            "SELECT MAX(seq) FROM calls WHERE workspace = $1 AND chain = $2 AND seq IS NOT NULL",
            "SELECT MAX(seq) FROM actions WHERE workspace = $1 AND chain = $2 AND seq IS NOT NULL",
        ] {
            let row = sqlx::query(sql)
                .bind(workspace.as_str())
                .bind(chain)
                .fetch_one(&self.db.browse)
                .await?;
            let found = row.try_get::<Option<i64>, _>(0)?;
            last = last.max(found.map_or(0, i64::unsigned_abs));
        }
        Ok(last)
    }

    /// The first number of a chain whose entry may have begun at or after a time.
    pub(crate) async fn first_since(
        &self,
        (workspace, chain): (&WorkspaceId, &str),
        since: DateTime<Utc>,
    ) -> Result<Option<u64>, StoreError> {
        let mut first = None;
        for (sql, prefix) in [
            (
                "SELECT MIN(seq) FROM calls WHERE workspace = $1 AND chain = $2 AND id >= $3",
                "call_",
            ),
            (
                "SELECT MIN(seq) FROM actions WHERE workspace = $1 AND chain = $2 AND id >= $3",
                "act_",
            ),
        ] {
            let row = sqlx::query(sql)
                .bind(workspace.as_str())
                .bind(chain)
                .bind(format!("{prefix}{}", uuid_at(earlier(since))))
                .fetch_one(&self.db.browse)
                .await?;
            let found = row.try_get::<Option<i64>, _>(0)?.map(i64::unsigned_abs);
            first = match (first, found) {
                (Some(one), Some(other)) => Some(u64::min(one, other)),
                (one, other) => one.or(other),
            };
        }
        Ok(first)
    }

    /// Entries, newest first, with their ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn entries(
        &self,
        filter: &EntryFilter,
    ) -> Result<Vec<(Uuid, Entry<'static>)>, StoreError> {
        let mut found = Vec::new();
        for table in [Table::Calls, Table::Actions] {
            found.extend(self.entries_of(filter, table).await?);
        }
        found.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        found.truncate(filter.limit);
        Ok(found)
    }

    async fn entries_of(
        &self,
        filter: &EntryFilter,
        table: Table,
    ) -> Result<Vec<(Uuid, Entry<'static>)>, StoreError> {
        let Some((sql, texts)) = asked(filter, table) else {
            return Ok(Vec::new());
        };
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(filter.workspace.as_str())
            .bind(ms(filter.span.0))
            .bind(ms(filter.span.1))
            .bind(i64::try_from(filter.limit).unwrap_or(i64::MAX));
        for text in texts {
            query = query.bind(text);
        }
        let rows = query.fetch_all(&self.db.browse).await?;
        let read = |row: &AnyRow| {
            let mut line = read_line(row, table);
            line.entry.prev = if line.entry.seq == Link::START.seq + 1 {
                Link::START.hash.hex()
            } else {
                text(row, "prev")
            };
            line.entry.hash = line.stored.map(|hash| hash.hex());
            let id: String = text(row, "id");
            let uuid = id.split_once('_').map_or("", |(_, uuid)| uuid);
            (Uuid::try_parse(uuid).unwrap_or_default(), line.entry)
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Keeps a signed place; an older one of its kind is replaced.
    pub(crate) async fn keep_place(&self, signed: &SignedPlace) -> Result<(), StoreError> {
        keep_place(&self.db.write, signed).await?;
        Ok(())
    }

    /// The signed places of a workspace's chains.
    pub(crate) async fn places(
        &self,
        workspace: &WorkspaceId,
    ) -> Result<Vec<SignedPlace>, StoreError> {
        let sql = "SELECT chain, kind, seq, hash, signed_ms, signature FROM audit_heads WHERE workspace = $1";
        let rows = sqlx::query(sql)
            .bind(workspace.as_str())
            .fetch_all(&self.db.read)
            .await?;
        let read = |row: &AnyRow| {
            let kind = match text(row, "kind").as_str() {
                "head" => PlaceKind::Head,
                _ => PlaceKind::Anchor,
            };
            Ok(SignedPlace {
                place: Place {
                    workspace: workspace.to_string(),
                    chain: text(row, "chain"),
                    kind,
                    link: read_link(row)?,
                    signed_at: from_ms(number(row, "signed_ms").unwrap_or_default()),
                },
                signature: text(row, "signature"),
            })
        };
        rows.iter().map(read).collect()
    }

    /// Removes the oldest entries of every chain that are older than a time, some at a time, and signs where each
    /// begins now. True while there is more.
    pub(super) async fn prune_chains(&self, before: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut more = false;
        for workspace in self.recorded_workspaces().await? {
            for chain in self.chains(&workspace).await? {
                more |= self.prune_chain((&workspace, &chain), before).await?;
            }
        }
        Ok(more)
    }

    /// Workspaces of which anything is recorded: one step along an index for each.
    async fn recorded_workspaces(&self) -> Result<BTreeSet<WorkspaceId>, StoreError> {
        let mut names = BTreeSet::new();
        let mut last = String::new();
        while let Some(next) = calls::workspace_after(&self.db.browse, &last).await? {
            names.insert(next.clone());
            last = next;
        }
        last.clear();
        loop {
            let row = sqlx::query("SELECT MIN(workspace) FROM actions WHERE workspace > $1")
                .bind(&last)
                .fetch_one(&self.db.browse)
                .await?;
            let Some(next) = row.try_get::<Option<String>, _>(0)? else {
                break;
            };
            names.insert(next.clone());
            last = next;
        }
        let known = names.iter().filter_map(|name| WorkspaceId::new(name).ok());
        Ok(known.collect())
    }

    async fn prune_chain(
        &self,
        (workspace, chain): (&WorkspaceId, &str),
        before: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let is_old = |line: &Line| line.times.ended < before;
        // Most times nothing is.
        let first = self.chain_page((workspace, chain), 0, 1).await?;
        if !first.first().is_some_and(is_old) {
            return Ok(false);
        }
        let chunk = usize::try_from(PRUNE_CHUNK).unwrap_or_default();
        let oldest = self.chain_page((workspace, chain), 0, chunk).await?;
        let old = oldest.iter().take_while(|line| is_old(line)).count();
        let Some(last) = old.checked_sub(1).and_then(|at| oldest.get(at)) else {
            return Ok(false);
        };
        let link = Link {
            seq: last.entry.seq,
            hash: last.stored.unwrap_or(Link::START.hash),
        };
        let anchor = self.audit_signer().await?.sign(Place {
            workspace: workspace.to_string(),
            chain: chain.to_owned(),
            kind: PlaceKind::Anchor,
            link,
            signed_at: Utc::now(),
        });
        self.cut_chain(&anchor).await?;
        Ok(old == chunk)
    }

    /// Removes everything up to an anchor, in the transaction that keeps the anchor.
    async fn cut_chain(&self, anchor: &SignedPlace) -> Result<(), StoreError> {
        let place = &anchor.place;
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let cut = within(deadline, async {
            let mut tx = connection.begin().await?;
            keep_place(&mut *tx, anchor).await?;
            for sql in [
                "DELETE FROM calls WHERE workspace = $1 AND chain = $2 AND seq <= $3",
                "DELETE FROM actions WHERE workspace = $1 AND chain = $2 AND seq <= $3",
            ] {
                sqlx::query(sql)
                    .bind(&place.workspace)
                    .bind(&place.chain)
                    .bind(seq(place.link))
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        })
        .await;
        Ok(lent.settle(cut)?)
    }
}

async fn keep_place<'e>(
    to: impl sqlx::Executor<'e, Database = sqlx::Any>,
    signed: &SignedPlace,
) -> Result<(), sqlx::Error> {
    let place = &signed.place;
    sqlx::query(
        "INSERT INTO audit_heads (workspace, chain, kind, seq, hash, signed_ms, signature) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (workspace, chain, kind) DO UPDATE SET seq = excluded.seq, \
         hash = excluded.hash, signed_ms = excluded.signed_ms, signature = excluded.signature \
         WHERE excluded.seq >= audit_heads.seq",
    )
    .bind(place.workspace.clone())
    .bind(place.chain.clone())
    .bind(place.kind.as_str())
    .bind(seq(place.link))
    .bind(place.link.hash.hex())
    .bind(ms(place.signed_at))
    .bind(signed.signature.clone())
    .execute(to)
    .await?;
    Ok(())
}

/// The statement for a filter and the texts bound after its first four parameters; `None` when nothing in the table
/// can fit. Conditions are added only where asked for, so that the planner sees a plain query.
fn asked(filter: &EntryFilter, table: Table) -> Option<(String, Vec<String>)> {
    let (from, columns, prefix, target) = match table {
        Table::Calls => ("calls", CALL_COLUMNS, "call_", "reference ="),
        Table::Actions => ("actions", ACT_COLUMNS, "act_", "target ="),
    };
    let id = |uuid: Uuid| format!("{prefix}{uuid}");
    let mut wanted = vec![
        ("id >=", id(uuid_at(earlier(filter.span.0)))),
        ("id <", id(uuid_at(later(filter.span.1)))),
    ];
    if let Some(before) = filter.before {
        wanted.push(("id <", id(before)));
    }
    if let Some(user) = &filter.user {
        wanted.push(("user_id =", user.to_string()));
    }
    if let Some(reference) = &filter.reference {
        wanted.push((target, reference.clone()));
    }
    let mut sql = format!(
        "SELECT {columns}, {PREV} FROM {from} e WHERE workspace = $1 AND seq IS NOT NULL AND created_ms >= $2 AND created_ms < $3"
    );
    let mut texts = Vec::with_capacity(wanted.len() + 1);
    for (condition, value) in wanted {
        texts.push(value);
        let _ = write!(sql, " AND {condition} ${}", texts.len() + 4);
    }
    match (&filter.outcome, table) {
        (Some(outcome), Table::Calls) => {
            texts.push(outcome.clone());
            let place = texts.len() + 4;
            let _ = write!(sql, " AND (state = ${place} OR code = ${place})");
        }
        // What is no call has happened.
        (Some(outcome), Table::Actions) if outcome != "succeeded" => return None,
        _ => {}
    }
    sql.push_str(" ORDER BY id DESC LIMIT $4");
    Some((sql, texts))
}

fn earlier(time: DateTime<Utc>) -> DateTime<Utc> {
    time.checked_sub_signed(ID_SLACK).unwrap_or(time)
}

fn later(time: DateTime<Utc>) -> DateTime<Utc> {
    time.checked_add_signed(ID_SLACK).unwrap_or(time)
}

/// A text of a row; what no version of this program wrote reads as empty, and then the hash does not fit.
fn text(row: &AnyRow, column: &str) -> String {
    maybe(row, column).unwrap_or_default()
}

fn maybe(row: &AnyRow, column: &str) -> Option<String> {
    row.try_get::<Option<String>, _>(column).ok().flatten()
}

fn number(row: &AnyRow, column: &str) -> Option<i64> {
    row.try_get::<Option<i64>, _>(column).ok().flatten()
}

/// An entry made anew from its row. Never fails: a row that was tampered with must be told of, not stumbled over.
fn read_line(row: &AnyRow, table: Table) -> Line {
    let began = from_ms(number(row, "created_ms").unwrap_or_default());
    let ended = number(row, "ended_ms").map_or(began, from_ms);
    let outcome = match table {
        Table::Calls => text(row, "state"),
        Table::Actions => "succeeded".to_owned(),
    };
    let of_call = |column: &str| {
        (table == Table::Calls)
            .then(|| maybe(row, column))
            .flatten()
    };
    let not_zeros = |hex: &String| hex.bytes().any(|digit| digit != b'0');
    let entry = Entry {
        action: match table {
            Table::Calls => format!("call_{}", text(row, "kind")).into(),
            Table::Actions => text(row, "action").into(),
        },
        agent_id: of_call("agent_id").map(Into::into),
        approval_id: of_call("approval_id").map(Into::into),
        arguments_digest: of_call("arguments_digest").filter(not_zeros),
        call_id: of_call("id"),
        chain: text(row, "chain").into(),
        code: of_call("code").map(Into::into),
        detail: of_call("preview")
            .filter(|preview| !preview.is_empty())
            .map(Into::into),
        duration_ms: (table == Table::Calls)
            .then(|| number(row, "duration_ms"))
            .flatten()
            .and_then(|ms| u64::try_from(ms).ok()),
        executed: executed(&outcome, of_call("fault").as_deref()).into(),
        hash: None,
        key_id: text(row, "key_id").into(),
        lane: of_call("lane").map(Into::into),
        outcome: outcome.into(),
        prev: String::new(),
        reference: match table {
            Table::Calls => text(row, "reference").into(),
            Table::Actions => text(row, "target").into(),
        },
        schema_hash: of_call("schema_hash"),
        seq: number(row, "seq")
            .and_then(|seq| u64::try_from(seq).ok())
            .unwrap_or_default(),
        session_id: of_call("session_id").map(Into::into),
        trace_id: text(row, "trace_id").into(),
        ts: rfc3339(began),
        user: text(row, "user_id").into(),
        workspace: text(row, "workspace").into(),
    };
    Line {
        entry,
        stored: maybe(row, "hash")
            .as_deref()
            .and_then(catalog::Hash::from_hex),
        times: Times { began, ended },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_stands_in_the_statement() {
        let filter = EntryFilter {
            workspace: WorkspaceId::new("w").unwrap(),
            user: Some(UserId::new("ann").unwrap()),
            reference: None,
            outcome: Some("failed".into()),
            span: (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH),
            before: None,
            limit: 1,
        };
        let (sql, texts) = asked(&filter, Table::Calls).unwrap();
        assert!(
            sql.contains("user_id = $7 AND (state = $8 OR code = $8)"),
            "{sql}"
        );
        assert_eq!(texts.len(), 4);
        assert!(asked(&filter, Table::Actions).is_none());
    }
}
