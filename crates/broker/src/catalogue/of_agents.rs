//! Catalogues of users' own agents: an agent tells its whole offer by itself, so nothing is opened to list it. While
//! it is away its last word stays, marked stale.

use std::sync::Arc;

use catalog::{Listing, Snapshot};
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sessions::Caller;
use transports::ServerName;
use transports::tunnel::frame::ServerTools;

use super::refresh::{Because, Errand};
use super::slot::Claim;
use super::{Catalogues, Moved, SlotKey, catalogue_caller, era_name};
use crate::agents::offered::Owner;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::{Server, Via};

impl Catalogues {
    /// An agent came, went or told another offer: what is held of its servers is looked at again, and whoever
    /// follows the lists hears of it. `servers`: under the names its owner knows them by, present and former.
    pub(crate) fn agent_moved(&self, owner: &Owner, servers: &[Arc<Server>]) {
        for server in servers {
            let Some(via) = &server.via else { continue };
            let key = SlotKey {
                workspace: owner.workspace.clone(),
                server: server.name.clone(),
                user: Some(owner.user.clone()),
                agent: Some(via.agent.id().clone()),
            };
            // What nobody looked at is listed when somebody does.
            if let Some(slot) = self.shared.slots.get(&key) {
                slot.mark_due();
                let caller: Caller = catalogue_caller(server, &owner.user);
                let errand = Errand {
                    server: Arc::clone(server),
                    caller,
                    because: Because::ListChanged,
                };
                self.refresh(&slot, errand);
            }
            self.tell_moved(owner, &server.name);
        }
    }

    /// Somebody's list changed by a server that came or went.
    pub(crate) fn tell_moved(&self, owner: &Owner, server: &ServerName) {
        self.shared.moves.tell(Moved {
            workspace: owner.workspace.clone(),
            server: server.clone(),
            user: Some(owner.user.clone()),
        });
    }

    /// Takes the agent's last word on one of its servers.
    pub(super) async fn take_from_agent(&self, claim: &Claim, server: &Arc<Server>, via: &Via) {
        let facts = via.agent.facts();
        let catalogue = via.agent.catalogue();
        let Some(told) = catalogue.server(&via.server).map(|one| &one.told) else {
            let fault = if facts.online {
                unreachable(server, "the agent does not offer it any more")
            } else {
                offline(server, via)
            };
            claim.failed(fault);
            return;
        };
        let listing = listing(told);
        let (era, problem) = (era_name(told.era), told.problem.clone());
        let name = server.name.clone();
        let built = tokio::task::spawn_blocking(move || Snapshot::build(&name, &listing)).await;
        let Ok(snapshot) = built else {
            let detail = "building the catalogue failed";
            claim.failed(Fault::new(ErrorCode::Internal, detail));
            return;
        };
        let problem = match problem {
            _ if !facts.online => Some(offline(server, via)),
            Some(words) => Some(unreachable(server, &words)),
            None => None,
        };
        if let Some(problem) = problem {
            claim.install_stale(snapshot, moment(facts.since_unix_s), problem);
            return;
        }
        let (snapshot, delta) = claim.install(snapshot, era);
        self.record(&claim.slot().key, &snapshot, delta).await;
    }
}

/// When an agent came or went; for one that this process never saw, now.
fn moment(unix_s: u64) -> DateTime<Utc> {
    let known = i64::try_from(unix_s).ok().filter(|at| *at > 0);
    let at = known.and_then(|at| DateTime::from_timestamp(at, 0));
    at.unwrap_or_else(Utc::now)
}

/// The agent is not connected.
pub(crate) fn offline(server: &Server, via: &Via) -> BrokerError {
    let detail = format!("the agent `{}` is not connected", via.agent.id());
    let mut fault = Fault::new(ErrorCode::AgentOffline, detail);
    fault.upstream = Some((server.name.to_string(), None));
    fault
}

fn unreachable(server: &Server, words: &str) -> BrokerError {
    let mut fault = Fault::new(ErrorCode::UpstreamUnreachable, words);
    fault.upstream = Some((server.name.to_string(), None));
    fault
}

fn listing(told: &ServerTools) -> Listing {
    let shared = |list: &[Box<RawValue>]| list.iter().map(|one| Arc::from(one.clone())).collect();
    Listing {
        tools: shared(&told.tools),
        resources: shared(&told.resources),
        templates: shared(&told.templates),
        prompts: shared(&told.prompts),
        ..Listing::default()
    }
}
