//! Logins of browsers: what a cookie stands for. Begun with a key or a token, ended by leaving, by time, and with the
//! key. Knows no cookie, no header and no page.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::error::BrokerError;
use crate::issuer::TOKEN_PREFIX;
use crate::keys::digest::{hex_of, random};
use crate::keys::{Reach, refused};
use crate::store::{LoginRow, Store};

/// Random bytes of the public part and of the secret.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// How the name of a login begins where the id of a key would stand; behind [`TOKEN_PREFIX`] when a token began it.
const LOGIN_PREFIX: &str = "login:";
/// What the word against forged requests is made of, besides the secret.
const FORGERY_LABEL: &[u8] = b"paperbot.csrf.v1:";

/// A fresh login.
#[derive(Debug)]
pub struct NewLogin {
    /// What the cookie holds; shown this once.
    pub cookie: SecretString,
    /// What a page must say besides, to show that it is ours.
    pub csrf_token: String,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// Begins a login for what a credential opens, for `ttl` or as long as the credential lives.
pub(crate) async fn begin(
    store: &Store,
    (reach, key_id): (&Reach, Option<String>),
    ttl: Duration,
) -> Result<(NewLogin, String), BrokerError> {
    let now = Utc::now();
    let ttl = TimeDelta::from_std(ttl).unwrap_or(TimeDelta::MAX);
    let end = now.checked_add_signed(ttl);
    let end = end.unwrap_or(DateTime::<Utc>::MAX_UTC);
    let expires_at = reach.expires_at.map_or(end, |own| own.min(end));
    if expires_at <= now {
        return Err(refused());
    }
    let login_id = hex::encode(random::<ID_BYTES>());
    let secret = hex::encode(random::<SECRET_BYTES>());
    let row = LoginRow {
        login_id: login_id.clone(),
        secret_hash: hex_of(&secret),
        user: reach.user.clone(),
        // A key's login opens what the key opens then; a token's is all there is to know.
        memberships: if key_id.is_some() {
            Vec::new()
        } else {
            reach.memberships.clone()
        },
        key_id,
        created_at: now,
        expires_at,
    };
    store.add_login(&row).await?;
    let name = name_of(&row);
    let cookie = format!("{login_id}_{secret}");
    let login = NewLogin {
        csrf_token: csrf_token(&cookie),
        cookie: SecretString::from(cookie),
        expires_at,
    };
    Ok((login, name))
}

/// A login's name in the record.
pub(crate) fn name_of(login: &LoginRow) -> String {
    let by_token = if login.key_id.is_none() {
        TOKEN_PREFIX
    } else {
        ""
    };
    format!("{by_token}{LOGIN_PREFIX}{}", login.login_id)
}

/// The id of the login a name means; `None` for the name of another credential.
pub(crate) fn id_in(name: &str) -> Option<&str> {
    name.strip_prefix(TOKEN_PREFIX)
        .unwrap_or(name)
        .strip_prefix(LOGIN_PREFIX)
}

/// What a page must say besides the cookie of a login: follows from the cookie, and the cookie not from it.
#[must_use]
pub fn csrf_token(cookie: &str) -> String {
    let digest = Sha256::new()
        .chain_update(FORGERY_LABEL)
        .chain_update(cookie.as_bytes());
    hex::encode(digest.finalize())
}

/// Whether a page said what only a page of ours can know.
#[must_use]
pub fn is_ours(cookie: &str, told: &str) -> bool {
    csrf_token(cookie).as_bytes().ct_eq(told.as_bytes()).into()
}
