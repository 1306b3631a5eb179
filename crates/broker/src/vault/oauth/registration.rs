//! The bridge as an authorization server knows it: as the definition says, or registered once and kept (RFC 7591).

use http::{HeaderMap, HeaderValue, Method, header};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::discovery::Issuer;
use super::{Way, broken};
use crate::definition::OAuthNeed;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::vault::secrets::no_form;
use crate::vault::{Holder, Kind, Vault};

/// A client of an issuer. Written into seals only; has no `Debug` on purpose.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Client {
    pub id: String,
    #[serde(default)]
    pub secret: Option<String>,
    /// The secret stands in the body instead of a header.
    #[serde(default)]
    pub posts_secret: bool,
    /// Where browsers come back to; a registration for another address is of no use.
    pub redirect_uri: String,
}

#[derive(Deserialize)]
struct Registered {
    client_id: String,
    #[serde(default)]
    client_secret: Option<String>,
    #[serde(default)]
    token_endpoint_auth_method: Option<String>,
}

impl Vault {
    /// Who the bridge is for this issuer.
    ///
    /// # Errors
    /// `upstream_needs_auth` where it can register itself nowhere and the definition names no client.
    pub(super) async fn client(
        &self,
        (holder, way): (&Holder, &Way<'_>),
        (issuer, need): (&Issuer, &OAuthNeed),
        redirect_uri: &Url,
    ) -> Result<Client, BrokerError> {
        if let Some(id) = &need.client_id {
            let secret = need.client_secret.as_ref();
            return Ok(Client {
                id: id.clone(),
                secret: secret.map(|secret| secret.expose_secret().to_owned()),
                posts_secret: issuer.posts_secret,
                redirect_uri: redirect_uri.to_string(),
            });
        }
        // One registration for each workspace's server: its users share it, other workspaces do not.
        let workspaces = Holder {
            user: None,
            ..holder.clone()
        };
        let place = workspaces.at(Kind::Client, &issuer.name);
        if let Some(row) = self.0.store.sealed(&place).await? {
            let opened = self.open(&row)?;
            let known: Client =
                serde_json::from_slice(opened.expose_secret()).map_err(|_| no_form())?;
            if known.redirect_uri == redirect_uri.as_str() {
                return Ok(known);
            }
        }
        let Some(endpoint) = &issuer.register else {
            let detail = "the authorization server takes no registrations";
            let mut fault = Fault::new(ErrorCode::UpstreamNeedsAuth, detail);
            fault.hint = Some("an admin sets auth.oauth.client_id in the definition".to_owned());
            return Err(fault);
        };
        let client = register(way, endpoint, redirect_uri).await?;
        let kept = serde_json::to_vec(&client).map_err(|_| no_form())?;
        self.write(&place, &kept, "{}").await?;
        Ok(client)
    }
}

async fn register(
    way: &Way<'_>,
    endpoint: &Url,
    redirect_uri: &Url,
) -> Result<Client, BrokerError> {
    let local = redirect_uri.scheme() == "http";
    let wish = json!({
        "client_name": "PaperBot MCP Bridge",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": if local { "native" } else { "web" },
    });
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, kind);
    let body = wish.to_string().into_bytes().into();
    let told = way.send((Method::POST, endpoint), (headers, body)).await?;
    if !told.status.is_success() {
        return Err(broken("it refuses to register the bridge"));
    }
    let told: Registered = serde_json::from_slice(&told.body)
        .map_err(|_| broken("its answer to a registration cannot be read"))?;
    let posts = told.token_endpoint_auth_method.as_deref() == Some("client_secret_post");
    Ok(Client {
        id: told.client_id,
        secret: told.client_secret,
        posts_secret: posts,
        redirect_uri: redirect_uri.to_string(),
    })
}
