//! The broker's answers in the shape of the wire.

use std::time::SystemTime;

use broker::operations::calls::{CallView, ToolResult};
use broker::operations::catalog::{CatalogAnswer, CatalogItem, HelpItem, ServerStatus};
use broker::operations::page::Page;
use broker::operations::pins::PinView;
use broker::operations::servers::{ServerView, TestReport};
use broker::operations::sessions::SessionView;
use broker::{Fault, InputRequest};
use catalog::{Entry, Kind};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::problem;
use crate::wire;

/// `tool`, `resource`, `template`, `prompt`.
#[must_use]
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "tool",
        Kind::Resource => "resource",
        Kind::Template => "template",
        Kind::Prompt => "prompt",
    }
}

/// A page, each member turned.
pub fn page<T, U>(page: Page<T>, turn: impl FnMut(T) -> U) -> wire::Page<U> {
    wire::Page {
        items: page.items.into_iter().map(turn).collect(),
        next_cursor: page.next_cursor,
    }
}

/// `list_catalog`'s answer.
#[must_use]
pub fn catalog(found: CatalogAnswer, names_only: bool) -> wire::Catalog {
    let all = |items: Vec<CatalogItem>| {
        items
            .iter()
            .map(|item| catalog_item(item, names_only))
            .collect()
    };
    let mut answer = wire::Catalog {
        catalog_hash: found.catalog_hash,
        items: None,
        next_cursor: found.next_cursor,
        nothing_fits: found.nothing_fits,
        reset: found.reset,
        added: None,
        changed: None,
        removed: None,
        servers: found.servers.into_iter().map(server_state).collect(),
    };
    match found.delta {
        Some(delta) => {
            answer.added = Some(all(delta.added));
            answer.changed = Some(all(delta.changed));
            answer.removed = Some(delta.removed);
        }
        None => answer.items = Some(all(found.items)),
    }
    answer
}

fn catalog_item(item: &CatalogItem, names_only: bool) -> wire::CatalogItem {
    let entry = &item.entry;
    let mut shown = wire::CatalogItem {
        reference: entry.reference.to_string(),
        kind: kind_name(entry.kind).to_owned(),
        ..wire::CatalogItem::default()
    };
    if names_only {
        return shown;
    }
    shown.server = Some(entry.reference.server.to_string());
    shown.name = Some(entry.reference.name.to_string());
    shown.title.clone_from(&entry.title);
    shown.summary = Some(entry.summary.clone());
    shown.shape = Some(entry.shape.clone());
    shown.hash = Some(entry.hash.short());
    shown.hints = (entry.kind == Kind::Tool).then(|| hints(item));
    shown.score = item.score;
    shown.stale = item.stale;
    shown.flagged = entry.flagged;
    shown.flags = flags(item);
    shown.quarantined = item.quarantined;
    shown
        .unsupported_schema
        .clone_from(&entry.unsupported_schema);
    shown
}

fn flags(item: &CatalogItem) -> Vec<String> {
    let told = [
        (item.entry.flagged, "invisible_text"),
        (item.entry.look_alike, "look_alike"),
        (item.quarantined, "quarantined"),
    ];
    let told = told.iter().filter(|(is, _)| *is);
    told.map(|(_, flag)| (*flag).to_owned()).collect()
}

fn hints(item: &CatalogItem) -> wire::Hints {
    wire::Hints {
        read_only: item.hints.read_only,
        destructive: item.hints.destructive,
        idempotent: item.hints.idempotent,
        open_world: item.hints.open_world,
    }
}

fn server_state(status: ServerStatus) -> wire::ServerState {
    wire::ServerState {
        server: status.server,
        state: status.state.to_owned(),
        era: status.era.map(str::to_owned),
        tools: status.tools,
        stale_since: status.stale_since,
        last_error: status.last_error,
        truncated: status.truncated,
    }
}

/// One tool explained.
#[must_use]
pub fn help_item(item: HelpItem) -> wire::HelpItem {
    match item {
        HelpItem::Unchanged { reference, hash } => wire::HelpItem {
            reference,
            unchanged: true,
            hash: Some(hash),
            ..wire::HelpItem::default()
        },
        HelpItem::Missing { reference, near } => wire::HelpItem {
            reference,
            missing: true,
            near,
            ..wire::HelpItem::default()
        },
        HelpItem::Tool(help) => {
            let entry = &help.item.entry;
            wire::HelpItem {
                reference: entry.reference.to_string(),
                hash: Some(entry.hash.short()),
                title: entry.title.clone(),
                shape: Some(entry.shape.clone()),
                hints: Some(hints(&help.item)),
                stale: help.item.stale,
                flagged: entry.flagged,
                flags: flags(&help.item),
                quarantined: help.item.quarantined,
                unsupported_schema: entry.unsupported_schema.clone(),
                description: help.description,
                input_schema: help.input_schema,
                output_schema: help.output_schema,
                annotations: help.annotations,
                example: Some(help.example),
                ..wire::HelpItem::default()
            }
        }
    }
}

/// What a listed resource, template or prompt tells besides its compact form; read leniently.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Told {
    name: Option<String>,
    mime_type: Option<String>,
    size: Option<u64>,
    arguments: Option<Box<RawValue>>,
}

fn told(entry: &Entry) -> Told {
    // Another server's odd types cost only these extras, never the entry.
    serde_json::from_str(entry.raw.get()).unwrap_or_default()
}

/// A listed resource.
#[must_use]
pub fn resource(item: &CatalogItem) -> wire::Resource {
    let entry = &item.entry;
    let told = told(entry);
    wire::Resource {
        server: entry.reference.server.to_string(),
        uri: entry.reference.name.to_string(),
        name: told.name,
        title: entry.title.clone(),
        summary: entry.summary.clone(),
        mime_type: told.mime_type,
        size_bytes: told.size,
        hash: entry.hash.short(),
        stale: item.stale,
    }
}

/// A listed template.
#[must_use]
pub fn template(item: &CatalogItem) -> wire::ResourceTemplate {
    let entry = &item.entry;
    let told = told(entry);
    wire::ResourceTemplate {
        server: entry.reference.server.to_string(),
        uri_template: entry.reference.name.to_string(),
        name: told.name,
        title: entry.title.clone(),
        summary: entry.summary.clone(),
        mime_type: told.mime_type,
        hash: entry.hash.short(),
        stale: item.stale,
    }
}

/// A listed prompt.
#[must_use]
pub fn prompt(item: &CatalogItem) -> wire::Prompt {
    let entry = &item.entry;
    wire::Prompt {
        reference: entry.reference.to_string(),
        server: entry.reference.server.to_string(),
        name: entry.reference.name.to_string(),
        title: entry.title.clone(),
        summary: entry.summary.clone(),
        shape: entry.shape.clone(),
        arguments: told(entry).arguments,
        hash: entry.hash.short(),
        stale: item.stale,
    }
}

fn input_request(asked: InputRequest) -> wire::InputRequest {
    wire::InputRequest {
        key: asked.key,
        method: asked.method,
        params: asked.params,
    }
}

/// A call as its owner sees it later.
#[must_use]
pub fn call(view: CallView) -> wire::Call {
    let instance = format!("/v1/calls/{}", view.call_id);
    let error = view
        .fault
        .as_ref()
        .map(|fault| Box::new(problem::of(fault, &instance, &view.trace_id)));
    wire::Call {
        call_id: view.call_id,
        reference: view.reference,
        kind: view.kind.to_owned(),
        user: view.user,
        lane: view.lane,
        state: view.state.as_str().to_owned(),
        trace_id: view.trace_id,
        session_id: view.session_id,
        agent_id: view.agent_id,
        schema_hash: view.schema_hash,
        idempotency_key: view.idempotency_key,
        input_requests: view.input_requests.into_iter().map(input_request).collect(),
        created_at: view.created_at,
        ended_at: view.ended_at,
        duration_ms: view.duration_ms,
        result: view.result.as_deref().map(call_result),
        error,
    }
}

fn call_result(result: &ToolResult) -> wire::CallResult {
    wire::CallResult {
        is_error: result.is_error(),
        content: raw(result.content()).unwrap_or_else(empty_list),
        structured_content: raw(result.structured_content()),
        meta: raw(result.meta()),
    }
}

fn raw(text: Option<&str>) -> Option<Box<RawValue>> {
    RawValue::from_string(text?.to_owned()).ok()
}

fn empty_list() -> Box<RawValue> {
    serde_json::value::to_raw_value::<[(); 0]>(&[]).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A session; `whole` adds what lists leave out.
#[must_use]
pub fn session(view: SessionView, whole: bool) -> wire::Session {
    let shown = view.inspection;
    wire::Session {
        session_id: shown.id.to_string(),
        server: shown.key.server.to_string(),
        workspace: shown.key.workspace.to_string(),
        user: shown.key.user.map(String::from),
        lane: shown.key.lane.map(String::from),
        isolation: word(&shown.isolation),
        sharing: view.sharing,
        state: word(&shown.state),
        since: time(shown.since),
        opened_at: time(shown.opened_at),
        era: shown.era.map(|era| word(&era)),
        protocol_version: shown.protocol_version,
        transport: shown.transport.map(str::to_owned),
        process: shown.process.map(|process| wire::session::Process {
            pid: process.pid,
            pgid: Some(process.pgid),
            supervision: word(&process.supervision),
            sandbox: Some(wire::session::SandboxView {
                asked: word(&process.sandbox.asked),
                reached: word(&process.sandbox.reached),
                lacking: process.sandbox.lacking,
            }),
            rss_bytes: process.rss_bytes,
        }),
        in_flight: shown.in_flight,
        reconnects: shown.reconnects,
        last_ping: shown.last_ping.map(time),
        last_error: shown.last_error,
        expires_at: shown.expires_at.map(time),
        catalog_hash: view.catalog_hash,
        circuit: view.circuit.map(circuit),
        stderr: if whole { shown.stderr } else { Vec::new() },
    }
}

/// The snake-case name of a unit variant.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn time(at: SystemTime) -> String {
    moment(DateTime::<Utc>::from(at))
}

/// RFC 3339, UTC, milliseconds.
#[must_use]
pub fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A server as people see it.
#[must_use]
pub fn server(view: ServerView) -> wire::Server {
    wire::Server {
        name: view.name.to_string(),
        workspace: view.workspace,
        version: view.version,
        source: view.source.to_owned(),
        definition: serde_json::to_value(&view.definition).unwrap_or_default(),
        created_at: view.created_at,
        created_by: view.created_by,
        circuit: view.circuit.map(circuit),
    }
}

/// One tool and its pin.
#[must_use]
pub fn pin(view: PinView) -> wire::Pin {
    wire::Pin {
        reference: view.reference,
        state: view.state.to_owned(),
        hash: view.hash,
        pinned_hash: view.pinned_hash,
        pinned_at: view.pinned_at,
        approved_by: view.approved_by,
        differences: view
            .differences
            .into_iter()
            .map(|one| wire::Complaint {
                pointer: one.pointer,
                detail: one.detail,
            })
            .collect(),
    }
}

fn circuit(view: broker::CircuitView) -> wire::Circuit {
    wire::Circuit {
        state: view.state.to_owned(),
        retry_after_ms: view
            .retry_after
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// What a test found.
#[must_use]
pub fn test_report(report: &TestReport, instance: &str, trace_id: &str) -> wire::TestReport {
    let told = |fault: &Fault| Box::new(problem::of(fault, instance, trace_id));
    wire::TestReport {
        ok: report.ok,
        era: report.era.map(str::to_owned),
        protocol_version: report.protocol_version.clone(),
        transport: report.transport.map(str::to_owned),
        tools: report.tools,
        resources: report.resources,
        templates: report.templates,
        prompts: report.prompts,
        duration_ms: report.duration_ms,
        error: report.fault.as_deref().map(told),
    }
}
