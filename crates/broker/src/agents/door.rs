//! Who lets agents in: the token says whose, the store whether it is still good.

use std::sync::Arc;

use transports::tunnel::AgentId;
use transports::tunnel::bridge::{Admission, Door, Refused};
use transports::tunnel::frame::{Auth, Hello};

use super::fates::Whose;
use super::local::LocalRunner;
use super::{Agents, Known, Pass};
use crate::error::BrokerError;

/// The door of users' agents. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentDoor {
    pub(crate) agents: Agents,
}

/// The same words for whatever is wrong with a token: nobody learns which agents there are.
fn no_good_token() -> Refused {
    Refused {
        reason: "the token is not valid".to_owned(),
    }
}

fn later(fault: &BrokerError) -> Refused {
    tracing::warn!(error = %fault, "an agent could not be let in");
    Refused {
        reason: "the bridge cannot look the token up now; try again".to_owned(),
    }
}

impl Door for AgentDoor {
    async fn admit(
        &self,
        agent_id: &AgentId,
        hello: &Hello,
        auth: &Auth,
    ) -> Result<Admission, Refused> {
        let agents = &self.agents;
        let ground = &agents.shared.ground;
        agents.shared.check_open()?;
        let bearer = agents.shared.tokens.read(&auth.token);
        let bearer = bearer.filter(|bearer| bearer.agent_id == *agent_id);
        let bearer = bearer.ok_or_else(no_good_token)?;
        let known = agents.of_user(&bearer.user, agent_id);
        let known = known.filter(|known| known.owner.workspace == bearer.workspace);
        let known = known.ok_or_else(no_good_token)?;
        // Who lost the workspace brings no tools into it.
        let user = ground.store.user(&bearer.user).await;
        let user = user.map_err(|error| later(&error.into()))?;
        let member = user.is_some_and(|row| {
            let mut workspaces = row.memberships.iter();
            workspaces.any(|(workspace, _)| *workspace == bearer.workspace)
        });
        if !member {
            return Err(no_good_token());
        }
        let text = serde_json::to_string(&hello.agent_meta).unwrap_or_default();
        let connects = ground
            .store
            .agent_connects((&bearer.user, agent_id), bearer.version, &text);
        let epoch = connects.await.map_err(|error| later(&error.into()))?;
        let epoch = epoch.ok_or_else(no_good_token)?;
        let whose = Whose::User(bearer.user.clone(), Arc::from(agent_id.as_str()));
        let resume = agents.shared.answer(&whose, &hello.resume).await;
        let resume = resume.map_err(|fault| later(&fault))?;
        // It may have begun to go meanwhile.
        agents.shared.check_open()?;
        known.connects(epoch, text);
        known.pass(Pass {
            epoch,
            version: bearer.version,
            expires_at: bearer.expires_at,
        });
        Ok(Admission {
            agent: known.agent.clone(),
            epoch,
            resume,
        })
    }
}

impl Known {
    fn connects(&self, epoch: u64, meta: String) {
        self.change(|row| {
            row.epoch = epoch;
            row.meta = Some(meta);
            row.last_seen_at = Some(chrono::Utc::now());
        });
    }
}

/// The door of the bridge's own agent. No token is looked at: who may reach its socket is the operating system's
/// word.
impl Door for LocalRunner {
    async fn admit(
        &self,
        agent_id: &AgentId,
        hello: &Hello,
        _: &Auth,
    ) -> Result<Admission, Refused> {
        if agent_id != self.agent().id() {
            return Err(Refused {
                reason: "this is the bridge's own agent's socket".to_owned(),
            });
        }
        self.agents().shared.check_open()?;
        let resume = self
            .agents()
            .shared
            .answer(&Whose::Everybody, &hello.resume);
        let resume = resume.await.map_err(|fault| later(&fault))?;
        Ok(Admission {
            agent: self.agent().clone(),
            epoch: self.next_epoch(),
            resume,
        })
    }
}
