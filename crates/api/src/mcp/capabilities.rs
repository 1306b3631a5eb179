//! A server's capabilities in the words of its client's era: all it said, but what cannot be carried across.

use std::borrow::Cow;

use broker::operations::passing::ServerPeer;
use serde::Deserialize;
use serde::de::IgnoredAny;
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
    pub(super) logging: Option<IgnoredAny>,
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

/// Tasks of 2025-11-25, as the bridge has them.
const CORE_TASKS: &str = r#"{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}"#;

/// Whether a server has tasks of the kind that clients of this revision know.
pub(super) fn has_tasks(peer: &ServerPeer, revision: Revision) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Told {
        tasks: Option<IgnoredAny>,
        extensions: Extensions,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Extensions {
        #[serde(rename = "io.modelcontextprotocol/tasks")]
        tasks: Option<IgnoredAny>,
    }
    let told: Told = serde_json::from_str(peer.capabilities.get()).unwrap_or_default();
    match peer.era {
        Era::Modern => revision.is_modern() && told.extensions.tasks.is_some(),
        Era::Legacy => !revision.is_modern() && told.tasks.is_some(),
    }
}

/// The capabilities a client is told: tasks of its kind, the server's own or else the bridge's, and none of the other.
pub(super) fn told(peer: &ServerPeer, revision: Revision) -> Box<RawValue> {
    let same_era = revision.is_modern() == (peer.era == Era::Modern);
    let knows_tasks = revision.is_modern() || revision.has_core_tasks();
    if same_era && (!knows_tasks || has_tasks(peer, revision)) {
        return peer.capabilities.as_ref().to_owned();
    }
    let mut members = Params::from_raw(&peer.capabilities).0;
    members.retain(|(name, _)| name != "tasks");
    if revision.is_modern() {
        return with_extension(members);
    }
    if !same_era {
        for (_, value) in members.iter_mut().filter(|(name, _)| name == "extensions") {
            *value = without(value, TASKS_EXTENSION_NAME);
        }
    }
    if knows_tasks {
        members.extend(core_tasks());
    }
    object(members.into_iter())
}

/// The member by which the bridge offers tasks of 2025-11-25.
pub(super) fn core_tasks() -> Option<(Cow<'static, str>, Box<RawValue>)> {
    let raw = RawValue::from_string(CORE_TASKS.to_owned());
    raw.ok().map(|raw| ("tasks".into(), raw))
}

/// Capabilities, of either side, with the extension.
pub(super) fn with_extension(
    mut members: Vec<(Cow<'static, str>, Box<RawValue>)>,
) -> Box<RawValue> {
    let said = members.iter_mut().find(|(name, _)| name == "extensions");
    if let Some((_, value)) = said {
        *value = with(value, TASKS_EXTENSION_NAME, "{}");
    } else {
        let extension = with(RawValue::NULL, TASKS_EXTENSION_NAME, "{}");
        members.push(("extensions".into(), extension));
    }
    object(members.into_iter())
}

/// The same object with one member more, or another one of that name.
pub(super) fn with(raw: &RawValue, more: &'static str, json: &str) -> Box<RawValue> {
    let mut members = Params::from_raw(raw).0;
    members.retain(|(name, _)| name != more);
    let value = RawValue::from_string(json.to_owned());
    let value = value.unwrap_or_else(|_| RawValue::NULL.to_owned());
    members.push((more.into(), value));
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
            r#"{"extensions":{"a.b/c":{}},"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}"#
        );
        assert_eq!(
            told(&server, Revision::V2025_06_18).get(),
            r#"{"extensions":{"a.b/c":{}},"tools":{}}"#
        );
    }

    #[test]
    fn who_has_no_tasks_of_the_clients_kind_gets_the_bridges() {
        let (core, extension) = (Revision::V2025_11_25, Revision::V2026_07_28);
        let plain = r#"{"tools":{}, "extensions":{"a.b/c":{}}}"#;
        for (era, said, revision, own) in [
            (Era::Legacy, r#"{"tasks":{}}"#, core, true),
            (Era::Legacy, r#"{"tasks":{}}"#, extension, false),
            (Era::Legacy, plain, core, false),
            (Era::Modern, plain, extension, false),
            (Era::Modern, r#"{"tasks":{}}"#, core, false),
            (
                Era::Modern,
                r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
                extension,
                true,
            ),
        ] {
            let server = peer(era, said);
            assert_eq!(has_tasks(&server, revision), own, "{era:?} {said}");
            assert_eq!(told(&server, revision).get() == said, own, "{era:?} {said}");
        }
        let server = peer(Era::Modern, plain);
        assert_eq!(
            told(&server, extension).get(),
            r#"{"tools":{},"extensions":{"a.b/c":{},"io.modelcontextprotocol/tasks":{}}}"#
        );
        // A revision without tasks is told what the server said.
        let server = peer(Era::Legacy, plain);
        assert_eq!(told(&server, Revision::V2025_06_18).get(), plain);
    }
}
