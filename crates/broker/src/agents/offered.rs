//! The servers of a user's agents under the names they have in the user's view: `<agent>-<server>`.
//!
//! A name must never come to mean another server than it did: where two would have the same one, or the workspace
//! has it already, a digest of agent and server is added to each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sessions::{Isolation, Target, UserId, WorkspaceId};
use sha2::{Digest as _, Sha256};
use transports::tunnel::AgentId;
use transports::tunnel::bridge::Agent;
use transports::{Endpoint, EraChoice, ServerName, ServerSpec, Timeouts, TunnelSpec, WireLimits};

use crate::definition::{Checked, Definition, Lead, Redactions};
use crate::registry::{Server, Source, Via};

/// Longest server name, in bytes.
const MAX_NAME_BYTES: usize = 63;
/// Hex digits of the digest added to a name.
const SUFFIX_DIGITS: usize = 8;

/// Whose view: a user in one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub workspace: WorkspaceId,
    pub user: UserId,
}

impl Owner {
    pub(crate) fn new(workspace: &WorkspaceId, user: &UserId) -> Self {
        Self {
            workspace: workspace.clone(),
            user: user.clone(),
        }
    }
}

/// What one agent offers.
#[derive(Debug)]
pub(crate) struct Offer {
    pub agent: Agent,
    /// As [`Via::incarnation`].
    pub incarnation: u64,
    /// Its servers, under its own names.
    pub servers: Vec<String>,
}

/// What the agents of an owner offer.
pub(crate) type Offered = BTreeMap<AgentId, Offer>;

type Named = BTreeMap<ServerName, Arc<Server>>;

/// The owner's servers by name. Those whose name and agent did not change stay the same objects, and so keep
/// their sessions. `held`: what there was; `taken`: the workspace's own.
pub(crate) fn own_servers(
    owner: &Owner,
    offered: &Offered,
    (held, taken): (Option<&Named>, Option<&Named>),
    version: impl Fn() -> u64,
) -> Named {
    let mut wanted: HashMap<String, Vec<(&Offer, &String)>> = HashMap::new();
    for offer in offered.values() {
        for server in &offer.servers {
            let base = plain(offer.agent.id(), server);
            wanted.entry(base).or_default().push((offer, server));
        }
    }
    let mut named = Named::new();
    for (base, these) in wanted {
        let free = |name: &ServerName| taken.is_none_or(|taken| !taken.contains_key(name));
        let alone = these.len() == 1 && base.len() <= MAX_NAME_BYTES;
        for (offer, server) in these {
            let short = ServerName::new(&base)
                .ok()
                .filter(|name| alone && free(name));
            let Some(name) =
                short.or_else(|| ServerName::new(&marked(&base, offer.agent.id(), server)).ok())
            else {
                continue;
            };
            let same = held.and_then(|held| held.get(&name)).filter(|before| {
                let via = before.via.as_ref();
                via.is_some_and(|via| via.incarnation == offer.incarnation && via.server == *server)
            });
            let server = match same {
                Some(before) => Arc::clone(before),
                None => Arc::new(own_server(owner, &name, (offer, server), version())),
            };
            named.insert(name, server);
        }
    }
    named
}

/// As server names are written: small letters, digits and dashes.
fn plain(agent: &AgentId, server: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    format!("{agent}-{server}").chars().map(letter).collect()
}

fn marked(base: &str, agent: &AgentId, server: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(agent.as_str());
    digest.update([0]);
    digest.update(server);
    let digest: [u8; 32] = digest.finalize().into();
    let room = MAX_NAME_BYTES - SUFFIX_DIGITS - 1;
    // `base` is ASCII.
    let head = &base[..base.len().min(room)];
    format!("{head}-{}", &catalog::Hash(digest).hex()[..SUFFIX_DIGITS])
}

fn own_server(
    owner: &Owner,
    name: &ServerName,
    (offer, server): (&Offer, &str),
    version: u64,
) -> Server {
    let agent = &offer.agent;
    let definition = Definition::of_agent(agent.id(), server);
    let target = tunnel_target(name, (agent, server), (Isolation::User, version));
    Server {
        name: name.clone(),
        workspace: owner.workspace.clone(),
        version: 1,
        source: Source::Agent,
        definition,
        checked: Ok(Checked {
            lead: Lead::Server(target),
            child: None,
            redactions: Redactions::default(),
            needs: None,
        }),
        created_at: None,
        created_by: None,
        via: Some(Via {
            agent: agent.clone(),
            incarnation: offer.incarnation,
            server: server.to_owned(),
        }),
    }
}

/// A target that leads through an agent. Sessions fill in their own isolation.
pub(crate) fn tunnel_target(
    name: &ServerName,
    (agent, server): (&Agent, &str),
    (isolation, version): (Isolation, u64),
) -> Target {
    Target {
        spec: Arc::new(ServerSpec {
            name: name.clone(),
            endpoint: Endpoint::Tunnel(TunnelSpec {
                agent: agent.clone(),
                server: server.to_owned(),
                isolation_key: String::new(),
            }),
            era: EraChoice::Auto,
            timeouts: Timeouts::default(),
            limits: WireLimits::default(),
        }),
        isolation,
        version,
    }
}
