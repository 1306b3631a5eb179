//! A server's capabilities in the words of its client's era: all it said, but what cannot be carried across.

use std::borrow::Cow;

use broker::operations::passing::ServerPeer;
use serde::Deserialize;
use serde_json::value::RawValue;
use transports::{Era, Params, wire};

use super::abilities::TASKS_EXTENSION_NAME;
use super::era::Revision;

/// What is looked at before something is promised on the server's behalf.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Offered {
    pub(super) tools: Option<Listed>,
    pub(super) prompts: Option<Listed>,
    pub(super) resources: Option<Listed>,
    pub(super) logging: Option<serde::de::IgnoredAny>,
}

/// A list that may change.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) list_changed: bool,
    pub(super) subscribe: bool,
}

impl Offered {
    /// What the deferred face offers by itself.
    pub(super) fn tools_alone() -> Self {
        let changes = Listed {
            list_changed: true,
            subscribe: false,
        };
        Self {
            tools: Some(changes),
            ..Self::default()
        }
    }

    /// Reads `ServerCapabilities`. What cannot be read is not offered.
    pub(super) fn read(raw: &RawValue) -> Self {
        serde_json::from_str(raw.get()).unwrap_or_default()
    }
}

/// The capabilities a client is told.
pub(super) fn told(peer: &ServerPeer, revision: Revision) -> Box<RawValue> {
    let same_era = revision.is_modern() == (peer.era == Era::Modern);
    if same_era {
        return peer.capabilities.as_ref().to_owned();
    }
    // Tasks of the core and of the extension are two protocols. Towards an older server the bridge has tasks itself.
    let tasks_here = revision.is_modern();
    let mut members = Params::from_raw(&peer.capabilities).0;
    members.retain(|(name, _)| name != "tasks");
    if tasks_here && members.iter().all(|(name, _)| name != "extensions") {
        members.push(("extensions".into(), object(std::iter::empty())));
    }
    let told = members.into_iter().map(|(name, value)| {
        let value = match (&*name, tasks_here) {
            ("extensions", true) => with(&value, TASKS_EXTENSION_NAME),
            ("extensions", false) => without(&value, TASKS_EXTENSION_NAME),
            _ => value,
        };
        (name, value)
    });
    object(told)
}

fn with(raw: &RawValue, more: &'static str) -> Box<RawValue> {
    let mut members = Params::from_raw(raw).0;
    members.retain(|(name, _)| name != more);
    members.push((more.into(), object(std::iter::empty())));
    object(members.into_iter())
}

/// The same object without one member.
pub(super) fn without(raw: &RawValue, gone: &str) -> Box<RawValue> {
    object(
        Params::from_raw(raw)
            .0
            .into_iter()
            .filter(|(name, _)| name != gone),
    )
}

/// An object of raw members.
pub(super) fn object(
    members: impl Iterator<Item = (Cow<'static, str>, Box<RawValue>)>,
) -> Box<RawValue> {
    let members: Vec<String> = members
        .map(|(name, value)| format!("{}:{}", wire::raw_text(&name), value.get()))
        .collect();
    RawValue::from_string(format!("{{{}}}", members.join(",")))
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn peer(era: Era, capabilities: &str) -> ServerPeer {
        ServerPeer {
            era,
            protocol_version: String::new(),
            server_info: None,
            capabilities: Arc::from(RawValue::from_string(capabilities.to_owned()).unwrap()),
            instructions: None,
        }
    }

    #[test]
    fn within_an_era_every_byte_is_kept_and_across_only_tasks_differ() {
        let legacy = r#"{"tools": {"listChanged":true},"tasks":{"list":{}},"x":{"y":1.0}}"#;
        let server = peer(Era::Legacy, legacy);
        assert_eq!(told(&server, Revision::V2025_11_25).get(), legacy);
        assert_eq!(
            told(&server, Revision::V2026_07_28).get(),
            r#"{"tools":{"listChanged":true},"x":{"y":1.0},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#
        );
        let modern = r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"a.b/c":{}},"tools":{}}"#;
        let server = peer(Era::Modern, modern);
        assert_eq!(told(&server, Revision::V2026_07_28).get(), modern);
        assert_eq!(
            told(&server, Revision::V2025_11_25).get(),
            r#"{"extensions":{"a.b/c":{}},"tools":{}}"#
        );
    }
}
