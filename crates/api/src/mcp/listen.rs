//! Notices that belong to no request: `subscriptions/listen` of a modern client, the GET stream of a legacy one.

use std::collections::VecDeque;
use std::sync::Arc;

use broker::operations::subscribing::ResourceSubscription;
use broker::operations::watching::ServerNotice;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use transports::{Notification, Params};

use super::abilities::TASKS_EXTENSION_NAME;
use super::capabilities::Offered;
use super::envelope::{Call, Id};
use super::listener::Heard;
use super::problem::RpcFault;
use super::reply::{self, Outcome};
use super::session::{Held, Session};
use super::stream::{Place, Places};
use super::visit::{Visit, level_of};
use super::wanted::{SUBSCRIPTION_ID, Wanted, acknowledged, tagged, wanted, watched_resources};
use super::watch::Watch;
use super::{Face, frame, initialize};
use crate::problem::Refused;

/// A stream of notices.
#[derive(Debug)]
pub(super) struct Listen {
    visit: Arc<Visit>,
    watch: Watch,
    to: To,
    ready: VecDeque<Bytes>,
    _place: Place,
}

/// Whom they are for.
#[derive(Debug)]
enum To {
    Modern(Box<Subscribed>),
    Legacy(Unsolicited),
}

/// A modern subscription.
#[derive(Debug)]
struct Subscribed {
    id: Id,
    wanted: Wanted,
    /// Given up upstream when dropped.
    _resources: Vec<ResourceSubscription>,
}

/// A legacy client's stream.
#[derive(Debug)]
struct Unsolicited {
    session: Arc<Session>,
    /// What tasks tell while nobody waits for their results, and the end.
    heard: Heard,
    number: u64,
    _held: Held,
}

impl Unsolicited {
    fn event(&mut self, json: &[u8]) -> Bytes {
        self.number += 1;
        frame::event(Some(&self.session.general_id(self.number)), json)
    }
}

/// What may have changed.
#[derive(Debug, Clone, Copy)]
struct Lists {
    tools: bool,
    resources: bool,
    prompts: bool,
}

impl Listen {
    /// `subscriptions/listen`.
    ///
    /// # Errors
    /// `-32602`, `-32021`, or why the server cannot be reached.
    pub(super) async fn subscribe(
        visit: Visit,
        (id, call): (Id, Call),
    ) -> Result<Outcome, RpcFault> {
        let mut wanted = wanted(&call)?;
        if !wanted.task_ids.is_empty() && !visit.client.abilities().knows_tasks_extension() {
            let required = json!({"extensions": {TASKS_EXTENSION_NAME: {}}});
            return Err(RpcFault::missing_capability(&required));
        }
        let place = Places::take(&visit.app, &visit.asker.principal.user)
            .map_err(|fault| visit.fault(&fault))?;
        // Watched before anything is promised: what changes meanwhile is told.
        let watch = Watch::of(&visit)
            .await
            .map_err(|fault| visit.fault(&fault))?;
        let resources = match visit.face.clone() {
            Face::Deferred => {
                wanted.keep(&Offered::tools_alone());
                Vec::new()
            }
            Face::Server(name) => {
                let peer = initialize::peer(&visit).await?;
                wanted.keep(&Offered::read(&peer.capabilities));
                watched_resources(&visit, &name, &mut wanted).await
            }
        };
        let acknowledged = acknowledged(&id, &wanted);
        let subscribed = Subscribed {
            id,
            wanted,
            _resources: resources,
        };
        Ok(Outcome::Listen(Box::new(Self {
            visit: Arc::new(visit),
            watch,
            to: To::Modern(Box::new(subscribed)),
            ready: VecDeque::from([frame::event(None, &acknowledged)]),
            _place: place,
        })))
    }

    /// The GET stream. Taken up again after a break it tells first what may have been missed.
    ///
    /// # Errors
    /// `server_not_found`.
    pub(super) async fn unsolicited(
        visit: Visit,
        (session, resumed): (Arc<Session>, bool),
        place: Place,
    ) -> Result<Self, Refused> {
        let watch = Watch::of(&visit).await?;
        let to = Unsolicited {
            heard: session.listener.connect(&session.gone),
            number: 0,
            _held: session.hold(),
            session,
        };
        let mut listen = Self {
            visit: Arc::new(visit),
            watch,
            to: To::Legacy(to),
            ready: VecDeque::new(),
            _place: place,
        };
        if resumed {
            listen.all_changed();
        }
        Ok(listen)
    }

    /// The next event; `None` when nothing follows. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            let notice = match &mut self.to {
                To::Modern(_) => self.watch.next().await?,
                To::Legacy(unsolicited) => tokio::select! {
                    notice = self.watch.next() => notice?,
                    Some(json) = unsolicited.heard.said.recv() => {
                        self.ready.push_back(unsolicited.event(&json));
                        continue;
                    }
                    () = unsolicited.heard.replaced.cancelled() => return None,
                },
            };
            match notice {
                ServerNotice::Upstream(notice) => self.upstream(&notice),
                ServerNotice::CatalogChanged {
                    tools,
                    resources,
                    prompts,
                } => {
                    self.changed(Lists {
                        tools,
                        resources,
                        prompts,
                    });
                }
                // What was lost may have been anything.
                ServerNotice::Lagged(_) => self.all_changed(),
            }
        }
    }

    /// The last event of a subscription the bridge ends.
    pub(super) fn farewell(&mut self) -> Option<Bytes> {
        let To::Modern(subscribed) = &self.to else {
            return None;
        };
        let result = format!(
            r#"{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_ID}":{}}}}}"#,
            subscribed.id.raw()
        );
        Some(frame::event(
            None,
            &reply::result(&subscribed.id, result.as_bytes()),
        ))
    }

    fn all_changed(&mut self) {
        let (tools, resources, prompts) = match &self.visit.face {
            Face::Deferred => (true, false, false),
            Face::Server(_) => (true, true, true),
        };
        self.changed(Lists {
            tools,
            resources,
            prompts,
        });
        let updated = match &self.to {
            To::Legacy(unsolicited) => unsolicited.session.subscriptions(),
            To::Modern(subscribed) => subscribed.wanted.resource_subscriptions.clone(),
        };
        for uri in updated {
            let params = Params::default().with_text("uri", &uri);
            self.tell("notifications/resources/updated", Some(params));
        }
    }

    fn changed(&mut self, lists: Lists) {
        let wants = |wanted: fn(&Wanted) -> bool| match &self.to {
            To::Modern(subscribed) => wanted(&subscribed.wanted),
            To::Legacy(_) => true,
        };
        let told = [
            (lists.tools && wants(|w| w.tools_list_changed), "tools"),
            (
                lists.resources && wants(|w| w.resources_list_changed),
                "resources",
            ),
            (
                lists.prompts && wants(|w| w.prompts_list_changed),
                "prompts",
            ),
        ];
        for (_, list) in told.into_iter().filter(|(told, _)| *told) {
            self.tell(&format!("notifications/{list}/list_changed"), None);
        }
    }

    fn upstream(&mut self, notice: &Notification) {
        let params = notice.params.as_deref();
        let wanted = match (&*notice.method, &self.to) {
            ("notifications/resources/updated", To::Legacy(unsolicited)) => {
                uri(params).is_some_and(|uri| unsolicited.session.subscribed(&uri))
            }
            ("notifications/resources/updated", To::Modern(subscribed)) => {
                let subscriptions = &subscribed.wanted.resource_subscriptions;
                uri(params).is_some_and(|uri| subscriptions.contains(&uri))
            }
            ("notifications/message", To::Legacy(_)) => self.visit.client.wants(level_of(params)),
            // Tasks are polled. A shared session's server says this to all, and a task is one user's.
            (method, To::Legacy(_)) => method != "notifications/tasks/status",
            // A modern client gets what it asked for and nothing else.
            (_, To::Modern(_)) => false,
        };
        if wanted {
            self.tell(&notice.method, params.map(Params::from_raw));
        }
    }

    fn tell(&mut self, method: &str, params: Option<Params>) {
        match &mut self.to {
            To::Modern(subscribed) => {
                let params = tagged(params.unwrap_or_default(), Some(&subscribed.id));
                let json = reply::message(None, method, params.as_deref().map(RawValue::get));
                self.ready.push_back(frame::event(None, &json));
            }
            To::Legacy(unsolicited) => {
                let params = params.and_then(|params| tagged(params, None));
                let json = reply::message(None, method, params.as_deref().map(RawValue::get));
                self.ready.push_back(unsolicited.event(&json));
            }
        }
    }
}

#[derive(Deserialize)]
struct Updated {
    uri: String,
}

fn uri(params: Option<&RawValue>) -> Option<String> {
    serde_json::from_str::<Updated>(params?.get())
        .ok()
        .map(|updated| updated.uri)
}
