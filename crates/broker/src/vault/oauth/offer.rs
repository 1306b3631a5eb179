//! Offers a person to grant: the link in a failed call, and the one that is asked for.

use chrono::{DateTime, Utc};
use sessions::UserId;
use transports::{Endpoint, HttpSpec};

use super::ticket::Ticket;
use crate::definition::OAuthNeed;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::Server;
use crate::vault::{Holder, Vault};

impl Vault {
    /// A link by which `asked_by` may grant what `server` asks for; and until when it is good.
    ///
    /// # Errors
    /// `conflict` where nothing can be granted: no sealing key, no address for browsers, no OAuth.
    pub(crate) fn grant_link(
        &self,
        server: &Server,
        (holder, asked_by): (&Holder, &UserId),
        challenge: Option<&str>,
    ) -> Result<(String, DateTime<Utc>), BrokerError> {
        oauth_of(server)?;
        let ticket = Ticket::new(holder, asked_by, challenge);
        Ok((self.link(&ticket)?, ticket.good_until()))
    }

    /// A fault of a server, with the link by which this user can do something about it.
    pub(crate) fn with_link(
        &self,
        mut fault: BrokerError,
        (server, user): (&Server, &UserId),
    ) -> BrokerError {
        if fault.code != ErrorCode::UpstreamNeedsAuth || fault.link.is_some() {
            return fault;
        }
        let Some(need) = server.needs().and_then(|needs| needs.oauth.as_ref()) else {
            return fault;
        };
        let challenge = fault.challenge.clone();
        let asks = challenge
            .as_deref()
            .is_some_and(|challenge| challenge.contains("resource_metadata"));
        if !need.declared && !asks {
            return fault;
        }
        let holder = server.holder(user);
        if holder.user.is_none() {
            fault.hint = Some(format!(
                "an admin grants access for the workspace: POST /v1/credentials/{}/authorize {{\"shared\": true}}",
                server.name
            ));
            return fault;
        }
        match self.grant_link(server, (&holder, user), challenge.as_deref()) {
            Ok((link, _)) => {
                fault.hint = Some(format!("open {link} in a browser to grant access"));
                fault.link = Some(link);
            }
            Err(why) => fault.hint = Some(why.detail.clone()),
        }
        fault
    }
}

/// How a server is reached, and what its definition says of OAuth.
pub(super) fn oauth_of(server: &Server) -> Result<(&HttpSpec, &OAuthNeed), BrokerError> {
    let need = server.needs().and_then(|needs| needs.oauth.as_ref());
    match (&server.target()?.spec.endpoint, need) {
        (Endpoint::StreamableHttp(http) | Endpoint::LegacySse(http), Some(need)) => {
            Ok((http, need))
        }
        _ => Err(Fault::new(
            ErrorCode::Conflict,
            "nothing can be granted for this server",
        )),
    }
}
