//! How a person grants: a link, a page that says what is granted to whom, the issuer, and the way back.
//!
//! A way back is good once, in the browser that set out, for the user who was given the link.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sessions::UserId;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::discovery::{Found, discover};
use super::exchange::{self, NoTokens};
use super::grant::Grant;
use super::offer::oauth_of;
use super::registration::Client;
use super::ticket::Ticket;
use super::{Way, broken};
use crate::definition::OAuthNeed;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::Server;
use crate::vault::secrets::no_form;
use crate::vault::{Holder, Kind, Vault, digest, unguessable};

/// How long a person may take at the issuer.
const AT_ISSUER: TimeDelta = TimeDelta::minutes(10);
/// Longest `state`, `code` and `iss` looked at.
const MAX_TEXT_BYTES: usize = 4096;

/// Where the browser goes, and what it must bring back.
#[derive(Debug)]
pub(crate) struct Begun {
    pub authorize: Url,
    /// For a cookie of this browser.
    pub browser: SecretString,
}

/// What the browser brought back.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    pub state: String,
    pub code: Option<String>,
    pub iss: Option<String>,
    pub error: Option<String>,
    /// The cookie.
    pub browser: Option<SecretString>,
    /// Who is signed in there, if that is known.
    pub user: Option<UserId>,
}

/// A sign-in under way, as it is sealed. Has no `Debug` on purpose.
#[derive(Serialize, Deserialize)]
struct Flow {
    server: Url,
    asked_by: UserId,
    verifier: String,
    /// Digest of what the browser must bring.
    browser: String,
    issuer: String,
    names_itself: bool,
    token_endpoint: Url,
    client: Client,
    resource: String,
}

impl Vault {
    /// Whose link it is.
    ///
    /// # Errors
    /// `invalid_request` for one that is not good.
    pub(crate) fn holder_of(&self, ticket: &str) -> Result<(Holder, UserId), BrokerError> {
        let ticket = self.ticket(ticket)?;
        Ok((ticket.holder(), ticket.asked_by))
    }

    /// Asks the issuer's metadata, and says where the browser is to go.
    ///
    /// # Errors
    /// `invalid_request` for a link that is not good; what discovery and registration say.
    pub(crate) async fn begin(&self, ticket: &str, server: &Server) -> Result<Begun, BrokerError> {
        let ticket = self.ticket(ticket)?;
        let holder = ticket.holder();
        let (http, need) = oauth_of(server)?;
        let way = Way {
            server: &http.url,
            own: &http.outbound,
            others: &self.0.outbound,
        };
        let found = discover(&way, &ticket.challenge, need.issuer.as_deref()).await?;
        let redirect = self.redirect_uri()?;
        let client = self
            .client((&holder, &way), (&found.issuer, need), &redirect)
            .await?;
        let (verifier, state, browser) = (unguessable(), unguessable(), unguessable());
        let authorize = authorize(
            &found,
            &client,
            (&verifier, &state),
            scope(need, &ticket, &found),
        );
        let flow = Flow {
            server: http.url.clone(),
            asked_by: ticket.asked_by,
            verifier,
            browser: digest(&browser),
            issuer: found.issuer.name,
            names_itself: found.issuer.names_itself,
            token_endpoint: found.issuer.token,
            client,
            resource: found.resource,
        };
        self.0.store.prune_flows(Utc::now() - AT_ISSUER).await?;
        let place = holder.at(Kind::Flow, digest(&state));
        let flow = serde_json::to_vec(&flow).map_err(|_| no_form())?;
        self.write(&place, &flow, "{}").await?;
        Ok(Begun {
            authorize,
            browser: SecretString::from(browser),
        })
    }

    /// Takes what a browser brought back from the issuer, and keeps the grant. Answers whose it is, and who gave it.
    ///
    /// # Errors
    /// `invalid_request` for a state that is not good here, in this browser, or not any more; `forbidden` for another
    /// user's; `upstream_needs_auth` when the person refused, or the issuer gives no tokens.
    pub(crate) async fn finish(
        &self,
        returned: Returned,
        server_of: impl Fn(&Holder) -> Option<std::sync::Arc<Server>>,
    ) -> Result<(Holder, UserId), BrokerError> {
        let (flow, holder) = self.take_flow(&returned).await?;
        // Whose answer it is comes first: another issuer's code goes nowhere (RFC 9207).
        check_issuer(&flow, returned.iss.as_deref())?;
        if returned.error.is_some() {
            return Err(refused(
                "the authorization server reports that nothing was granted",
            ));
        }
        let code = returned.code.filter(|code| code.len() <= MAX_TEXT_BYTES);
        let code = code.ok_or_else(|| refused("the authorization server gave no code"))?;
        let server = server_of(&holder);
        let reached = server.as_deref().and_then(|server| oauth_of(server).ok());
        let Some((http, _)) = reached.filter(|(http, _)| http.url == flow.server) else {
            return Err(refused("the server was changed meanwhile"));
        };
        let way = Way {
            server: &http.url,
            own: &http.outbound,
            others: &self.0.outbound,
        };
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", flow.client.redirect_uri.as_str()),
            ("code_verifier", flow.verifier.as_str()),
            ("resource", flow.resource.as_str()),
        ];
        let tokens = exchange::ask(&way, (&flow.token_endpoint, &flow.client), &fields).await;
        let tokens = tokens.map_err(|error| match error {
            NoTokens::Refused => refused("the authorization server does not take its code"),
            NoTokens::Failed(fault) => fault,
        })?;
        let mut grant = Grant {
            server: flow.server,
            resource: flow.resource,
            token_endpoint: flow.token_endpoint,
            client: flow.client,
            access_token: String::new(),
            refresh_token: None,
            ends_ms: None,
        };
        let about = grant.take(tokens);
        self.keep_grant((&holder, &flow.issuer), &grant, &about)
            .await?;
        self.forget(&holder);
        Ok((holder, flow.asked_by))
    }

    /// The flow of a state, which is thereby used up; only for the browser and user it belongs to.
    async fn take_flow(&self, returned: &Returned) -> Result<(Flow, Holder), BrokerError> {
        let unknown = || {
            let detail = "this way back is not good here, or not any more";
            let mut fault = Fault::new(ErrorCode::InvalidRequest, detail);
            fault.hint = Some("begin again from the link, in one browser".to_owned());
            fault
        };
        if returned.state.len() > MAX_TEXT_BYTES {
            return Err(unknown());
        }
        let row = self.0.store.sealed_flow(&digest(&returned.state)).await?;
        let row = row.filter(|row| Utc::now() - row.written_at < AT_ISSUER);
        let row = row.ok_or_else(unknown)?;
        let opened = self.open(&row)?;
        let flow: Flow = serde_json::from_slice(opened.expose_secret()).map_err(|_| no_form())?;
        let brought = returned.browser.as_ref();
        let brought = brought.map_or_else(String::new, |browser| digest(browser.expose_secret()));
        if !bool::from(brought.as_bytes().ct_eq(flow.browser.as_bytes())) {
            return Err(unknown());
        }
        if returned
            .user
            .as_ref()
            .is_some_and(|user| *user != flow.asked_by)
        {
            return Err(Fault::new(
                ErrorCode::Forbidden,
                "this link was given to another user",
            ));
        }
        if !self.0.store.drop_sealed(&row.place, row.version).await? {
            return Err(unknown());
        }
        Ok((flow, row.place.holder))
    }

    fn redirect_uri(&self) -> Result<Url, BrokerError> {
        let base = self.0.base_url.as_ref();
        let uri = base.and_then(|base| base.join("/v1/oauth/callback").ok());
        uri.ok_or_else(|| Fault::new(ErrorCode::Conflict, "set public_url"))
    }
}

fn scope(need: &OAuthNeed, ticket: &Ticket, found: &Found) -> Option<String> {
    if !need.scopes.is_empty() {
        return Some(need.scopes.join(" "));
    }
    let supported = || (!found.scopes.is_empty()).then(|| found.scopes.join(" "));
    ticket.challenge.scope.clone().or_else(supported)
}

fn authorize(
    found: &Found,
    client: &Client,
    (verifier, state): (&str, &str),
    scope: Option<String>,
) -> Url {
    let mut url = found.issuer.authorize.clone();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &client.id)
        .append_pair("redirect_uri", &client.redirect_uri)
        .append_pair("state", state)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        .append_pair("resource", &found.resource);
    if let Some(scope) = scope {
        url.query_pairs_mut().append_pair("scope", &scope);
    }
    url
}

fn check_issuer(flow: &Flow, told: Option<&str>) -> Result<(), BrokerError> {
    match told {
        Some(told) if told == flow.issuer => Ok(()),
        Some(_) => Err(broken(
            "the answer comes from another issuer than was asked",
        )),
        None if flow.names_itself => Err(broken("the answer does not say which issuer it is from")),
        None => Ok(()),
    }
}

fn refused(detail: &str) -> BrokerError {
    Fault::new(ErrorCode::UpstreamNeedsAuth, detail)
}
