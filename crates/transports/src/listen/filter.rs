//! What is listened for, as it stands in the request and in its acknowledgement.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::wire::{Notification, raw_text};

/// The lists a server tells changes of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    tools: bool,
    prompts: bool,
    resources: bool,
}

impl Lists {
    /// What a server's capabilities offer.
    pub(crate) fn offered(capabilities: &RawValue) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Capabilities {
            tools: Option<Offers>,
            prompts: Option<Offers>,
            resources: Option<Offers>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct Offers {
            list_changed: bool,
        }
        let offered: Capabilities = serde_json::from_str(capabilities.get()).unwrap_or_default();
        let tells = |offers: Option<Offers>| offers.is_some_and(|offers| offers.list_changed);
        Self {
            tools: tells(offered.tools),
            prompts: tells(offered.prompts),
            resources: tells(offered.resources),
        }
    }

    /// Whether there is nothing to listen for.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The `notifications` member: these lists and those resources. `None` when it is nothing at all.
    pub(super) fn filter(self, resources: &BTreeSet<String>) -> Option<Box<RawValue>> {
        let mut members = Vec::new();
        for (name, wanted) in [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ] {
            if wanted {
                members.push(format!("\"{name}\":true"));
            }
        }
        if !resources.is_empty() {
            let uris: Vec<_> = resources.iter().map(|uri| raw_text(uri)).collect();
            let uris: Vec<_> = uris.iter().map(|uri| uri.get()).collect();
            members.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        if members.is_empty() {
            return None;
        }
        RawValue::from_string(format!("{{{}}}", members.join(","))).ok()
    }
}

/// The resources an acknowledgement names.
pub(super) fn acknowledged(note: &Notification) -> BTreeSet<String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Acknowledgement {
        notifications: Filter,
    }
    #[derive(Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Filter {
        resource_subscriptions: BTreeSet<String>,
    }
    let read = note
        .params
        .as_deref()
        .and_then(|params| serde_json::from_str::<Acknowledgement>(params.get()).ok());
    read.unwrap_or_default()
        .notifications
        .resource_subscriptions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_server_is_asked_for_exactly_what_it_offers_and_what_is_watched() {
        let offered =
            r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"listChanged":true}}"#;
        let lists = Lists::offered(&raw(offered));
        let none = BTreeSet::new();
        assert_eq!(
            lists.filter(&none).unwrap().get(),
            r#"{"toolsListChanged":true,"resourcesListChanged":true}"#
        );
        let watched = BTreeSet::from(["b".to_owned(), "a\"".to_owned()]);
        assert_eq!(
            Lists::default().filter(&watched).unwrap().get(),
            r#"{"resourceSubscriptions":["a\"","b"]}"#
        );
        assert!(
            Lists::offered(&raw(r#"{"tools":{}}"#))
                .filter(&none)
                .is_none()
        );
        assert!(Lists::offered(&raw("7")).is_empty());
    }
}
