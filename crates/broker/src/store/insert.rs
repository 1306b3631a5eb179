//! INSERTs of the ledger and of runs of events: the columns, and how values are bound to them.

use std::sync::Arc;

use sessions::SessionId;
use sqlx::{Any, AssertSqlSafe, Transaction, query_with};

use super::bulk::{Bulk, Values};
use super::db::Kind;
use super::event_log::Run;
use super::gathered::Record;
use super::ms;
use crate::audit::Link;
use crate::call_state::CallState;
use crate::ledger::{Intent, Settled};

/// What every row of a call says of its own.
const OWN: &str = "id, trace_id, arguments_digest, created_ms, ended_ms, duration_ms, seq, hash";
/// How many those are.
const OWN_COLUMNS: usize = 8;
/// What calls of one tool by one user say alike.
const COMMON: &str = "workspace, user_id, key_id, kind, reference, lane, preview, schema_hash, session_id, state, \
     node, agent_id, chain";
/// How many those are.
const COMMON_COLUMNS: usize = 13;
/// What a fault adds.
const FAULT: &str = "code, fault";
/// What a plain read-only call leaves at its default.
const MORE: &str = "idempotency_key, request_digest, read_only, detached, result, deadline_ms, \
     approval_id";
/// How many a plain call has, and any call.
const PLAIN_COLUMNS: usize = OWN_COLUMNS + COMMON_COLUMNS + 2;
const ALL_COLUMNS: usize = PLAIN_COLUMNS + 7;
/// Calls that are alike are written as such from here on; for fewer it is not worth statements of their own.
const FEW: usize = 8;
/// Kinds of calls looked for in one part: each call is held against each. A bridge busy with one thing gains much;
/// one busy with everything must not lose.
const GROUPS: usize = 8;
/// A run of events.
const RUN_COLUMNS: usize = 6;
/// A batch that was committed although its answer was lost comes again.
const ONCE: &str = "ON CONFLICT DO NOTHING";

/// A row of a finished call with its place in the audit chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'r> {
    pub(super) record: &'r Record,
    pub(super) link: Link,
}

/// Who writes: the columns of every row of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writes<'a> {
    pub(super) node: &'a str,
    pub(super) chain: &'a str,
}

/// The statements, made once.
#[derive(Debug)]
pub(super) struct Inserts {
    intent: Bulk,
    alike: Bulk,
    plain: Bulk,
    full: Bulk,
    run: Bulk,
}

impl Inserts {
    pub(super) fn new(kind: Kind) -> Self {
        let all = format!("INSERT INTO calls ({OWN}, {COMMON}, {FAULT}, {MORE}) VALUES");
        let plain = format!("INSERT INTO calls ({OWN}, {COMMON}, {FAULT}) VALUES");
        let alike = format!("INSERT INTO calls ({OWN}, {COMMON})");
        let columns = (OWN_COLUMNS, COMMON_COLUMNS);
        let run =
            "INSERT INTO events (workspace, last_id, first_id, first_ms, last_ms, body) VALUES";
        Self {
            // An intent's id is new, or something is wrong.
            intent: Bulk::new(kind, &all, ALL_COLUMNS, ""),
            alike: Bulk::alike(kind, &alike, columns, ONCE),
            plain: Bulk::new(kind, &plain, PLAIN_COLUMNS, ONCE),
            full: Bulk::new(kind, &all, ALL_COLUMNS, ONCE),
            run: Bulk::new(kind, run, RUN_COLUMNS, ONCE),
        }
    }

    /// The row of a call that begins.
    pub(super) async fn intent(
        &self,
        tx: &mut Transaction<'_, Any>,
        (intent, state): (&Intent, CallState),
        node: &str,
    ) -> Result<(), sqlx::Error> {
        for (text, _) in self.intent.cut(&[intent]) {
            let mut values = Values::with_capacity(ALL_COLUMNS);
            bind_own(&mut values, intent, None);
            bind_common(&mut values, intent, (state, None));
            bind_writes(&mut values, intent, (node, None));
            bind_fault(&mut values, None);
            bind_more(&mut values, intent, None);
            run(tx, text, values).await?;
        }
        Ok(())
    }

    /// Whole rows: calls that needed no intent. How many were new: a row that is there already stays as it is.
    pub(super) async fn finished(
        &self,
        tx: &mut Transaction<'_, Any>,
        rows: &[Placed<'_>],
        writes: Writes<'_>,
    ) -> Result<u64, sqlx::Error> {
        let mut new = 0;
        let (groups, mut plain, full) = sort(rows);
        for group in groups {
            if group.len() < FEW {
                plain.extend(group);
            } else {
                new += self.alike(tx, &group, writes).await?;
            }
        }
        // In the order of the primary key.
        plain.sort_by_key(|row| row.record.intent.id);
        for (text, some) in self.plain.cut(&plain) {
            let mut values = Values::with_capacity(some.len() * PLAIN_COLUMNS);
            for row in some {
                bind_row(&mut values, row, writes);
            }
            new += run(tx, text, values).await?;
        }
        for (text, some) in self.full.cut(&full) {
            let mut values = Values::with_capacity(some.len() * ALL_COLUMNS);
            for row in some {
                bind_row(&mut values, row, writes);
                let Record {
                    intent, settled, ..
                } = row.record;
                bind_more(&mut values, intent, settled.result.as_deref());
            }
            new += run(tx, text, values).await?;
        }
        Ok(new)
    }

    async fn alike(
        &self,
        tx: &mut Transaction<'_, Any>,
        group: &[Placed<'_>],
        writes: Writes<'_>,
    ) -> Result<u64, sqlx::Error> {
        let mut new = 0;
        for (text, some) in self.alike.cut(group) {
            let mut values = Values::with_capacity(some.len() * OWN_COLUMNS + COMMON_COLUMNS);
            for Placed { record, link } in some {
                bind_own(&mut values, &record.intent, Some((&record.settled, *link)));
            }
            if let Some(Record {
                intent, settled, ..
            }) = some.first().map(|row| row.record)
            {
                bind_common(&mut values, intent, (settled.state, settled.session_id));
                bind_writes(&mut values, intent, (writes.node, Some(writes.chain)));
            }
            new += run(tx, text, values).await?;
        }
        Ok(new)
    }

    /// Runs of events.
    pub(super) async fn runs(
        &self,
        tx: &mut Transaction<'_, Any>,
        runs: &[&Run],
    ) -> Result<(), sqlx::Error> {
        for (text, some) in self.run.cut(runs) {
            let mut values = Values::with_capacity(some.len() * RUN_COLUMNS);
            for run in some {
                values.text(run.workspace.as_str());
                values.number(run.last_id);
                values.number(run.first_id);
                values.number(run.first_ms);
                values.number(run.last_ms);
                values.text(run.body.as_str());
            }
            run(tx, text, values).await?;
        }
        Ok(())
    }
}

async fn run(
    tx: &mut Transaction<'_, Any>,
    text: Arc<str>,
    values: Values,
) -> Result<u64, sqlx::Error> {
    let query = query_with(AssertSqlSafe(text), values.done());
    Ok(query.execute(&mut **tx).await?.rows_affected())
}

/// Whether a row leaves everything at its default that may be.
fn is_plain(record: &Record) -> bool {
    !record.intent.is_durable() && record.settled.result.is_none()
}

/// Calls that are alike, plain ones, and those that say more.
fn sort<'r>(rows: &[Placed<'r>]) -> (Vec<Vec<Placed<'r>>>, Vec<Placed<'r>>, Vec<Placed<'r>>) {
    let mut groups: Vec<Vec<Placed<'_>>> = Vec::new();
    let (mut plain, mut full) = (Vec::new(), Vec::new());
    for row in rows.iter().copied() {
        let record = row.record;
        if !is_plain(record) {
            full.push(row);
            continue;
        }
        let settled = &record.settled;
        let of_kind = |group: &&mut Vec<Placed<'_>>| {
            group.first().is_some_and(|one| alike(one.record, record))
        };
        if settled.code.is_some() || settled.fault.is_some() {
            plain.push(row);
        } else if let Some(group) = groups.iter_mut().find(of_kind) {
            group.push(row);
        } else if groups.len() < GROUPS {
            groups.push(vec![row]);
        } else {
            plain.push(row);
        }
    }
    (groups, plain, full)
}

/// Whether two calls have everything of [`COMMON`] in common; what differs most is looked at first.
fn alike(one: &Record, other: &Record) -> bool {
    let (one_end, other_end) = (&one.settled, &other.settled);
    let (one, other) = (&one.intent, &other.intent);
    one_end.session_id == other_end.session_id
        && one.reference == other.reference
        && one.user == other.user
        && one.key_id == other.key_id
        && one.lane == other.lane
        && one.preview == other.preview
        && one.schema_hash == other.schema_hash
        && one.workspace == other.workspace
        && one.kind == other.kind
        && one.agent_id == other.agent_id
        && one_end.state == other_end.state
}

fn bind_row(values: &mut Values, row: &Placed<'_>, writes: Writes<'_>) {
    let Record {
        intent, settled, ..
    } = row.record;
    bind_own(values, intent, Some((settled, row.link)));
    bind_common(values, intent, (settled.state, settled.session_id));
    bind_writes(values, intent, (writes.node, Some(writes.chain)));
    bind_fault(values, Some(settled));
}

fn bind_own(values: &mut Values, intent: &Intent, end: Option<(&Settled, Link)>) {
    let duration = |settled: &Settled| i64::try_from(settled.duration_ms).unwrap_or(i64::MAX);
    values.text(intent.id.to_string());
    values.text(intent.trace_id.as_str());
    values.text(catalog::Hash(intent.arguments_digest).hex());
    values.number(ms(intent.created_at));
    values.maybe_number(end.map(|(settled, _)| ms(settled.ended_at)));
    values.maybe_number(end.map(|(settled, _)| duration(settled)));
    values.maybe_number(end.map(|(_, link)| seq(link)));
    values.maybe_text(end.map(|(_, link)| link.hash.hex()));
}

/// A number of an entry, as it stands in the store.
pub(super) fn seq(link: Link) -> i64 {
    i64::try_from(link.seq).unwrap_or(i64::MAX)
}

fn bind_common(values: &mut Values, intent: &Intent, end: (CallState, Option<SessionId>)) {
    let (state, session) = end;
    values.text(intent.workspace.as_str());
    values.text(intent.user.as_str());
    values.text(intent.key_id.as_str());
    values.text(intent.kind.as_str());
    values.text(intent.reference.as_str());
    values.text(intent.lane.as_str());
    values.text(intent.preview.as_str());
    values.maybe_text(intent.schema_hash.map(|hash| hash.hex()));
    values.maybe_text(session.map(|id| id.to_string()));
    values.text(state.as_str());
}

/// The rest of [`COMMON`]: who writes the row, and who runs the call.
fn bind_writes(values: &mut Values, intent: &Intent, (node, chain): (&str, Option<&str>)) {
    values.text(node);
    values.maybe_text(intent.agent_id.as_deref());
    values.maybe_text(chain);
}

fn bind_fault(values: &mut Values, settled: Option<&Settled>) {
    values.maybe_text(settled.and_then(|settled| settled.code));
    values.maybe_text(settled.and_then(|settled| settled.fault.as_deref()));
}

fn bind_more(values: &mut Values, intent: &Intent, result: Option<&str>) {
    values.maybe_text(intent.idempotency_key.as_deref());
    values.text(catalog::Hash(intent.request_digest).hex());
    values.number(i64::from(intent.read_only));
    values.number(i64::from(intent.detached));
    values.maybe_text(result);
    values.maybe_number(intent.deadline_at.map(ms));
    values.maybe_text(intent.approval_id.as_deref());
}
