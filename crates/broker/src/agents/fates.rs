//! What the ledger says of the calls an agent has: wanted still, settled, or never heard of.

use std::collections::HashMap;
use std::sync::Arc;

use sessions::UserId;
use transports::tunnel::ReqId;
use transports::tunnel::bridge::Fate;
use transports::tunnel::frame::{ResumeAnswer, ResumeOffer};

use super::{LOCAL_AGENT, Shared};
use crate::call::CallId;
use crate::error::BrokerError;
use crate::ledger::Intent;

/// Whose calls an agent may speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of a user, through this agent.
    User(UserId, Arc<str>),
    /// Of anybody, through the bridge's own agent.
    Everybody,
}

impl Whose {
    fn owns(&self, intent: &Intent) -> bool {
        let agent = intent.agent_id.as_deref();
        match self {
            Self::User(user, id) => intent.user == *user && agent == Some(id),
            Self::Everybody => agent == Some(LOCAL_AGENT),
        }
    }
}

/// The `req_id` of one round of a call: a server that asks back is asked again, and an agent runs no id twice.
pub(crate) fn round_id(call: &str, round: usize) -> Arc<str> {
    match round {
        0 => Arc::from(call),
        round => Arc::from(format!("{call}.{round}")),
    }
}

/// The call a `req_id` belongs to; `None` for what this bridge never gave out.
fn call_of(req_id: &str) -> Option<CallId> {
    let call = req_id.split_once('.').map_or(req_id, |(call, _)| call);
    CallId::parse(call)
}

impl Shared {
    /// What becomes of one call.
    pub(crate) async fn fate(&self, whose: &Whose, req_id: &ReqId) -> Result<Fate, BrokerError> {
        let fates = self.fates(whose, std::iter::once(req_id)).await?;
        Ok(fates.get(req_id).copied().unwrap_or(Fate::Unknown))
    }

    /// What becomes of the calls an agent offers when it connects; those in no list are wanted. A call nobody here
    /// knows is neither run on nor kept: nobody may ever see its result.
    pub(crate) async fn answer(
        &self,
        whose: &Whose,
        offer: &ResumeOffer,
    ) -> Result<ResumeAnswer, BrokerError> {
        let all = offer.running.iter().chain(&offer.results);
        let fates = self.fates(whose, all).await?;
        let wanted = |id: &ReqId| fates.get(id) == Some(&Fate::Awaited);
        let unwanted = |ids: &[ReqId]| -> Vec<ReqId> {
            let ids = ids.iter().filter(|id| !wanted(id));
            ids.cloned().collect()
        };
        Ok(ResumeAnswer {
            deliver: Vec::new(),
            forget: unwanted(&offer.results),
            cancel: unwanted(&offer.running),
        })
    }

    async fn fates<'a>(
        &self,
        whose: &Whose,
        req_ids: impl Iterator<Item = &'a ReqId>,
    ) -> Result<HashMap<&'a ReqId, Fate>, BrokerError> {
        let mut fates = HashMap::new();
        let mut asked: HashMap<CallId, Vec<&ReqId>> = HashMap::new();
        for req_id in req_ids {
            let Some(call) = call_of(req_id) else {
                continue;
            };
            match self.ground.live.get(call) {
                Some(live) if whose.owns(&live.intent) => {
                    fates.insert(req_id, Fate::Awaited);
                }
                Some(_) => {}
                None => asked.entry(call).or_default().push(req_id),
            }
        }
        if asked.is_empty() {
            return Ok(fates);
        }
        // Rows of calls that only read are written behind their answers.
        let store = &self.ground.store;
        store.flush().await;
        let ids: Vec<CallId> = asked.keys().copied().collect();
        for row in store.calls_of_ids(&ids).await? {
            if !whose.owns(&row.intent) {
                continue;
            }
            let fate = if row.state.is_terminal() {
                Fate::Settled
            } else {
                Fate::Awaited
            };
            for req_id in asked.get(&row.intent.id).into_iter().flatten() {
                fates.insert(*req_id, fate);
            }
        }
        Ok(fates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_of_a_call_has_an_id_of_its_own_that_leads_back_to_the_call() {
        let call = CallId::mint();
        let name = call.to_string();
        for round in [0, 1, 15] {
            assert_eq!(call_of(&round_id(&name, round)), Some(call));
        }
        assert_ne!(round_id(&name, 0), round_id(&name, 1));
        for never in ["", "call_", "x", "call_1.1", &format!("x{name}")] {
            assert_eq!(call_of(never), None, "{never}");
        }
    }
}
