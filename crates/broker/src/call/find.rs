//! The tool a ref means, as far as an asker may see it, and what it may have meant instead.

use std::sync::Arc;
use std::time::Duration;

use catalog::{Entry, Hints, Kind, Ref};
use tokio::time::Instant;

use crate::agents::{Aim, Owner, agent_named};
use crate::asker::Asker;
use crate::catalogue::Wanted;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::operations::Inner;
use crate::operations::calls::CallTool;
use crate::policy::Policy;
use crate::policy::{Decision, Subject};
use crate::principal::Principal;
use crate::registry::Server;

/// A call that may act re-checks a catalogue older than this (rulings.md § Pins).
const ACTING_MAX_AGE: Duration = Duration::from_secs(30);
/// Longest wait for that re-check; after it the call goes on with what is held.
const RECHECK_WAIT: Duration = Duration::from_secs(2);
/// Refs offered in a did-you-mean.
const NEAR: usize = 3;

/// A tool as this asker may call it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) server: Arc<Server>,
    pub(super) tool: Arc<Entry>,
    /// After the owner's overrides.
    pub(super) hints: Hints,
}

impl Inner {
    /// The tool, as far as this asker may see it.
    pub(super) async fn find_tool(
        &self,
        asker: &Asker,
        request: &CallTool,
        deadline: Instant,
    ) -> Result<Found, BrokerError> {
        let who = &asker.principal;
        let Some(mut reference) = Ref::parse(&request.reference) else {
            return Err(self.no_such_tool(asker, &request.reference).await);
        };
        let agent = request.agent_id.as_deref().map(agent_named).transpose()?;
        let aim = Aim {
            lane: Some(&request.lane),
            agent: agent.as_ref(),
        };
        let server = self
            .visible_server_in(who, &reference.server, aim)?
            .filter(|server| !server.definition.disabled);
        let Some(server) = server else {
            return Err(self.no_such_tool(asker, &request.reference).await);
        };
        reference.server = server.name.clone();
        let caller = asker.caller(&request.lane);
        let wanted = Wanted {
            caller: &caller,
            kind: Kind::Tool,
            reference: &reference,
            deadline,
        };
        let mut tool = self.catalogues.entry(&server, wanted).await?;
        let acts = tool
            .as_ref()
            .is_some_and(|tool| !self.pins.hints(&server, &who.user, tool).read_only);
        if acts {
            let until = deadline.min(Instant::now() + RECHECK_WAIT);
            let confirmed = Wanted {
                deadline: until,
                ..wanted
            };
            self.catalogues
                .confirm(&server, confirmed, ACTING_MAX_AGE)
                .await;
            tool = self.catalogues.entry(&server, wanted).await?;
        }
        let Some(tool) = tool else {
            return Err(self.no_such_tool(asker, &request.reference).await);
        };
        let hints = self.pins.hints(&server, &who.user, &tool);
        let subject = Subject {
            reference: &reference,
            hints,
            arguments: None,
        };
        // Whatever its arguments: no rule hides a tool by those.
        if self.policy.now().decide(who, subject).decision == Decision::Hide {
            return Err(self.no_such_tool(asker, &request.reference).await);
        }
        Ok(Found {
            server,
            tool,
            hints,
        })
    }

    /// `tool_not_found`, with what the caller may have meant.
    pub(crate) async fn no_such_tool(&self, asker: &Asker, wrong: &str) -> BrokerError {
        let mut fault = Fault::new(ErrorCode::ToolNotFound, "there is no such tool");
        let near = self.near(asker, Kind::Tool, wrong).await;
        fault.hint = match near.as_slice() {
            [] => Some("a ref is server.tool; list_catalog finds them".to_owned()),
            near => Some(format!("did you mean {}?", near.join(" or "))),
        };
        fault
    }

    /// Refs like a wrong one, among those this asker may see.
    pub(crate) async fn near(&self, asker: &Asker, kind: Kind, wrong: &str) -> Vec<String> {
        let who = &asker.principal;
        let servers = self.visible_servers(who);
        let slots: Vec<_> = servers
            .iter()
            .map(|server| {
                (
                    Arc::clone(server),
                    self.catalogues.slot_for(server, &who.user),
                )
            })
            .collect();
        let Ok(view) = self.views.over((&who.workspace, &who.user), &slots).await else {
            return Vec::new();
        };
        let visible = |entry: &Entry| self.may_list(who, entry);
        view.index.near(kind, wrong, NEAR, &visible)
    }

    /// Whether an entry stands in this principal's lists.
    pub(crate) fn may_list(&self, who: &Principal, entry: &Entry) -> bool {
        let owner = Owner::new(&who.workspace, &who.user);
        let policy = self.policy.now();
        match self.registry.for_user(&owner, &entry.reference.server) {
            Some(server) => server.lists(who, entry, &policy),
            None if entry.kind == Kind::Tool => policy.shows(who, &entry.reference, entry.hints),
            None => policy.may_read(who, entry.reference.server.as_str()),
        }
    }
}

impl Server {
    /// Whether an entry of this server stands in a principal's lists.
    pub(crate) fn lists(&self, who: &Principal, entry: &Entry, policy: &Policy) -> bool {
        if entry.kind != Kind::Tool {
            return policy.may_read(who, entry.reference.server.as_str());
        }
        let hints = self
            .definition
            .corrected(&entry.reference.name, entry.hints);
        policy.shows(who, &entry.reference, hints)
    }
}
