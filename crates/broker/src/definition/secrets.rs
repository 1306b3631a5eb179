//! Secret references: resolved here, wrapped, and taken out of every text again. Never logged or serialised.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use crate::redaction::{MASK, by_name};

/// Largest secret file read; secrets are tokens and keys, not documents.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Shorter values are not redacted: they would tear ordinary words apart.
const MIN_REDACTED_BYTES: usize = 6;

/// Reads secret references.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    store: bool,
}

impl Secrets {
    /// Reads `env:` and `file:`; leaves `store:` to each caller's session when there is a key to unseal it.
    #[must_use]
    pub fn new(store: bool) -> Self {
        Self { store }
    }

    pub(super) fn has_store(&self) -> bool {
        self.store
    }

    /// Reads `env:NAME` or `file:/path`; the error says what to do, without the value.
    #[expect(
        clippy::unused_self,
        reason = "the next kinds of references need what they are read from"
    )]
    pub(super) fn read(&self, reference: &str) -> Result<SecretString, String> {
        let Some((scheme, rest)) = reference.split_once(':') else {
            return Err("a secret reference is env:NAME, file:/path or store:NAME".to_owned());
        };
        match scheme {
            "env" => std::env::var(rest)
                .map(SecretString::from)
                .map_err(|_| format!("the environment variable {rest} is not set")),
            "file" => read_file(rest),
            "vault" => {
                let detail = "vault: references are not available in this version; \
                              let its agent write a file, and use file:";
                Err(detail.to_owned())
            }
            _ => Err("a secret reference is env:NAME, file:/path or store:NAME".to_owned()),
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
    pub(super) fn new(values: &[SecretString]) -> Self {
        let mut forms: Vec<SecretString> = values.iter().flat_map(forms).collect();
        // What holds another goes first, or its rest would stay.
        forms.sort_by_key(|form| std::cmp::Reverse(form.expose_secret().len()));
        Self(forms.into())
    }

    /// These and more.
    pub(crate) fn and(&self, more: Vec<SecretString>) -> Self {
        Self(self.0.iter().cloned().chain(more).collect())
    }

    /// Whether both hold the same values: after a reload, whether a secret was rotated.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(other.0.iter());
        self.0.len() == other.0.len()
            && pairs.fold(true, |same, (one, two)| {
                same & (one.expose_secret() == two.expose_secret())
            })
    }

    /// The text without any of the values, and without what stands in it under the name of a secret.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let long = |secret: &&SecretString| secret.expose_secret().len() >= MIN_REDACTED_BYTES;
        let without = self
            .0
            .iter()
            .filter(long)
            .fold(Cow::Borrowed(text), |text, secret| {
                if text.contains(secret.expose_secret()) {
                    Cow::Owned(text.replace(secret.expose_secret(), MASK))
                } else {
                    text
                }
            });
        by_name(&without).into_owned()
    }
}

/// A value as it may stand in a text: itself, in a JSON text, in base64, in a URL.
fn forms(value: &SecretString) -> Vec<SecretString> {
    let plain = value.expose_secret();
    let json = serde_json::to_string(plain).unwrap_or_default();
    let mut forms = vec![
        plain.to_owned(),
        json.get(1..json.len().saturating_sub(1))
            .unwrap_or_default()
            .to_owned(),
        STANDARD_NO_PAD.encode(plain),
        URL_SAFE_NO_PAD.encode(plain),
        url::form_urlencoded::byte_serialize(plain.as_bytes()).collect(),
    ];
    forms.sort_unstable();
    forms.dedup();
    forms.into_iter().map(SecretString::from).collect()
}

impl fmt::Debug for Redactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactions({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_out_in_every_form_it_is_likely_to_come() {
        let secrets = Redactions::new(&[SecretString::from("s3cr\"et/+ value")]);
        for form in [
            "s3cr\"et/+ value",
            r#"s3cr\"et/+ value"#,
            "czNjciJldC8rIHZhbHVl",
            "s3cr%22et%2F%2B+value",
        ] {
            assert_eq!(secrets.clean(&format!("a {form} b")), "a [redacted] b");
        }
        assert_eq!(secrets.clean("nothing here"), "nothing here");
    }
}
