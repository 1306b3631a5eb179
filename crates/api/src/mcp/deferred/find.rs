//! What the tools of `/mcp` that look things up answer: text a model reads, as short as will do.

use std::fmt::Write as _;

use broker::BrokerError;
use broker::operations::calls::ToolResult;
use broker::operations::catalog::{CatalogItem, HelpRequest, ListCatalog, ListOffer};
use broker::operations::page::PageRequest;
use catalog::Kind;
use serde::Deserialize;
use serde_json::value::RawValue;
use transports::wire;

use super::part;
use super::tools::{FindTools, GetToolHelp, ListOffers};
use crate::mcp::visit::Visit;
use crate::routes::views;

/// Lines of an answer without a wish.
const DEFAULT_LINES: usize = 10;
/// Most lines of one answer: beyond it a better question helps more.
const MAX_LINES: usize = 50;

/// Names of the servers the asker may see.
pub(super) async fn servers(visit: &Visit) -> Result<Vec<String>, BrokerError> {
    let request = ListCatalog {
        page: first(1),
        ..ListCatalog::default()
    };
    let answer = visit.app.broker.list_catalog(&visit.asker, request).await?;
    let usable = answer
        .servers
        .into_iter()
        .filter(|status| status.state != "disabled");
    Ok(usable.map(|status| status.server).collect())
}

fn first(limit: usize) -> PageRequest {
    PageRequest {
        limit: Some(limit),
        cursor: None,
    }
}

/// `find_tools`: one line a tool.
pub(super) async fn find_tools(
    visit: &Visit,
    wanted: Result<FindTools, BrokerError>,
) -> Result<String, BrokerError> {
    let wanted = wanted?;
    let searched = wanted.queries.iter().any(|query| !query.trim().is_empty());
    let request = ListCatalog {
        queries: wanted.queries,
        server: wanted.server,
        kinds: vec![Kind::Tool],
        page: first(wanted.limit.unwrap_or(DEFAULT_LINES).clamp(1, MAX_LINES)),
        since: None,
    };
    let answer = visit.app.broker.list_catalog(&visit.asker, request).await?;
    let mut text = String::new();
    if answer.items.is_empty() {
        text.push_str(if searched {
            "No tool fits. Try other words, or no query to list all."
        } else {
            "There are no tools."
        });
    }
    for item in &answer.items {
        line(&mut text, item, " - ");
    }
    if answer.next_cursor.is_some() {
        text.push_str("There are more: name a server, be more specific, or raise limit.\n");
    }
    for status in answer
        .servers
        .iter()
        .filter(|status| status.state == "down")
    {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "The server {} cannot be reached now.", status.server);
    }
    Ok(text.trim_end().to_owned())
}

fn line(text: &mut String, item: &CatalogItem, dash: &str) {
    let entry = &item.entry;
    let _ = write!(text, "{}{}", entry.reference, entry.shape);
    if !entry.summary.is_empty() {
        let _ = write!(text, "{dash}{}", entry.summary);
    }
    for (there, mark) in [
        (
            entry.unsupported_schema.is_some(),
            " [cannot be called: unsupported schema]",
        ),
        (item.stale, " [may be out of date]"),
        (
            entry.kind == Kind::Tool && item.hints.destructive && !item.hints.read_only,
            " [may destroy]",
        ),
    ] {
        if there {
            text.push_str(mark);
        }
    }
    text.push('\n');
}

/// `get_tool_help`: whole definitions, as JSON.
pub(super) async fn get_tool_help(
    visit: &Visit,
    wanted: Result<GetToolHelp, BrokerError>,
) -> Result<String, BrokerError> {
    let wanted = wanted?;
    let request = HelpRequest {
        refs: wanted.refs,
        if_hash: wanted.if_hash,
    };
    let items = visit
        .app
        .broker
        .get_tool_help(&visit.asker, request)
        .await?;
    let items: Vec<_> = items.into_iter().map(views::help_item).collect();
    Ok(serde_json::to_string(&items).unwrap_or_default())
}

fn offer(wanted: ListOffers) -> ListOffer {
    ListOffer {
        server: wanted.server,
        page: PageRequest {
            limit: Some(MAX_LINES),
            cursor: wanted.cursor,
        },
    }
}

/// `list_resources`: resources, and with the first page the URI templates.
pub(super) async fn list_resources(
    visit: &Visit,
    wanted: Result<ListOffers, BrokerError>,
) -> Result<String, BrokerError> {
    let wanted = wanted?;
    let broker = &visit.app.broker;
    let mut text = String::new();
    if wanted.cursor.is_none() {
        let templates = ListOffer {
            server: wanted.server.clone(),
            page: first(MAX_LINES),
        };
        for item in broker
            .list_resource_templates(&visit.asker, templates)
            .await?
            .items
        {
            resource(&mut text, &item, " (template)");
        }
    }
    let page = broker.list_resources(&visit.asker, offer(wanted)).await?;
    for item in &page.items {
        resource(&mut text, item, "");
    }
    Ok(ended(text, page.next_cursor, "There are no resources."))
}

fn resource(text: &mut String, item: &CatalogItem, mark: &str) {
    let entry = &item.entry;
    let reference = &entry.reference;
    let _ = write!(text, "{} {}{mark}", reference.server, reference.name);
    if let Some(title) = &entry.title {
        let _ = write!(text, " - {title}");
    }
    if !entry.summary.is_empty() {
        let _ = write!(text, " - {}", entry.summary);
    }
    text.push('\n');
}

/// `list_prompts`.
pub(super) async fn list_prompts(
    visit: &Visit,
    wanted: Result<ListOffers, BrokerError>,
) -> Result<String, BrokerError> {
    let page = visit
        .app
        .broker
        .list_prompts(&visit.asker, offer(wanted?))
        .await?;
    let mut text = String::new();
    for item in &page.items {
        line(&mut text, item, " - ");
    }
    Ok(ended(text, page.next_cursor, "There are no prompts."))
}

fn ended(mut text: String, next: Option<String>, none: &str) -> String {
    if text.is_empty() {
        return none.to_owned();
    }
    if let Some(cursor) = next {
        let _ = writeln!(text, "More with cursor {cursor}");
    }
    text.trim_end().to_owned()
}

/// A resource's contents as content a model gets.
pub(super) fn contents(result: &ToolResult) -> Option<String> {
    let contents = part(result, "contents");
    let items: Vec<Box<RawValue>> = contents
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let blocks: Vec<String> = items
        .iter()
        .map(|item| format!(r#"{{"type":"resource","resource":{}}}"#, item.get()))
        .collect();
    around(result, &blocks)
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Box<RawValue>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "type")]
    kind: String,
    text: String,
}

/// A prompt's messages as content a model gets: who says what.
pub(super) fn messages(result: &ToolResult) -> Option<String> {
    let messages = part(result, "messages");
    let messages: Vec<Message> = messages
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let mut blocks = Vec::new();
    for message in messages {
        let text = serde_json::from_str::<Text>(message.content.get()).ok();
        if let Some(said) = text.filter(|text| text.kind == "text") {
            blocks.push(block(&format!("{}: {}", message.role, said.text)));
        } else {
            blocks.push(block(&format!("{}:", message.role)));
            blocks.push(message.content.get().to_owned());
        }
    }
    around(result, &blocks)
}

fn block(text: &str) -> String {
    format!(r#"{{"type":"text","text":{}}}"#, wire::raw_text(text))
}

/// A result of these blocks; one that is none yet (a server that asks back) is passed on as it is.
fn around(result: &ToolResult, blocks: &[String]) -> Option<String> {
    let complete = result
        .result_type()
        .is_none_or(|kind| kind == "\"complete\"");
    complete.then(|| format!(r#"{{"content":[{}]}}"#, blocks.join(",")))
}
