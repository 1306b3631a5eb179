//! What a modern client wants to hear of, as far as its server can tell, and how each notice is marked.

use broker::operations::subscribing::ResourceSubscription;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use transports::{Params, ServerName};

use super::capabilities::{Listed, Offered, object};
use super::envelope::{Call, Id};
use super::problem::RpcFault;
use super::visit::Visit;
use super::{initialize, reply};

/// Tags what belongs to a subscription.
pub(super) const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// Resources of one subscription.
const MAX_RESOURCES: usize = 256;

/// What a modern client wants to hear of.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Wanted {
    pub(super) tools_list_changed: bool,
    pub(super) prompts_list_changed: bool,
    pub(super) resources_list_changed: bool,
    pub(super) resource_subscriptions: Vec<String>,
    pub(super) task_ids: Vec<String>,
}

impl Wanted {
    /// Keeps what the server says it can tell.
    pub(super) fn keep(&mut self, offered: &Offered) {
        let changes = |list: Option<Listed>| list.is_some_and(|list| list.list_changed);
        self.tools_list_changed &= changes(offered.tools);
        self.prompts_list_changed &= changes(offered.prompts);
        self.resources_list_changed &= changes(offered.resources);
        if !offered.resources.is_some_and(|list| list.subscribe) {
            self.resource_subscriptions.clear();
        }
        self.resource_subscriptions.truncate(MAX_RESOURCES);
        // Tasks are polled; no server's notices of them are relayed.
        self.task_ids.clear();
    }
}

/// Reads the filter of a request.
///
/// # Errors
/// `-32602`.
pub(super) fn wanted(call: &Call) -> Result<Wanted, RpcFault> {
    let Some(raw) = call.params.get("notifications") else {
        return Err(RpcFault::invalid_params("params.notifications is missing"));
    };
    serde_json::from_str(raw.get())
        .map_err(|_| RpcFault::invalid_params("params.notifications is no filter of notifications"))
}

/// Subscribes to the resources wanted; one the server refuses is not acknowledged.
pub(super) async fn watched_resources(
    visit: &Visit,
    server: &ServerName,
    wanted: &mut Wanted,
) -> Vec<ResourceSubscription> {
    let mut held = Vec::new();
    let mut kept = Vec::new();
    for uri in std::mem::take(&mut wanted.resource_subscriptions) {
        let broker = &visit.app.broker;
        let (lane, name) = (visit.lane(), server.as_str());
        if let Ok(subscription) = broker
            .subscribe_resource(&visit.asker, (name, &lane), &uri)
            .await
        {
            held.push(subscription);
            kept.push(uri);
        }
    }
    wanted.resource_subscriptions = kept;
    held
}

/// The first message of a subscription.
pub(super) fn acknowledged(id: &Id, wanted: &Wanted) -> Vec<u8> {
    let mut agreed = json!({});
    for (told, name) in [
        (wanted.tools_list_changed, "toolsListChanged"),
        (wanted.prompts_list_changed, "promptsListChanged"),
        (wanted.resources_list_changed, "resourcesListChanged"),
    ] {
        if told {
            agreed[name] = true.into();
        }
    }
    if !wanted.resource_subscriptions.is_empty() {
        agreed["resourceSubscriptions"] = json!(wanted.resource_subscriptions);
    }
    let params = Params::default().with("notifications", initialize::raw(&agreed));
    let params = tagged(params, Some(id));
    let params = params.as_deref().map(RawValue::get);
    reply::message(None, "notifications/subscriptions/acknowledged", params)
}

/// Parameters under our subscription's id: a server's own means nothing to our client. `None` when nothing is left.
pub(super) fn tagged(params: Params, id: Option<&Id>) -> Option<Box<RawValue>> {
    let (meta, others): (Vec<_>, Vec<_>) =
        params.0.into_iter().partition(|(name, _)| name == "_meta");
    let told = meta
        .first()
        .map(|(_, raw)| Params::from_raw(raw).0)
        .unwrap_or_default();
    let told = told.into_iter().filter(|(name, _)| name != SUBSCRIPTION_ID);
    let ours = id.and_then(|id| RawValue::from_string(id.raw().to_owned()).ok());
    let ours = ours.map(|id| (SUBSCRIPTION_ID.into(), id));
    let meta: Vec<_> = ours.into_iter().chain(told).collect();
    if meta.is_empty() && others.is_empty() {
        return None;
    }
    let meta = (!meta.is_empty()).then(|| ("_meta".into(), object(meta.into_iter())));
    Some(object(meta.into_iter().chain(others)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_carry_our_subscription_and_not_the_servers() {
        let raw = RawValue::from_string(
            r#"{"uri":"a://b","_meta":{"io.modelcontextprotocol/subscriptionId":9,"x":1}}"#
                .to_owned(),
        )
        .unwrap();
        let id = Id::text("mine");
        assert_eq!(
            tagged(Params::from_raw(&raw), Some(&id)).unwrap().get(),
            r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":"mine","x":1},"uri":"a://b"}"#
        );
        assert_eq!(
            tagged(Params::from_raw(&raw), None).unwrap().get(),
            r#"{"_meta":{"x":1},"uri":"a://b"}"#
        );
        assert!(tagged(Params::default(), None).is_none());
    }

    #[test]
    fn only_what_the_server_can_tell_is_acknowledged() {
        let mut wanted = Wanted {
            tools_list_changed: true,
            prompts_list_changed: true,
            resource_subscriptions: vec!["a://b".to_owned()],
            ..Wanted::default()
        };
        let offered = RawValue::from_string(
            r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true}}"#
                .to_owned(),
        )
        .unwrap();
        wanted.keep(&Offered::read(&offered));
        let told = String::from_utf8(acknowledged(&Id::text("s"), &wanted)).unwrap();
        assert_eq!(
            told,
            r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"s"},"notifications":{"resourceSubscriptions":["a://b"],"toolsListChanged":true}}}"#
        );
    }
}
