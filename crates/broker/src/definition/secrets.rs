//! Secret references: resolved here, wrapped, and taken out of every text again. Never logged or serialised.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// Largest secret file read; secrets are tokens and keys, not documents.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Shorter values are not redacted: they would tear ordinary words apart.
const MIN_REDACTED_BYTES: usize = 6;
/// What stands in place of a secret.
const MASK: &str = "[redacted]";

/// Reads secret references.
#[derive(Debug, Clone, Default)]
pub struct Secrets {}

impl Secrets {
    /// Reads `env:NAME` or `file:/path`; the error says what to do, without the value.
    #[expect(
        clippy::unused_self,
        reason = "the next kinds of references need what they are read from"
    )]
    pub(super) fn read(&self, reference: &str) -> Result<SecretString, String> {
        let Some((scheme, rest)) = reference.split_once(':') else {
            return Err("a secret reference is env:NAME or file:/path".to_owned());
        };
        match scheme {
            "env" => std::env::var(rest)
                .map(SecretString::from)
                .map_err(|_| format!("the environment variable {rest} is not set")),
            "file" => read_file(rest),
            "store" | "vault" => Err(format!(
                "{scheme}: references are not available in this version; use env: or file:"
            )),
            _ => Err("a secret reference is env:NAME or file:/path".to_owned()),
        }
    }
}

fn read_file(path: &str) -> Result<SecretString, String> {
    let unreadable = |_| "the secret file cannot be read".to_owned();
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_SECRET_BYTES {
        return Err(format!(
            "the secret file is larger than {MAX_SECRET_BYTES} bytes"
        ));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

/// Secret values of one server, for taking them out of what it writes.
#[derive(Clone, Default)]
pub struct Redactions(Arc<[SecretString]>);

impl Redactions {
    pub(super) fn new(values: Vec<SecretString>) -> Self {
        Self(values.into())
    }

    /// Whether both hold the same values: after a reload, whether a secret was rotated.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(other.0.iter());
        self.0.len() == other.0.len()
            && pairs.fold(true, |same, (one, two)| {
                same & (one.expose_secret() == two.expose_secret())
            })
    }

    /// The text without any of the values.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let long = |secret: &&SecretString| secret.expose_secret().len() >= MIN_REDACTED_BYTES;
        self.0
            .iter()
            .filter(long)
            .fold(text.to_owned(), |text, secret| {
                if text.contains(secret.expose_secret()) {
                    text.replace(secret.expose_secret(), MASK)
                } else {
                    text
                }
            })
    }
}

impl fmt::Debug for Redactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactions({})", self.0.len())
    }
}
