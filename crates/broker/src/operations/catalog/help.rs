//! `get_tool_help`: whole definitions of a few tools, with an example.

use std::sync::Arc;
use std::time::Duration;

use catalog::{Kind, Ref};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{CatalogItem, HelpItem, HelpRequest, MAX_HELP_REFS, ToolHelp};
use crate::asker::Asker;
use crate::catalogue::{Wanted, catalogue_caller};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::example::example;
use crate::operations::{Broker, Inner};
use crate::policy::{Decision, Subject};

/// Longest wait for servers that were never listed when help is asked.
const HELP_WAIT: Duration = Duration::from_secs(10);

impl Broker {
    /// Explains up to [`MAX_HELP_REFS`] tools, in the order asked.
    ///
    /// # Errors
    /// `invalid_request`, or `tool_not_found` when none of them exists.
    pub async fn get_tool_help(
        &self,
        asker: &Asker,
        request: HelpRequest,
    ) -> Result<Vec<HelpItem>, BrokerError> {
        if request.refs.is_empty() || request.refs.len() > MAX_HELP_REFS {
            let detail = format!("ref must be given 1 to {MAX_HELP_REFS} times");
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        }
        let inner = &self.inner;
        let deadline = Instant::now() + HELP_WAIT;
        let mut items = Vec::with_capacity(request.refs.len());
        let mut first_fault = None;
        for text in &request.refs {
            match inner.explain(asker, text, deadline).await {
                Ok(Some(help)) if known(&request.if_hash, &help) => {
                    items.push(HelpItem::Unchanged {
                        reference: text.clone(),
                        hash: help.item.entry.hash.short(),
                    });
                }
                Ok(Some(help)) => items.push(HelpItem::Tool(Box::new(help))),
                Ok(None) => items.push(HelpItem::Missing {
                    reference: text.clone(),
                    near: inner.near(asker, Kind::Tool, text).await,
                }),
                Err(fault) => {
                    first_fault.get_or_insert(fault);
                    items.push(HelpItem::Missing {
                        reference: text.clone(),
                        near: Vec::new(),
                    });
                }
            }
        }
        if items
            .iter()
            .all(|item| matches!(item, HelpItem::Missing { .. }))
        {
            return Err(match first_fault {
                Some(fault) => fault,
                None => inner.no_such_tool(asker, &request.refs[0]).await,
            });
        }
        Ok(items)
    }
}

/// A caller may know a hash short or long.
fn known(if_hash: &[String], help: &ToolHelp) -> bool {
    let hash = help.item.entry.hash.hex();
    let same = |one: &String| one.len() >= 12 && hash.starts_with(&one.to_ascii_lowercase());
    if_hash.iter().any(same)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    annotations: Option<&'a RawValue>,
}

impl Inner {
    async fn explain(
        &self,
        asker: &Asker,
        text: &str,
        deadline: Instant,
    ) -> Result<Option<ToolHelp>, BrokerError> {
        let who = &asker.principal;
        let Some(reference) = Ref::parse(text) else {
            return Ok(None);
        };
        let Some(server) = self.visible_server(who, &reference.server) else {
            return Ok(None);
        };
        let caller = catalogue_caller(&server, &who.user);
        let wanted = Wanted {
            caller: &caller,
            kind: Kind::Tool,
            reference: &reference,
            deadline,
        };
        let Some(entry) = self.catalogues.entry(&server, wanted).await? else {
            return Ok(None);
        };
        let hints = self.pins.hints(&server, &who.user, &entry);
        let subject = Subject {
            reference: &reference,
            hints,
            arguments: None,
        };
        if self.policy.now().decide(who, subject).decision == Decision::Hide {
            return Ok(None);
        }
        let slot = self.catalogues.slot_for(&server, &who.user);
        let item = CatalogItem {
            hints,
            score: None,
            stale: slot.shown().stale_since.is_some(),
            quarantined: self
                .pins
                .standing(&server, &who.user, &entry)
                .is_quarantined(),
            entry: Arc::clone(&entry),
        };
        Ok(Some(help(item)))
    }
}

fn help(item: CatalogItem) -> ToolHelp {
    let raw = Arc::clone(&item.entry.raw);
    let read = serde_json::from_str::<Definition<'_>>(raw.get()).unwrap_or(Definition {
        description: None,
        input_schema: None,
        output_schema: None,
        annotations: None,
    });
    ToolHelp {
        example: read
            .input_schema
            .map_or_else(|| serde_json::json!({}), example),
        description: read.description,
        input_schema: read.input_schema.map(RawValue::to_owned),
        output_schema: read.output_schema.map(RawValue::to_owned),
        annotations: read.annotations.map(RawValue::to_owned),
        item,
    }
}
