//! What callers and browsers are told of credentials: names and addresses, never a value.

use secrecy::SecretString;
use url::Url;

use crate::instant::rfc3339;
use crate::store::SealedRow;
use crate::vault::{AboutGrant, Kind};

/// What a holder has for one server, without any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialView {
    /// The server.
    pub server: String,
    /// It belongs to the whole workspace.
    pub shared: bool,
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// Grants.
    pub grants: Vec<GrantView>,
    /// The last change, RFC 3339.
    pub updated_at: String,
}

/// One grant, without its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantView {
    /// Who gave it.
    pub issuer: String,
    /// What it is for, as the issuer says.
    pub scope: Option<String>,
    /// When its present token ends, RFC 3339; it is renewed before.
    pub token_ends_at: Option<String>,
}

/// Where a person grants access.
#[derive(Debug, Clone)]
pub struct GrantLink {
    /// For a browser.
    pub url: String,
    /// RFC 3339.
    pub expires_at: String,
}

/// What a person is asked before anything is granted.
#[derive(Debug, Clone)]
pub struct GrantQuestion {
    /// The server's name.
    pub server: String,
    /// Its address.
    pub address: String,
    /// The workspace.
    pub workspace: String,
    /// Who asks.
    pub user: String,
    /// The grant will be used for everybody in the workspace.
    pub shared: bool,
}

/// Where the browser goes.
#[derive(Debug)]
pub struct GrantBegun {
    /// The issuer's page.
    pub authorize: Url,
    /// For a cookie of this browser.
    pub browser: SecretString,
}

/// What a browser brought back from an issuer.
#[derive(Debug, Default)]
pub struct GrantReturned {
    /// As it was sent.
    pub state: String,
    /// To be redeemed.
    pub code: Option<String>,
    /// Who answered (RFC 9207).
    pub iss: Option<String>,
    /// Why nothing was granted.
    pub error: Option<String>,
    /// The cookie.
    pub browser: Option<SecretString>,
}

/// Takes a row into the view of its holder and server.
pub(super) fn add(views: &mut Vec<CredentialView>, row: &SealedRow) {
    let holder = &row.place.holder;
    let shared = holder.user.is_none();
    let same =
        |view: &CredentialView| view.server == holder.server.as_str() && view.shared == shared;
    let updated_at = rfc3339(row.written_at);
    let at = views.iter().position(same).unwrap_or_else(|| {
        views.push(CredentialView {
            server: holder.server.to_string(),
            shared,
            secrets: Vec::new(),
            grants: Vec::new(),
            updated_at: updated_at.clone(),
        });
        views.len() - 1
    });
    let view = &mut views[at];
    // Fixed-width texts: the later one is the greater.
    if updated_at > view.updated_at {
        view.updated_at = updated_at;
    }
    if row.place.kind == Kind::Secret {
        view.secrets.push(row.place.field.clone());
        return;
    }
    let about: AboutGrant = serde_json::from_str(&row.about).unwrap_or_default();
    view.grants.push(GrantView {
        issuer: row.place.field.clone(),
        scope: about.scope,
        token_ends_at: about.token_ends_at,
    });
}
