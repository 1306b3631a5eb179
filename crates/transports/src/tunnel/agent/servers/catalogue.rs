//! What one server offers, read over its connection with every entry as it came.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::filter::Filter;
use crate::connection::Connection;
use crate::error::RequestError;
use crate::tunnel::frame::{Lists, ServerTools};
use crate::wire::{Params, Request};

/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pages of one list; a server that goes on for ever is cut here.
const MAX_PAGES: usize = 200;
/// Entries of one list.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of one server's lists together. All servers' together must fit one TOOLS of 16 MiB.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// "Method not found": the server has no such list, whatever it said.
const NO_SUCH_METHOD: i64 = -32601;

/// The four lists: method, member, and the capability that says that there is one.
const LISTS: [(&str, &str, &str); 4] = [
    ("tools/list", "tools", "tools"),
    ("resources/list", "resources", "resources"),
    ("resources/templates/list", "resourceTemplates", "resources"),
    ("prompts/list", "prompts", "prompts"),
];

/// Reads all that a server offers. The flag says that a bound cut it.
///
/// # Errors
/// The first list that could not be read.
pub(super) async fn read(
    connection: &Connection,
    server: &str,
    filter: &Filter,
) -> Result<(ServerTools, bool), RequestError> {
    let info = connection.info();
    let capabilities = Params::from_raw(&info.capabilities);
    let mut lists = [const { Vec::new() }; 4];
    let mut room = Room {
        bytes: MAX_BYTES,
        cut: false,
    };
    for ((method, member, capability), list) in LISTS.into_iter().zip(&mut lists) {
        // Old servers offer tools without saying so.
        if capabilities.get(capability).is_some() || capability == "tools" {
            *list = read_list(connection, (method, member), &mut room).await?;
        }
    }
    let [mut tools, resources, templates, prompts] = lists;
    tools.retain(|entry| filter.offers_entry(entry));
    let offered = ServerTools {
        server: server.to_owned(),
        era: info.era,
        lists: Lists::Known,
        tools,
        resources,
        templates,
        prompts,
        capabilities: Some((*info.capabilities).to_owned()),
        server_info: info.server_info.as_ref().map(|raw| (**raw).to_owned()),
        instructions: info.instructions.clone(),
        protocol_version: Some(info.protocol_version.clone()),
        problem: None,
    };
    Ok((offered, room.cut))
}

struct Room {
    bytes: usize,
    cut: bool,
}

async fn read_list(
    connection: &Connection,
    (method, member): (&'static str, &str),
    room: &mut Room,
) -> Result<Vec<Box<RawValue>>, RequestError> {
    let mut entries: Vec<Box<RawValue>> = Vec::new();
    let mut cursor: Option<Box<RawValue>> = None;
    for _ in 0..MAX_PAGES {
        let params = match cursor.take() {
            Some(cursor) => Params::default().with("cursor", cursor),
            None => Params::default(),
        };
        let request = Request {
            params,
            repeatable: true,
            ..Request::new(method, PAGE_TIMEOUT)
        };
        let page = match connection.request(request).await {
            Ok(page) => page,
            Err(RequestError::Rpc { code, .. }) if code == NO_SUCH_METHOD => return Ok(entries),
            Err(error) => return Err(error),
        };
        let members = Params::from_raw(&page);
        for entry in entries_of(&members, member, method)? {
            if entries.len() >= MAX_ENTRIES || entry.get().len() > room.bytes {
                room.cut = true;
                return Ok(entries);
            }
            room.bytes -= entry.get().len();
            entries.push(entry);
        }
        match members.get("nextCursor") {
            Some(next) if next.get().starts_with('"') => cursor = Some(next.to_owned()),
            _ => return Ok(entries),
        }
    }
    room.cut = true;
    Ok(entries)
}

fn entries_of(
    page: &Params,
    member: &str,
    method: &str,
) -> Result<Vec<Box<RawValue>>, RequestError> {
    let wrong = || RequestError::Protocol {
        detail: format!("the answer to {method} has no list `{member}`"),
    };
    let list = page.get(member).ok_or_else(wrong)?;
    Vec::deserialize(&mut serde_json::Deserializer::from_str(list.get())).map_err(|_| wrong())
}

/// Whether two readings offer the same, byte for byte.
pub(super) fn same(one: &ServerTools, two: &ServerTools) -> bool {
    let lists = |of: &ServerTools| {
        let entries = [&of.tools, &of.resources, &of.templates, &of.prompts];
        entries.map(|list| {
            list.iter()
                .map(|raw| raw.get().to_owned())
                .collect::<Vec<_>>()
        })
    };
    let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map(|raw| raw.get().to_owned());
    one.era == two.era
        && one.lists == two.lists
        && one.problem == two.problem
        && one.protocol_version == two.protocol_version
        && one.instructions == two.instructions
        && raw(&one.capabilities) == raw(&two.capabilities)
        && raw(&one.server_info) == raw(&two.server_info)
        && lists(one) == lists(two)
}
