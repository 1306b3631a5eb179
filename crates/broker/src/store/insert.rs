//! INSERTs of the ledger and of runs of events: the columns, and how values are bound to them.

use std::sync::Arc;

use sessions::SessionId;
use sqlx::{Any, AssertSqlSafe, Transaction, query_with};

use super::bulk::{Bulk, Values};
use super::db::Kind;
use super::event_log::Run;
use super::gathered::Record;
use super::ms;
use crate::call_state::CallState;
use crate::ledger::{Intent, Settled};

/// What every row of a call says of its own.
const OWN: &str = "id, trace_id, arguments_digest, created_ms, ended_ms, duration_ms";
/// How many those are.
const OWN_COLUMNS: usize = 6;
/// What calls of one tool by one user say alike.
const COMMON: &str = "workspace, user_id, key_id, kind, reference, lane, preview, schema_hash, session_id, state, \
     node, agent_id";
/// How many those are.
const COMMON_COLUMNS: usize = 12;
/// What a fault adds.
const FAULT: &str = "code, fault";
/// What a plain read-only call leaves at its default.
const MORE: &str = "idempotency_key, request_digest, read_only, detached, result, deadline_ms";
/// How many a plain call has, and any call.
const PLAIN_COLUMNS: usize = OWN_COLUMNS + COMMON_COLUMNS + 2;
const ALL_COLUMNS: usize = PLAIN_COLUMNS + 6;
/// Calls that are alike are written as such from here on; for fewer it is not worth statements of their own.
const FEW: usize = 8;
/// Kinds of calls looked for in one part: each call is held against each. A bridge busy with one thing gains much;
/// one busy with everything must not lose.
const GROUPS: usize = 8;
/// A run of events.
const RUN_COLUMNS: usize = 6;
/// A batch that was committed although its answer was lost comes again.
const ONCE: &str = "ON CONFLICT DO NOTHING";

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
        intent: &Intent,
        node: &str,
    ) -> Result<(), sqlx::Error> {
        for (text, _) in self.intent.cut(&[intent]) {
            let mut values = Values::with_capacity(ALL_COLUMNS);
            bind_own(&mut values, intent, None);
            bind_common(&mut values, intent, (CallState::Dispatched, None), node);
            bind_fault(&mut values, None);
            bind_more(&mut values, intent, None);
            run(tx, text, values).await?;
        }
        Ok(())
    }

    /// Whole rows: calls that needed no intent.
    pub(super) async fn finished(
        &self,
        tx: &mut Transaction<'_, Any>,
        records: &[&Record],
        node: &str,
    ) -> Result<(), sqlx::Error> {
        let (groups, mut plain, full) = sort(records);
        for group in groups {
            if group.len() < FEW {
                plain.extend(group);
            } else {
                self.alike(tx, &group, node).await?;
            }
        }
        // In the order of the primary key.
        plain.sort_by_key(|record| record.intent.id);
        for (text, some) in self.plain.cut(&plain) {
            let mut values = Values::with_capacity(some.len() * PLAIN_COLUMNS);
            for record in some {
                bind_record(&mut values, record, node);
            }
            run(tx, text, values).await?;
        }
        for (text, some) in self.full.cut(&full) {
            let mut values = Values::with_capacity(some.len() * ALL_COLUMNS);
            for record in some {
                bind_record(&mut values, record, node);
                bind_more(
                    &mut values,
                    &record.intent,
                    record.settled.result.as_deref(),
                );
            }
            run(tx, text, values).await?;
        }
        Ok(())
    }

    async fn alike(
        &self,
        tx: &mut Transaction<'_, Any>,
        group: &[&Record],
        node: &str,
    ) -> Result<(), sqlx::Error> {
        for (text, some) in self.alike.cut(group) {
            let mut values = Values::with_capacity(some.len() * OWN_COLUMNS + COMMON_COLUMNS);
            for record in some {
                bind_own(&mut values, &record.intent, Some(&record.settled));
            }
            if let Some(Record {
                intent, settled, ..
            }) = some.first()
            {
                bind_common(
                    &mut values,
                    intent,
                    (settled.state, settled.session_id),
                    node,
                );
            }
            run(tx, text, values).await?;
        }
        Ok(())
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
) -> Result<(), sqlx::Error> {
    let query = query_with(AssertSqlSafe(text), values.done());
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Whether a row leaves everything at its default that may be.
fn is_plain(record: &Record) -> bool {
    !record.intent.is_durable() && record.settled.result.is_none()
}

/// Calls that are alike, plain ones, and those that say more.
fn sort<'r>(records: &[&'r Record]) -> (Vec<Vec<&'r Record>>, Vec<&'r Record>, Vec<&'r Record>) {
    let mut groups: Vec<Vec<&Record>> = Vec::new();
    let (mut plain, mut full) = (Vec::new(), Vec::new());
    for record in records.iter().copied() {
        if !is_plain(record) {
            full.push(record);
            continue;
        }
        let settled = &record.settled;
        let of_kind =
            |group: &&mut Vec<&Record>| group.first().is_some_and(|one| alike(one, record));
        if settled.code.is_some() || settled.fault.is_some() {
            plain.push(record);
        } else if let Some(group) = groups.iter_mut().find(of_kind) {
            group.push(record);
        } else if groups.len() < GROUPS {
            groups.push(vec![record]);
        } else {
            plain.push(record);
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

fn bind_record(values: &mut Values, record: &Record, node: &str) {
    let (intent, settled) = (&record.intent, &record.settled);
    bind_own(values, intent, Some(settled));
    bind_common(values, intent, (settled.state, settled.session_id), node);
    bind_fault(values, Some(settled));
}

fn bind_own(values: &mut Values, intent: &Intent, settled: Option<&Settled>) {
    let duration = |settled: &Settled| i64::try_from(settled.duration_ms).unwrap_or(i64::MAX);
    values.text(intent.id.to_string());
    values.text(intent.trace_id.as_str());
    values.text(catalog::Hash(intent.arguments_digest).hex());
    values.number(ms(intent.created_at));
    values.maybe_number(settled.map(|settled| ms(settled.ended_at)));
    values.maybe_number(settled.map(duration));
}

fn bind_common(
    values: &mut Values,
    intent: &Intent,
    (state, session): (CallState, Option<SessionId>),
    node: &str,
) {
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
    values.text(node);
    values.maybe_text(intent.agent_id.as_deref());
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
}
