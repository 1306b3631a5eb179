//! The link by which a person begins to grant: sealed, so that nobody makes one up or reads whose it is.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sessions::{UserId, WorkspaceId};
use transports::ServerName;

use super::challenge::Challenge;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::vault::secrets::no_form;
use crate::vault::{Holder, Vault, unreadable};

/// What tickets are sealed for.
const PURPOSE: &str = "paperbot grant ticket";
/// How long a link is good: a person reads it in an agent's answer.
const GOOD_FOR: TimeDelta = TimeDelta::minutes(30);

/// Who may begin to grant what.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ticket {
    workspace: WorkspaceId,
    server: ServerName,
    /// Who was given the link; only this user may complete it.
    pub asked_by: UserId,
    /// The grant is to be the workspace's.
    shared: bool,
    /// Unix milliseconds.
    good_until_ms: i64,
    pub challenge: Challenge,
}

impl Ticket {
    pub(super) fn new(holder: &Holder, asked_by: &UserId, challenge: Option<&str>) -> Self {
        Self {
            workspace: holder.workspace.clone(),
            server: holder.server.clone(),
            asked_by: asked_by.clone(),
            shared: holder.user.is_none(),
            good_until_ms: (Utc::now() + GOOD_FOR).timestamp_millis(),
            challenge: challenge.map(Challenge::read).unwrap_or_default(),
        }
    }

    pub(super) fn holder(&self) -> Holder {
        Holder {
            workspace: self.workspace.clone(),
            server: self.server.clone(),
            user: (!self.shared).then(|| self.asked_by.clone()),
        }
    }

    pub(super) fn good_until(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.good_until_ms).unwrap_or_default()
    }
}

impl Vault {
    /// The link.
    pub(super) fn link(&self, ticket: &Ticket) -> Result<String, BrokerError> {
        let Some(base) = &self.0.base_url else {
            let detail = "the bridge does not know where browsers reach it: set public_url";
            return Err(Fault::new(ErrorCode::Conflict, detail));
        };
        let text = serde_json::to_string(ticket).map_err(|_| no_form())?;
        let sealed = self.keys()?.seal_ticket(PURPOSE, &text);
        let sealed = sealed.map_err(|error| unreadable(&error))?;
        let mut url = base.clone();
        url.set_path("/v1/oauth/start");
        url.query_pairs_mut().append_pair("ticket", &sealed);
        Ok(url.to_string())
    }

    /// The ticket behind a link.
    pub(super) fn ticket(&self, text: &str) -> Result<Ticket, BrokerError> {
        let opened = self.keys()?.open_ticket(PURPOSE, text);
        let ticket = opened.and_then(|text| serde_json::from_str::<Ticket>(&text).ok());
        ticket
            .filter(|ticket| Utc::now().timestamp_millis() < ticket.good_until_ms)
            .ok_or_else(|| {
                let detail = "the link is not good, or not any more";
                let mut fault = Fault::new(ErrorCode::InvalidRequest, detail);
                fault.hint = Some("call the tool again for another link".to_owned());
                fault
            })
    }
}
