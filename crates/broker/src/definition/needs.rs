//! What of a definition differs for each caller: secrets from the store, and OAuth. Holds no value of any caller.

use http::{HeaderName, HeaderValue};
use secrecy::SecretString;
use sessions::Isolation;

use super::check::{Complaints, Given};
use super::{Auth, Author, Definition, Value};

/// Longest name of a secret in the store, in bytes.
const MAX_SECRET_NAME_BYTES: usize = 64;
/// Most scopes a definition asks for, and the longest, in bytes: an authorization URL must hold them.
const MAX_SCOPES: usize = 32;
const MAX_SCOPE_BYTES: usize = 128;

/// What is to be filled in before a caller's session is opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    /// Headers from secrets of the store.
    pub headers: Vec<(HeaderName, Need)>,
    /// Variables from secrets of the store.
    pub env: Vec<(String, Need)>,
    /// Each request bears a token of the caller's, when there is one.
    pub oauth: Option<OAuthNeed>,
}

/// One secret of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// Its name.
    pub secret: String,
    /// Put before the value.
    pub prefix: String,
}

/// What a definition says of OAuth.
#[derive(Debug, Clone, Default)]
pub(crate) struct OAuthNeed {
    /// It stands in the definition, not only in the server's challenge.
    pub declared: bool,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretString>,
    pub scopes: Vec<String>,
    pub issuer: Option<String>,
}

impl Needs {
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.env.is_empty() && self.oauth.is_none()
    }
}

/// Whether a text can name a secret of the store.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !name.is_empty() && name.len() <= MAX_SECRET_NAME_BYTES && name.bytes().all(plain)
}

impl Complaints<'_> {
    /// `store:NAME`: filled in for each caller later.
    pub(super) fn stored(
        &mut self,
        pointer: &str,
        name: &str,
        prefix: Option<&str>,
    ) -> Option<Need> {
        let pointer = format!("{pointer}/secret");
        if !self.gate.secrets.has_store() {
            self.add(pointer, "store: needs a sealing key: set secrets.key_file");
            return None;
        }
        if !is_secret_name(name) {
            let detail = format!(
                "a name in the store is 1 to {MAX_SECRET_NAME_BYTES} letters, digits, `_`, `.` or `-`"
            );
            self.add(pointer, detail);
            return None;
        }
        let prefix = prefix.unwrap_or_default();
        if HeaderValue::from_str(prefix).is_err() {
            self.add(pointer, "the prefix holds characters that cannot be sent");
            return None;
        }
        Some(Need {
            secret: name.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// What callers may grant at the server's authorization server.
    pub(super) fn oauth(&mut self, definition: &Definition, authorized: bool) {
        let Some(Auth { oauth }) = &definition.auth else {
            if self.gate.secrets.has_store() && !authorized {
                // The server may ask for it in its challenge.
                self.needs.oauth = Some(OAuthNeed::default());
            }
            return;
        };
        if !self.gate.secrets.has_store() {
            self.add("/auth", "grants need a sealing key: set secrets.key_file");
        }
        if authorized {
            self.add("/auth", "the definition sets Authorization itself");
        }
        if definition.isolation == Isolation::Shared && self.gate.author == Author::Operator {
            self.add(
                "/isolation",
                "only an admin may share a session that bears a grant",
            );
        }
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
        let bad = |scope: &String| {
            scope.is_empty() || scope.len() > MAX_SCOPE_BYTES || !scope.bytes().all(plain)
        };
        if oauth.scopes.len() > MAX_SCOPES || oauth.scopes.iter().any(bad) {
            let detail =
                format!("at most {MAX_SCOPES} scopes of 1 to {MAX_SCOPE_BYTES} characters");
            self.add("/auth/oauth/scopes", detail);
        }
        if oauth.client_secret.is_some() && oauth.client_id.is_none() {
            self.add("/auth/oauth/client_secret", "needs client_id beside it");
        }
        let client_secret = oauth.client_secret.as_ref();
        let client_secret = client_secret.and_then(|value| self.client_secret(value));
        self.needs.oauth = Some(OAuthNeed {
            declared: true,
            client_id: oauth.client_id.clone(),
            client_secret,
            scopes: oauth.scopes.clone(),
            issuer: oauth.issuer.clone(),
        });
    }

    fn client_secret(&mut self, value: &Value) -> Option<SecretString> {
        let pointer = "/auth/oauth/client_secret";
        match self.value(pointer, "client_secret", value)? {
            Given::Now(secret) => Some(secret),
            Given::Later(_) => {
                self.add(pointer, "belongs to the bridge: use env: or file:");
                None
            }
        }
    }
}
