//! Agent tokens: JWT HS256 with the version of the one token of its agent that is good (tunnel.md § Tokens).
//! Signs and reads; whether a version is still the live one is the store's word.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sessions::{UserId, WorkspaceId};
use transports::tunnel::AgentId;

use crate::error::{BrokerError, ErrorCode, Fault};
use crate::jwt;
use crate::store::signing::SECRET_BYTES;
use crate::store::{AgentRow, Store};

/// Under which name the store keeps the key.
const SECRET_NAME: &str = "agent_tokens";
/// Who issues.
const ISSUER: &str = "paperbot";
/// What kind of token it is; other tokens of this key would say something else.
const KIND: &str = "bridge_agent";
/// Longest token looked at, in bytes: ids of 255 bytes each, twice encoded, fit.
const MAX_TOKEN_BYTES: usize = 4096;

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    #[serde(rename = "type")]
    kind: String,
    sub: UserId,
    workspace: WorkspaceId,
    agent_id: AgentId,
    ver: u64,
    iat: i64,
    exp: i64,
}

/// Whom a good signature names. Its version is still to be held against the store's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub user: UserId,
    pub workspace: WorkspaceId,
    pub agent_id: AgentId,
    pub version: u64,
    pub expires_at: DateTime<Utc>,
}

/// Signs and reads agent tokens.
pub(crate) struct Tokens {
    signing: EncodingKey,
    reading: DecodingKey,
    rules: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

fn unsignable<E>(_: E) -> BrokerError {
    Fault::new(ErrorCode::Internal, "an agent token cannot be signed")
}

impl Tokens {
    /// With the key the store keeps.
    pub(crate) async fn load(store: &Store) -> Result<Self, BrokerError> {
        Self::keyed(&store.signing_secret(SECRET_NAME).await?)
    }

    fn keyed(secret: &[u8; SECRET_BYTES]) -> Result<Self, BrokerError> {
        jwt::install();
        let mut rules = Validation::new(Algorithm::HS256);
        rules.leeway = 0;
        rules.set_issuer(&[ISSUER]);
        rules.set_required_spec_claims(&["exp", "iss", "sub"]);
        rules.validate_aud = false;
        Ok(Self {
            signing: EncodingKey::from_secret(secret).map_err(unsignable)?,
            reading: DecodingKey::from_secret(secret).map_err(unsignable)?,
            rules,
        })
    }

    /// The live token of an agent, good until `expires_at`. The same row gives the same token.
    pub(crate) fn sign(
        &self,
        row: &AgentRow,
        expires_at: DateTime<Utc>,
    ) -> Result<SecretString, BrokerError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            kind: KIND.to_owned(),
            sub: row.user.clone(),
            workspace: row.workspace.clone(),
            agent_id: AgentId::new(&row.agent_id).map_err(unsignable)?,
            ver: row.token_version,
            iat: row.token_issued_at.timestamp(),
            exp: expires_at.timestamp(),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map(SecretString::from)
            .map_err(unsignable)
    }

    /// Whom a token names; `None` for whatever is not signed by us, expired, or no agent token.
    pub(crate) fn read(&self, token: &SecretString) -> Option<Bearer> {
        let token = token.expose_secret();
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let claims = decode::<Claims>(token, &self.reading, &self.rules)
            .ok()?
            .claims;
        let expires_at = DateTime::from_timestamp(claims.exp, 0)?;
        // The library lets the whole last second pass.
        let good = claims.kind == KIND && claims.ver > 0 && expires_at > Utc::now();
        good.then_some(Bearer {
            user: claims.sub,
            workspace: claims.workspace,
            agent_id: claims.agent_id,
            version: claims.ver,
            expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;

    fn row(version: u64) -> AgentRow {
        let now = Utc::now();
        AgentRow {
            user: UserId::new("ann").unwrap(),
            agent_id: "laptop".to_owned(),
            workspace: WorkspaceId::new("default").unwrap(),
            label: None,
            token_version: version,
            token_issued_at: now,
            token_expires_at: now + TimeDelta::days(1),
            created_at: now,
            deleted_at: None,
            epoch: 0,
            last_seen_at: None,
            meta: None,
            catalogue: None,
            catalogue_at: None,
        }
    }

    fn forged(claims: &serde_json::Value, secret: &[u8], algorithm: Algorithm) -> SecretString {
        jwt::install();
        let key = EncodingKey::from_secret(secret).unwrap();
        encode(&Header::new(algorithm), claims, &key)
            .unwrap()
            .into()
    }

    #[test]
    fn a_token_is_read_back_as_it_was_signed_and_the_same_row_gives_the_same_token() {
        let tokens = Tokens::keyed(&[7; 32]).unwrap();
        let row = row(3);
        let token = tokens.sign(&row, row.token_expires_at).unwrap();
        let again = tokens.sign(&row, row.token_expires_at).unwrap();
        assert_eq!(token.expose_secret(), again.expose_secret());
        let bearer = tokens.read(&token).unwrap();
        assert_eq!((bearer.user.as_str(), bearer.version), ("ann", 3));
        assert_eq!(bearer.agent_id.as_str(), "laptop");
    }

    #[test]
    fn what_this_bridge_did_not_sign_and_what_is_no_agent_token_names_nobody() {
        let tokens = Tokens::keyed(&[7; 32]).unwrap();
        let row = row(1);
        let good = tokens.sign(&row, row.token_expires_at).unwrap();
        let other = Tokens::keyed(&[8; 32]).unwrap();
        assert!(other.read(&good).is_none(), "another key");
        let past = Utc::now() - TimeDelta::seconds(2);
        assert!(
            tokens.read(&tokens.sign(&row, past).unwrap()).is_none(),
            "expired"
        );
        let claims = |kind: &str, ver: u64, iss: &str| {
            json!({"iss": iss, "type": kind, "sub": "ann", "workspace": "default", "agent_id": "laptop",
                "ver": ver, "iat": 1, "exp": Utc::now().timestamp() + 60})
        };
        let read = |claims| {
            tokens
                .read(&forged(&claims, &[7; 32], Algorithm::HS256))
                .is_some()
        };
        assert!(read(claims(KIND, 1, ISSUER)));
        for bad in [
            claims("user", 1, ISSUER),
            claims(KIND, 0, ISSUER),
            claims(KIND, 1, "somebody"),
        ] {
            assert!(!read(bad.clone()), "{bad}");
        }
        let unsigned = format!(
            "{}.{}.",
            "eyJhbGciOiJub25lIn0",
            good.expose_secret().split('.').nth(1).unwrap()
        );
        assert!(tokens.read(&unsigned.into()).is_none(), "no algorithm");
        assert!(tokens.read(&"a".repeat(5000).into()).is_none(), "too long");
    }
}
