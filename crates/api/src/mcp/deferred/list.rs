//! The list of `/mcp`: tools to find all others, or, where there are few, the tools themselves.

use std::collections::HashSet;
use std::sync::Arc;

use broker::BrokerError;
use broker::operations::catalog::{CatalogItem, ListCatalog};
use broker::operations::page::PageRequest;
use catalog::{Entry, Kind, Ref};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use transports::{Params, wire};

use super::tools;
use crate::mcp::capabilities::object;
use crate::mcp::tasks::supported;
use crate::mcp::visit::Visit;

/// Up to this many tools in all a detour costs more than it saves.
const FEW: usize = 8;
/// Longest name hosts take (`^[a-zA-Z0-9_-]{1,64}$` is the narrowest rule among them).
const MAX_ALIAS_BYTES: usize = 64;
/// Hex digits that tell two long names apart.
const TELLING_DIGITS: usize = 8;

/// The `tools` member: a JSON array.
///
/// # Errors
/// `internal`.
pub(super) async fn tools(visit: &Visit) -> Result<String, BrokerError> {
    let few = entries(visit, Kind::Tool, FEW + 1).await?;
    let whole = few.len() <= FEW;
    let as_tasks = visit.client.revision().has_core_tasks();
    let mut list = String::from("[");
    if whole {
        // A quarantined text may be just what it is quarantined for.
        for item in few.iter().filter(|item| !item.quarantined) {
            push(&mut list, &direct(&item.entry, as_tasks));
        }
        if offers(visit).await? {
            push(&mut list, tools::OFFERS);
        }
    } else {
        push(&mut list, &tools::discovery(as_tasks));
        push(&mut list, tools::OFFERS);
        for definition in exposed(visit, as_tasks) {
            push(&mut list, &definition);
        }
    }
    list.push(']');
    Ok(list)
}

/// Whether tools are found rather than listed.
pub(super) async fn is_deferred(visit: &Visit) -> Result<bool, BrokerError> {
    Ok(entries(visit, Kind::Tool, FEW + 1).await?.len() > FEW)
}

async fn offers(visit: &Visit) -> Result<bool, BrokerError> {
    for kind in [Kind::Resource, Kind::Template, Kind::Prompt] {
        if !entries(visit, kind, 1).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn entries(visit: &Visit, kind: Kind, limit: usize) -> Result<Vec<CatalogItem>, BrokerError> {
    let request = ListCatalog {
        kinds: vec![kind],
        page: PageRequest {
            limit: Some(limit),
            cursor: None,
        },
        ..ListCatalog::default()
    };
    Ok(visit
        .app
        .broker
        .list_catalog(&visit.asker, request)
        .await?
        .items)
}

fn push(list: &mut String, item: &str) {
    if list.len() > 1 {
        list.push(',');
    }
    list.push_str(item);
}

/// Tools chosen by the URL or by the servers' owners, each once.
fn chosen(visit: &Visit) -> Vec<Ref> {
    let mut refs = visit.wish.expose.clone();
    refs.extend(visit.app.broker.always_exposed(&visit.asker));
    let mut seen = HashSet::new();
    let once = refs.into_iter().filter(|text| seen.insert(text.clone()));
    once.filter_map(|text| Ref::parse(&text)).collect()
}

/// Their definitions. What does not exist is not listed.
fn exposed(visit: &Visit, as_tasks: bool) -> Vec<String> {
    let broker = &visit.app.broker;
    let definition = |reference: Ref| {
        if broker.is_quarantined(&visit.asker, &reference.server, &reference.name) {
            return None;
        }
        let raw = broker.tool_definition(&visit.asker, &reference.server, &reference.name)?;
        Some(shown(&raw, &alias(&reference), as_tasks))
    };
    chosen(visit).into_iter().filter_map(definition).collect()
}

fn direct(entry: &Arc<Entry>, as_tasks: bool) -> String {
    shown(&entry.raw, &alias(&entry.reference), as_tasks)
}

/// A definition under its name here; to whom the bridge gives its tasks, as one that may be run as a task.
fn shown(raw: &RawValue, name: &str, as_tasks: bool) -> String {
    if as_tasks {
        renamed(&supported(raw), name)
    } else {
        renamed(raw, name)
    }
}

/// A definition under another name, everything else as the server wrote it.
fn renamed(raw: &RawValue, name: &str) -> String {
    let members = Params::from_raw(raw).0.into_iter().map(|(key, value)| {
        let value = if key == "name" {
            wire::raw_text(name)
        } else {
            value
        };
        (key, value)
    });
    object(members).get().to_owned()
}

/// The name a tool is listed under: `server__tool`, in the characters every host takes.
pub(super) fn alias(reference: &Ref) -> String {
    let takes = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let plain = reference.name.chars().all(takes);
    let tool: String = reference
        .name
        .chars()
        .map(|c| if takes(c) { c } else { '_' })
        .collect();
    let mut alias = format!("{}__{tool}", reference.server);
    if plain && alias.len() <= MAX_ALIAS_BYTES {
        return alias;
    }
    // Two names may look alike once they are cut or cleaned: a few digits of the whole tell them apart.
    let digest = Sha256::digest(reference.to_string().as_bytes());
    alias.truncate(MAX_ALIAS_BYTES - TELLING_DIGITS - 1);
    alias.push('_');
    alias.push_str(&hex::encode(&digest[..TELLING_DIGITS / 2]));
    alias
}

/// The tool a listed name means.
pub(super) async fn meant(visit: &Visit, name: &str) -> Option<Ref> {
    let broker = &visit.app.broker;
    let known = |reference: &Ref| {
        broker
            .tool_definition(&visit.asker, &reference.server, &reference.name)
            .is_some()
    };
    // A server's name holds neither dots nor underscores.
    let reference = match name.split_once("__") {
        Some((server, tool)) => Ref::parse(&format!("{server}.{tool}")),
        None => Ref::parse(name),
    }?;
    if known(&reference) && (alias(&reference) == name || !name.contains("__")) {
        return Some(reference);
    }
    // An odd name can be told only from the tools that are listed under one.
    let listed = chosen(visit).into_iter().find(|one| alias(one) == name);
    if listed.is_some() {
        return listed;
    }
    let few = entries(visit, Kind::Tool, FEW).await.ok()?;
    let item = few
        .iter()
        .find(|item| alias(&item.entry.reference) == name)?;
    Some(item.entry.reference.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_every_host_takes_and_stay_apart() {
        let named = |text: &str| alias(&Ref::parse(text).unwrap());
        assert_eq!(named("files.read_text"), "files__read_text");
        let dotted = [named("files.a.b"), named("files.a_b"), named("files.a/b")];
        assert_eq!(dotted.iter().collect::<HashSet<_>>().len(), 3, "{dotted:?}");
        let long = named(&format!("files.{}", "x".repeat(200)));
        for alias in dotted.iter().chain([&long, &named("files.Zürich")]) {
            assert!(alias.len() <= MAX_ALIAS_BYTES, "{alias}");
            assert!(
                alias
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
                "{alias}"
            );
        }
    }

    #[test]
    fn a_renamed_definition_keeps_everything_else() {
        let raw = r#"{"name":"a","inputSchema":{"x":1.0},"execution":{"taskSupport":"optional"}}"#;
        let raw = RawValue::from_string(raw.to_owned()).unwrap();
        assert_eq!(
            renamed(&raw, "s__a"),
            r#"{"name":"s__a","inputSchema":{"x":1.0},"execution":{"taskSupport":"optional"}}"#
        );
    }
}
