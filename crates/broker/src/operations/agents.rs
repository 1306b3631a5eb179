//! Agents of users: their tokens, pairing, what is known of them, and which one a lane means.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use sessions::{Lane, UserId};
use transports::tunnel::AgentId;
use transports::tunnel::bridge::AgentCatalogue;
use transports::tunnel::limits::close;

use super::page::{Page, PageRequest};
use super::{Broker, Inner};
use crate::agents::pairing::{Grant, Standing, Wish};
use crate::agents::{AgentDoor, Known, LocalRunner, Owner, agent_named, no_such_agent};
use crate::asker::Asker;
use crate::call::live::Stop;
use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};
use crate::instant::rfc3339;
use crate::policy;
use crate::store::{TokenGrant, TokenWish};

pub use crate::agents::pairing::Begun as PairingBegun;

/// Agents one user may have.
const MAX_AGENTS: u32 = 64;
/// How long a token is good when nobody says.
const DEFAULT_LIFE: Duration = Duration::from_hours(365 * 24);
/// Longest life of a token.
const MAX_LIFE: Duration = Duration::from_hours(3650 * 24);
/// Longest label, in bytes.
const MAX_LABEL_BYTES: usize = 128;
/// Ids that would be mistaken for routes.
const RESERVED: [&str; 4] = ["default", "tokens", "pair", "tunnel"];
/// Random bytes of an id the bridge gives.
const ID_BYTES: usize = 5;

/// An agent as its owner sees it.
#[derive(Debug, Clone)]
pub struct AgentView {
    /// Its id, unique among its owner's.
    pub agent_id: String,
    /// Whose.
    pub user: String,
    /// Where its servers appear.
    pub workspace: String,
    /// What people call it.
    pub label: Option<String>,
    /// Whether calls are taken.
    pub online: bool,
    /// RFC 3339: since when it is online, or offline.
    pub since: Option<String>,
    /// RFC 3339: its last connection's last moment.
    pub last_seen_at: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// The version of the one token that is good.
    pub token_version: u64,
    /// RFC 3339: until when.
    pub token_expires_at: String,
    /// Rises with every connection.
    pub epoch: u64,
    /// Calls that have not ended.
    pub in_flight: usize,
    /// Bytes of progress and logging it lost, since the bridge started.
    pub dropped_bytes: u64,
    /// Frames of it that were refused, since the bridge started.
    pub bad_frames: u64,
    /// What it said of itself when it last connected, JSON; untrusted.
    pub meta: Option<String>,
    /// Its servers, under the names its owner knows them by.
    pub servers: Vec<String>,
    /// Lanes that mean it.
    pub default_lanes: Vec<String>,
}

/// What an agent offers, as it last told.
#[derive(Debug, Clone)]
pub struct AgentOffer {
    /// Its id.
    pub agent_id: String,
    /// It is away: this is its last word.
    pub stale: bool,
    /// All of it.
    pub catalogue: Arc<AgentCatalogue>,
    /// By the agent's own name: the name its owner knows the server by.
    pub names: Vec<(String, String)>,
}

/// A token that is wanted.
#[derive(Debug, Clone, Default)]
pub struct AgentTokenWish {
    /// Which agent; a new one when `None`.
    pub agent_id: Option<String>,
    /// What people call it.
    pub label: Option<String>,
    /// Revoke the one there is.
    pub reset: bool,
    /// How long it is good.
    pub expires_in: Option<Duration>,
}

/// A token, shown to whoever asked for it.
#[derive(Debug)]
pub struct AgentToken {
    /// Which agent it is good for.
    pub agent_id: String,
    /// The token.
    pub token: SecretString,
    /// Its version; one version of an agent is good.
    pub version: u64,
    /// RFC 3339.
    pub expires_at: String,
    /// An earlier one is not good any more.
    pub reset: bool,
}

/// What was paired.
#[derive(Debug, Clone)]
pub struct Paired {
    /// Which agent.
    pub agent_id: String,
    /// What it calls itself.
    pub label: Option<String>,
}

/// Where a pairing stands, for the agent.
#[derive(Debug)]
pub enum PairingStanding {
    /// Nobody confirmed it yet.
    Pending,
    /// The token is there.
    Approved {
        /// Which agent it is now.
        agent_id: String,
        /// Its token.
        token: SecretString,
    },
    /// It took too long, or there never was one.
    Expired,
}

impl Broker {
    /// Lets agents in; for the tunnel's endpoint.
    #[must_use]
    pub fn agent_door(&self) -> AgentDoor {
        AgentDoor {
            agents: self.inner.agents.clone(),
        }
    }

    /// The bridge's own agent; `None` where it has none.
    #[must_use]
    pub fn local_runner(&self) -> Option<LocalRunner> {
        self.inner.local_runner.clone()
    }

    /// The asker's agents in this workspace, by id; for an admin those of `user`.
    ///
    /// # Errors
    /// `forbidden`, `invalid_request`.
    #[expect(clippy::unused_async, reason = "every operation is awaited alike")]
    pub async fn list_agents(
        &self,
        asker: &Asker,
        user: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<AgentView>, BrokerError> {
        let owner = owner_for(asker, user)?;
        let all = self.inner.agents.all(&owner);
        let page = page.cut(all, |known| known.agent.id().to_string())?;
        let view = |known: Arc<Known>| self.inner.agent_view(&known);
        Ok(Page {
            items: page.items.into_iter().map(view).collect(),
            next_cursor: page.next_cursor,
        })
    }

    /// One agent.
    ///
    /// # Errors
    /// `agent_not_found`, `forbidden`.
    #[expect(clippy::unused_async, reason = "every operation is awaited alike")]
    pub async fn get_agent(
        &self,
        asker: &Asker,
        agent: &str,
        user: Option<&str>,
    ) -> Result<AgentView, BrokerError> {
        let known = self.inner.agent_of_asker(asker, agent, user)?;
        Ok(self.inner.agent_view(&known))
    }

    /// What an agent offers.
    ///
    /// # Errors
    /// `agent_not_found`, `forbidden`.
    #[expect(clippy::unused_async, reason = "every operation is awaited alike")]
    pub async fn agent_tools(
        &self,
        asker: &Asker,
        agent: &str,
        user: Option<&str>,
    ) -> Result<AgentOffer, BrokerError> {
        let inner = &self.inner;
        let known = inner.agent_of_asker(asker, agent, user)?;
        let own = inner.registry.offered_by(&known.owner, &known.agent);
        let pair = |server: &Arc<crate::registry::Server>| {
            let via = server.via.as_ref()?;
            Some((via.server.clone(), server.name.to_string()))
        };
        Ok(AgentOffer {
            agent_id: known.agent.id().to_string(),
            stale: !known.agent.is_online(),
            catalogue: known.agent.catalogue(),
            names: own.iter().filter_map(pair).collect(),
        })
    }

    /// Deletes an agent: its token is not good any more, its connection is closed, its servers are gone. Calls it
    /// runs end there, and as `outcome_unknown` here.
    ///
    /// # Errors
    /// `agent_not_found`, `forbidden`, `store_unavailable`.
    pub async fn delete_agent(
        &self,
        asker: &Asker,
        agent: &str,
        user: Option<&str>,
    ) -> Result<(), BrokerError> {
        let inner = &self.inner;
        let known = inner.agent_of_asker(asker, agent, user)?;
        let (owner, id) = (&known.owner, known.agent.id());
        if !inner.store.delete_agent(&owner.user, id).await? {
            return Err(no_such_agent());
        }
        inner.agents.remove(&known);
        inner.end_calls_of(&known);
        inner.note_action(asker, "agent_deleted", id).await;
        Ok(())
    }

    /// The token of one of the asker's agents; the agent is made when there is none. The live one is given again
    /// while it is good, unless it is to be reset.
    ///
    /// # Errors
    /// `forbidden` for a key that was narrowed; `invalid_request`; `conflict` when the agent belongs to another of
    /// the asker's workspaces; `quota_exceeded`; `store_unavailable`.
    pub async fn issue_agent_token(
        &self,
        asker: &Asker,
        wish: AgentTokenWish,
    ) -> Result<AgentToken, BrokerError> {
        let agent_id = wish.agent_id.as_deref().map(wanted_id).transpose()?;
        let agent_id = agent_id.map_or_else(fresh_id, Ok)?;
        let label = wish.label.as_deref().map(checked_label).transpose()?;
        let token = Wanted {
            agent_id,
            label,
            reset: wish.reset,
            life: wish.expires_in,
        };
        self.inner.issue(asker, token).await
    }

    /// Begins a pairing for an agent that has no token.
    ///
    /// # Errors
    /// `invalid_request`, `rate_limited`.
    pub fn begin_pairing(
        &self,
        agent_id: Option<&str>,
        label: Option<&str>,
    ) -> Result<PairingBegun, BrokerError> {
        let wish = Wish {
            agent_id: agent_id.map(wanted_id).transpose()?,
            label: label.map(checked_label).transpose()?,
        };
        self.inner.agents.shared.pairings.begin(wish)
    }

    /// Makes the agent that shows this code one of the asker's. An agent of that id which is there already is signed
    /// out.
    ///
    /// # Errors
    /// `agent_not_found` for a code nobody waits with, `rate_limited` after too many of those; else as
    /// [`Broker::issue_agent_token`].
    pub async fn confirm_pairing(&self, asker: &Asker, code: &str) -> Result<Paired, BrokerError> {
        may_have_agents(asker)?;
        let pairings = &self.inner.agents.shared.pairings;
        let wish = pairings.wish(&asker.principal.user, code)?;
        let agent_id = wish.agent_id.map_or_else(fresh_id, Ok)?;
        let wanted = Wanted {
            agent_id: agent_id.clone(),
            label: wish.label.clone(),
            reset: true,
            life: None,
        };
        let issued = self.inner.issue(asker, wanted).await?;
        let grant = Grant {
            agent_id: agent_id.clone(),
            token: issued.token,
        };
        pairings.approve(code, grant)?;
        Ok(Paired {
            agent_id: agent_id.to_string(),
            label: wish.label,
        })
    }

    /// Where a pairing stands, asked by its agent.
    #[must_use]
    pub fn pairing_standing(&self, poll_token: &str) -> PairingStanding {
        match self.inner.agents.shared.pairings.standing(poll_token) {
            Standing::Pending => PairingStanding::Pending,
            Standing::Approved(grant) => PairingStanding::Approved {
                agent_id: grant.agent_id.to_string(),
                token: grant.token,
            },
            Standing::Expired => PairingStanding::Expired,
        }
    }

    /// Says which of the asker's agents a lane means where nobody names one; `None` takes that back.
    ///
    /// # Errors
    /// `agent_not_found`, `quota_exceeded`, `store_unavailable`.
    pub async fn set_default_agent(
        &self,
        asker: &Asker,
        lane: &Lane,
        agent: Option<&str>,
    ) -> Result<(), BrokerError> {
        let inner = &self.inner;
        let owner = Owner::new(&asker.principal.workspace, &asker.principal.user);
        let agent = match agent {
            Some(agent) => {
                let id = agent_named(agent)?;
                Some(inner.agents.get(&owner, &id).ok_or_else(no_such_agent)?)
            }
            None => None,
        };
        let id = agent.as_ref().map(|known| known.agent.id().clone());
        let whose = (&owner.workspace, &owner.user);
        let set = inner
            .store
            .set_default_agent(whose, lane, id.as_deref())
            .await?;
        if !set {
            let detail = "too many lanes name an agent";
            return Err(Fault::new(ErrorCode::QuotaExceeded, detail));
        }
        inner.agents.set_default(&owner, lane.clone(), id);
        inner
            .note_action(asker, "agent_default_set", lane.as_str())
            .await;
        Ok(())
    }
}

/// A token to be issued, checked.
struct Wanted {
    agent_id: AgentId,
    label: Option<String>,
    reset: bool,
    life: Option<Duration>,
}

impl Inner {
    async fn issue(&self, asker: &Asker, wanted: Wanted) -> Result<AgentToken, BrokerError> {
        may_have_agents(asker)?;
        let who = &asker.principal;
        let life = wanted.life.unwrap_or(DEFAULT_LIFE);
        if life.is_zero() || life > MAX_LIFE {
            let detail = format!("expires_in_s must be 1 to {}", MAX_LIFE.as_secs());
            return Err(at("/expires_in_s", detail));
        }
        let wish = TokenWish {
            user: who.user.clone(),
            agent_id: wanted.agent_id.to_string(),
            workspace: who.workspace.clone(),
            label: wanted.label,
            reset: wanted.reset,
            expires_at: after(life),
            extend: wanted.life.is_some(),
            most: MAX_AGENTS,
        };
        let (row, revoked) = match self.store.grant_agent_token(&wish).await? {
            TokenGrant::Granted { row, revoked } => (row, revoked),
            TokenGrant::Elsewhere => {
                let mut fault = Fault::new(
                    ErrorCode::Conflict,
                    "this agent belongs to another of your workspaces",
                );
                fault.hint = Some("delete it there, or choose another agent_id".to_owned());
                return Err(fault);
            }
            TokenGrant::TooMany => {
                let detail = format!("a user has at most {MAX_AGENTS} agents");
                return Err(Fault::new(ErrorCode::QuotaExceeded, detail));
            }
        };
        let expires_at = match wanted.life {
            Some(_) => wish.expires_at,
            None => row.token_expires_at,
        };
        let token = self.agents.shared.tokens.sign(&row, expires_at)?;
        let issued = AgentToken {
            agent_id: row.agent_id.clone(),
            token,
            version: row.token_version,
            expires_at: rfc3339(expires_at),
            reset: revoked,
        };
        let before = self.agents.of_user(&who.user, &wanted.agent_id);
        let known = self.agents.add(*row);
        if let (true, Some(known)) = (revoked, before.and(known)) {
            known
                .agent
                .disconnect(close::REVOKED, "the token was reset");
        }
        let action = if revoked {
            "agent_token_reset"
        } else {
            "agent_token_issued"
        };
        self.note_action(asker, action, &issued.agent_id).await;
        Ok(issued)
    }

    /// Nobody brings the results of a deleted agent.
    fn end_calls_of(&self, known: &Known) {
        for live in self.live.all() {
            let intent = &live.intent;
            let its_own = intent.user == known.owner.user
                && intent.agent_id.as_deref() == Some(known.agent.id().as_str());
            if its_own {
                live.cancel(Stop::AgentGone);
            }
        }
    }

    fn agent_of_asker(
        &self,
        asker: &Asker,
        agent: &str,
        user: Option<&str>,
    ) -> Result<Arc<Known>, BrokerError> {
        let owner = owner_for(asker, user)?;
        let id = agent_named(agent)?;
        self.agents.get(&owner, &id).ok_or_else(no_such_agent)
    }

    fn agent_view(&self, known: &Known) -> AgentView {
        let (row, facts) = (known.row(), known.agent.facts());
        let offered = self.registry.offered_by(&known.owner, &known.agent);
        let lanes = self.agents.lanes(&known.owner);
        let lanes = lanes.iter().filter(|(_, id)| *id == known.agent.id());
        let moment = |unix_s: u64| {
            let at = i64::try_from(unix_s).ok().filter(|at| *at > 0)?;
            Some(rfc3339(DateTime::from_timestamp(at, 0)?))
        };
        AgentView {
            agent_id: row.agent_id,
            user: row.user.to_string(),
            workspace: row.workspace.to_string(),
            label: row.label,
            online: facts.online,
            since: moment(facts.since_unix_s),
            last_seen_at: moment(facts.last_seen_unix_s).or(row.last_seen_at.map(rfc3339)),
            created_at: rfc3339(row.created_at),
            token_version: row.token_version,
            token_expires_at: rfc3339(row.token_expires_at),
            epoch: row.epoch,
            in_flight: facts.in_flight,
            dropped_bytes: facts.dropped_bytes,
            bad_frames: facts.bad_frames,
            meta: row.meta,
            servers: offered.iter().map(|one| one.name.to_string()).collect(),
            default_lanes: lanes.map(|(lane, _)| lane.to_string()).collect(),
        }
    }
}

/// Whose agents are meant: the asker's own, or another user's for an admin of the workspace.
fn owner_for(asker: &Asker, user: Option<&str>) -> Result<Owner, BrokerError> {
    let who = &asker.principal;
    let Some(user) = user else {
        return Ok(Owner::new(&who.workspace, &who.user));
    };
    policy::require_admin(who)?;
    let user = UserId::new(user)
        .map_err(|error| Fault::new(ErrorCode::InvalidRequest, error.to_string()))?;
    Ok(Owner::new(&who.workspace, &user))
}

/// An agent acts for its user in everything, so a key that was narrowed cannot make one.
fn may_have_agents(asker: &Asker) -> Result<(), BrokerError> {
    if asker.principal.scopes.0.is_empty() {
        return Ok(());
    }
    let detail = "a key that was narrowed makes no agents";
    Err(Fault::new(ErrorCode::Forbidden, detail))
}

fn wanted_id(text: &str) -> Result<AgentId, BrokerError> {
    let id = AgentId::new(text).map_err(|error| at("/agent_id", error.to_string()))?;
    if RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
        return Err(at("/agent_id", format!("{text} is reserved")));
    }
    Ok(id)
}

fn fresh_id() -> Result<AgentId, BrokerError> {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes[..ID_BYTES]);
    let hex = catalog::Hash(bytes).hex();
    AgentId::new(&format!("agent_{}", &hex[..2 * ID_BYTES]))
        .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))
}

fn checked_label(text: &str) -> Result<String, BrokerError> {
    let printable = text.chars().all(|c| !c.is_control());
    if text.is_empty() || text.len() > MAX_LABEL_BYTES || !printable {
        let detail = format!("must be 1 to {MAX_LABEL_BYTES} bytes of printable text");
        return Err(at("/label", detail));
    }
    Ok(text.to_owned())
}

fn after(life: Duration) -> DateTime<Utc> {
    let life = TimeDelta::from_std(life).unwrap_or(TimeDelta::MAX);
    Utc::now()
        .checked_add_signed(life)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn at(pointer: &str, detail: impl Into<String>) -> BrokerError {
    let detail = detail.into();
    let mut fault = Fault::new(ErrorCode::InvalidRequest, detail.clone());
    fault.errors.push(PointerDetail {
        pointer: pointer.to_owned(),
        detail,
    });
    fault
}
