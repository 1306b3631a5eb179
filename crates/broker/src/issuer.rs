//! Tokens of an OIDC issuer: from a JWT to whom it names and what it opens.
//!
//! Trusts the key set at one configured address and nothing a token says about where its key is. Keeps no token.

mod claims;
mod key_set;

use std::time::Duration;

use chrono::{DateTime, Utc};
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use sessions::UserId;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use self::claims::memberships;
use self::key_set::KeySet;
use crate::error::BrokerError;
use crate::jwt;
use crate::keys::{Reach, refused};

/// Longest token looked at: groups of a large directory fit, and the head of a request holds no more.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Clocks of bridge and issuer may differ by so much.
const LEEWAY: Duration = Duration::from_secs(30);
/// How the name of a token begins where the id of a key would stand.
pub(crate) const TOKEN_PREFIX: &str = "jwt:";
/// Bytes of a token's digest that name it in the record.
const NAME_BYTES: usize = 8;
/// What a configuration may allow: signatures whose key the bridge need not keep secret.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Whose tokens are taken.
#[derive(Debug, Clone)]
pub struct IssuerOptions {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or name among others.
    pub audience: String,
    /// Where the issuer's public keys are.
    pub jwks_url: Url,
    /// The claim that names workspaces; dots lead into objects.
    pub workspace_claim: String,
    /// The claim that names roles; dots lead into objects.
    pub roles_claim: String,
    /// Algorithms taken; each of [`ALGORITHMS`].
    pub algorithms: Vec<Algorithm>,
}

/// The one issuer whose tokens are taken.
#[derive(Debug)]
pub(crate) struct Issuer {
    options: IssuerOptions,
    keys: KeySet,
}

impl Issuer {
    /// Fetches belong to `tasks` and end with `stop`.
    pub(crate) fn new(
        options: IssuerOptions,
        (tasks, stop): (&TaskTracker, &CancellationToken),
    ) -> Self {
        jwt::install();
        Self {
            keys: KeySet::new(options.jwks_url.clone(), (tasks.clone(), stop.clone())),
            options,
        }
    }

    /// Whether this may be a token of an issuer at all: three parts, and no key of ours.
    pub(crate) fn looks_like_token(credential: &str) -> bool {
        !credential.starts_with("pb_") && credential.bytes().filter(|b| *b == b'.').count() == 2
    }

    /// Whom a token names. Workspaces it names that do not exist are still in it.
    ///
    /// # Errors
    /// `unauthenticated`, the same whatever is wrong with it.
    pub(crate) async fn read(&self, token: &str) -> Result<Reach, BrokerError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused());
        }
        let header = decode_header(token).map_err(|_| refused())?;
        // Looked at before any key is fetched: a token that can never be good costs the issuer nothing.
        if !self.options.algorithms.contains(&header.alg) {
            return Err(refused());
        }
        let found = self.keys.find(header.kid.as_deref(), header.alg).await;
        let key = found.ok_or_else(refused)?;
        let claims = decode::<Map<String, Value>>(token, &key, &self.rules(header.alg));
        let claims = claims.map_err(|_| refused())?.claims;
        self.reach(token, &claims).ok_or_else(refused)
    }

    fn rules(&self, algorithm: Algorithm) -> Validation {
        let mut rules = Validation::new(algorithm);
        rules.leeway = LEEWAY.as_secs();
        rules.validate_nbf = true;
        rules.set_issuer(&[&self.options.issuer]);
        rules.set_audience(&[&self.options.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules
    }

    fn reach(&self, token: &str, claims: &Map<String, Value>) -> Option<Reach> {
        let user = UserId::new(claims.get("sub")?.as_str()?).ok()?;
        let exp = claims.get("exp")?.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float becomes the nearest whole second there is"
        )]
        let exp = DateTime::from_timestamp(exp as i64, 0);
        // A time past the end of the calendar never comes.
        let end = exp.map_or(DateTime::<Utc>::MAX_UTC, |exp| exp + LEEWAY);
        let digest = Sha256::digest(token.as_bytes());
        Some(Reach {
            user,
            name: format!("{TOKEN_PREFIX}{}", hex::encode(&digest[..NAME_BYTES])),
            memberships: memberships(claims, &self.options),
            scopes: Vec::new(),
            expires_at: Some(end),
        })
    }
}

#[cfg(test)]
mod tests;
