//! A grant: used, renewed by one of all that wait for it on every node, and forgotten when its issuer takes it back.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use transports::OutboundPolicy;
use url::Url;

use super::cells::Cell;
use super::exchange::{self, NoTokens, Tokens};
use super::registration::Client;
use super::{Way, broken};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::store::SealedRow;
use crate::vault::secrets::no_form;
use crate::vault::{Holder, Kind, Vault};

/// A token is renewed this long before its end, so that none ends on its way.
const MARGIN: TimeDelta = TimeDelta::seconds(30);
/// How long a token without a told end is used before the store is asked again.
const UNTOLD: Duration = Duration::from_mins(5);
/// How long it is believed that a holder has no grant; one that is given here is seen at once.
const ABSENT: Duration = Duration::from_secs(15);
/// Pause after a renewal that failed for another reason than a refusal.
const PAUSE: Duration = Duration::from_secs(5);
/// How long one node has a grant to itself for renewing it: longer than its request may take.
const LEASE: TimeDelta = TimeDelta::seconds(25);
/// Between two looks for what another node's renewal came to.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A grant as it is sealed. Has no `Debug` on purpose.
#[derive(Serialize, Deserialize)]
pub(super) struct Grant {
    /// The address the tokens are for: a server that moved gets none of them.
    pub server: Url,
    pub resource: String,
    pub token_endpoint: Url,
    pub client: Client,
    pub access_token: String,
    pub refresh_token: Option<String>,
    /// Unix milliseconds.
    pub ends_ms: Option<i64>,
}

/// What people may see of a grant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct AboutGrant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// When its present token ends, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ends_at: Option<String>,
}

impl Grant {
    /// Takes over what an issuer gave.
    pub(super) fn take(&mut self, tokens: Tokens) -> AboutGrant {
        self.access_token = tokens.access_token;
        // Left out means: the old one stays good.
        if tokens.refresh_token.is_some() {
            self.refresh_token = tokens.refresh_token;
        }
        let seconds = tokens
            .expires_in
            .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX / 2000));
        let ends = seconds
            .and_then(|seconds| Utc::now().checked_add_signed(TimeDelta::try_seconds(seconds)?));
        self.ends_ms = ends.map(|ends| ends.timestamp_millis());
        AboutGrant {
            scope: tokens.scope,
            token_ends_at: ends.map(crate::instant::rfc3339),
        }
    }

    /// Whatever the server says of its tokens from now on is not shown.
    fn note_in(&self, cell: &Cell) {
        if let Some(refresh) = &self.refresh_token {
            cell.tokens.note(refresh);
        }
        cell.tokens.note(&self.access_token);
    }

    fn token(&self) -> SecretString {
        SecretString::from(self.access_token.as_str())
    }

    /// How long its token may be used from now on; `None`: no longer.
    fn good_for(&self) -> Option<Duration> {
        let Some(ends_ms) = self.ends_ms else {
            return Some(UNTOLD);
        };
        let ends = DateTime::from_timestamp_millis(ends_ms)?;
        (ends - MARGIN - Utc::now())
            .to_std()
            .ok()
            .filter(|left| !left.is_zero())
    }
}

/// What a look at a grant came to.
enum Looked {
    /// A token, or that there is none; held already.
    Known(Option<SecretString>),
    /// Another node renews it at the moment.
    Wait,
}

impl Vault {
    /// The token for the next request of a cell's sessions; not `refused`, which a server has just refused.
    pub(in crate::vault) async fn token(
        &self,
        cell: &Cell,
        own: &OutboundPolicy,
        refused: Option<SecretString>,
    ) -> Option<SecretString> {
        let _alone = cell.renewing.acquire().await.ok()?;
        // Whoever waited for this place may find it done.
        if let Some(known) = cell.good_beside(refused.as_ref()) {
            return known;
        }
        match self.look(cell, own, refused.as_ref()).await {
            Ok(token) => token,
            Err(fault) => {
                tracing::warn!(
                    vault.server = %cell.holder.server,
                    error = %fault,
                    "a grant could not be renewed"
                );
                cell.hold(None, PAUSE);
                None
            }
        }
    }

    async fn look(
        &self,
        cell: &Cell,
        own: &OutboundPolicy,
        refused: Option<&SecretString>,
    ) -> Result<Option<SecretString>, BrokerError> {
        let until = Utc::now() + LEASE;
        loop {
            match self.look_once(cell, own, refused).await? {
                Looked::Known(token) => return Ok(token),
                Looked::Wait if Utc::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                Looked::Wait => return Err(broken("another node did not end renewing the grant")),
            }
        }
    }

    async fn look_once(
        &self,
        cell: &Cell,
        own: &OutboundPolicy,
        refused: Option<&SecretString>,
    ) -> Result<Looked, BrokerError> {
        let Some((row, grant)) = self.newest_grant(&cell.holder, &cell.server).await? else {
            cell.hold(None, ABSENT);
            return Ok(Looked::Known(None));
        };
        grant.note_in(cell);
        let was_refused =
            refused.is_some_and(|refused| refused.expose_secret() == grant.access_token);
        if let Some(good_for) = grant.good_for()
            && !was_refused
        {
            let token = grant.token();
            cell.hold(Some(token.clone()), good_for);
            return Ok(Looked::Known(Some(token)));
        }
        let now = Utc::now();
        let claim = ((&row.place, row.version), (now, now + LEASE));
        if !self.0.store.claim_sealed(claim.0, claim.1).await? {
            return Ok(Looked::Wait);
        }
        let renewed = self.renew((cell, own), &row, grant).await;
        if renewed.is_err() {
            // The next try need not wait for the lease: later than its end nobody has the row.
            let free = (now + LEASE + LEASE, DateTime::UNIX_EPOCH);
            self.0.store.claim_sealed(claim.0, free).await?;
        }
        renewed.map(Looked::Known)
    }

    async fn renew(
        &self,
        (cell, own): (&Cell, &OutboundPolicy),
        row: &SealedRow,
        mut grant: Grant,
    ) -> Result<Option<SecretString>, BrokerError> {
        let way = Way {
            server: &cell.server,
            own,
            others: &self.0.outbound,
        };
        let tokens = match grant.refresh_token.clone() {
            None => Err(NoTokens::Refused),
            Some(refresh) => {
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", refresh.as_str()),
                    ("resource", grant.resource.as_str()),
                ];
                exchange::ask(&way, (&grant.token_endpoint, &grant.client), &fields).await
            }
        };
        let tokens = match tokens {
            Ok(tokens) => tokens,
            Err(NoTokens::Failed(fault)) => return Err(fault),
            Err(NoTokens::Refused) => {
                self.0.store.drop_sealed(&row.place, row.version).await?;
                cell.hold(None, ABSENT);
                tracing::info!(vault.server = %cell.holder.server, "a grant is no longer good");
                return Ok(None);
            }
        };
        let mut about = grant.take(tokens);
        grant.note_in(cell);
        if about.scope.is_none() {
            let before = serde_json::from_str::<AboutGrant>(&row.about).unwrap_or_default();
            about.scope = before.scope;
        }
        let (value, about) = (form(&grant)?, form(&about)?);
        let about = String::from_utf8_lossy(&about).into_owned();
        if !self
            .write_version(&row.place, row.version + 1, (&value, &about))
            .await?
        {
            // Somebody granted anew meanwhile; that one counts.
            return Err(Fault::new(
                ErrorCode::Conflict,
                "the grant was changed meanwhile",
            ));
        }
        let token = grant.token();
        cell.hold(Some(token.clone()), grant.good_for().unwrap_or(PAUSE));
        Ok(Some(token))
    }

    /// Keeps a fresh grant in place of all the holder had for this server.
    pub(super) async fn keep_grant(
        &self,
        (holder, issuer): (&Holder, &str),
        grant: &Grant,
        about: &AboutGrant,
    ) -> Result<(), BrokerError> {
        let place = holder.at(Kind::Grant, issuer);
        let about = String::from_utf8_lossy(&form(about)?).into_owned();
        self.write(&place, &form(grant)?, &about).await?;
        for row in self.0.store.sealed_of(holder, Kind::Grant).await? {
            if row.place.field != issuer {
                self.0.store.drop_sealed(&row.place, row.version).await?;
            }
        }
        Ok(())
    }

    /// The holder's grant for a server at this address.
    async fn newest_grant(
        &self,
        holder: &Holder,
        server: &Url,
    ) -> Result<Option<(SealedRow, Grant)>, BrokerError> {
        for row in self.0.store.sealed_of(holder, Kind::Grant).await? {
            let opened = self.open(&row)?;
            let grant: Grant =
                serde_json::from_slice(opened.expose_secret()).map_err(|_| no_form())?;
            if grant.server == *server {
                return Ok(Some((row, grant)));
            }
        }
        Ok(None)
    }
}

fn form(value: &impl Serialize) -> Result<Vec<u8>, BrokerError> {
    serde_json::to_vec(value).map_err(|_| no_form())
}
