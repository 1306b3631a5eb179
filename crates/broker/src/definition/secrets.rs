//! Secret references: resolved here, wrapped, and taken out of every text again. Never logged or serialised.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use crate::redaction::{MASK, by_name};

/// Largest secret file read; secrets are tokens and keys, not documents.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Shorter values are not redacted: they would tear ordinary words apart.
const MIN_REDACTED_BYTES: usize = 6;
/// Tokens of one grant that are known by value: the present two and those before, of which a server may still speak.
const MAX_LEARNT: usize = 4;

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
pub struct Redactions {
    known: Arc<[SecretString]>,
    learnt: Option<Learnt>,
}

/// Secrets that change while they are in use; each in all its forms.
#[derive(Clone, Default)]
pub(crate) struct Learnt(Arc<Mutex<Vec<Vec<SecretString>>>>);

impl Learnt {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<SecretString>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value that is used from now on. The oldest makes room.
    pub(crate) fn note(&self, value: &str) {
        let new = forms(&SecretString::from(value));
        let mut known = self.lock();
        let same = |one: &Vec<SecretString>| {
            let form = one.iter().map(ExposeSecret::expose_secret);
            form.eq(new.iter().map(ExposeSecret::expose_secret))
        };
        if known.iter().any(same) {
            return;
        }
        if known.len() >= MAX_LEARNT {
            known.remove(0);
        }
        known.push(new);
    }
}

/// What holds another goes first, or its rest would stay.
fn longest_first(forms: &mut [SecretString]) {
    forms.sort_by_key(|form| std::cmp::Reverse(form.expose_secret().len()));
}

impl Redactions {
    pub(super) fn new(values: &[SecretString]) -> Self {
        Self::default().and(values)
    }

    /// These and more.
    pub(crate) fn and(&self, more: &[SecretString]) -> Self {
        let more = more.iter().flat_map(forms);
        let mut known: Vec<SecretString> = self.known.iter().cloned().chain(more).collect();
        longest_first(&mut known);
        Self {
            known: known.into(),
            learnt: self.learnt.clone(),
        }
    }

    /// These, and what is learnt there from now on.
    pub(crate) fn learning(&self, learnt: Learnt) -> Self {
        Self {
            known: Arc::clone(&self.known),
            learnt: Some(learnt),
        }
    }

    /// Also what is learnt there from now on, if anything is.
    pub(crate) fn learn_from(&mut self, learnt: Option<Learnt>) {
        self.learnt = learnt.or(self.learnt.take());
    }

    /// Whether both hold the same values: after a reload, whether a secret was rotated.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let pairs = self.known.iter().zip(other.known.iter());
        self.known.len() == other.known.len()
            && pairs.fold(true, |same, (one, two)| {
                same & (one.expose_secret() == two.expose_secret())
            })
    }

    /// The text without any of the values, and without what stands in it under the name of a secret.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let mut without = Cow::Borrowed(text);
        if let Some(learnt) = &self.learnt {
            let mut forms: Vec<SecretString> = learnt.lock().iter().flatten().cloned().collect();
            longest_first(&mut forms);
            without = without_all(without, &forms);
        }
        by_name(&without_all(without, &self.known)).into_owned()
    }
}

fn without_all<'a>(text: Cow<'a, str>, secrets: &[SecretString]) -> Cow<'a, str> {
    let long = |secret: &&SecretString| secret.expose_secret().len() >= MIN_REDACTED_BYTES;
    secrets.iter().filter(long).fold(text, |text, secret| {
        if text.contains(secret.expose_secret()) {
            Cow::Owned(text.replace(secret.expose_secret(), MASK))
        } else {
            text
        }
    })
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
        write!(f, "Redactions({})", self.known.len())
    }
}

impl fmt::Debug for Learnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Learnt({})", self.lock().len())
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

    #[test]
    fn what_is_added_and_what_is_learnt_later_is_taken_out_in_every_form_too() {
        let learnt = Learnt::default();
        let secrets = Redactions::new(&[SecretString::from("first-secret")]);
        let secrets = secrets.and(&[SecretString::from("s3cr\"et/+ value")]);
        let secrets = secrets.learning(learnt.clone());
        let said = "czNjciJldC8rIHZhbHVl first-secret dG9rZW4tb25l token-one token-one-long";
        assert_eq!(
            secrets.clean(said),
            "[redacted] [redacted] dG9rZW4tb25l token-one token-one-long"
        );
        learnt.note("token-one");
        learnt.note("token-one-long");
        learnt.note("token-one");
        assert_eq!(secrets.clean(said), ["[redacted]"; 5].join(" "));
        // Old ones make room, one by one.
        for token in ["token-two", "token-three"] {
            learnt.note(token);
        }
        assert_eq!(secrets.clean("token-one"), "[redacted]");
        learnt.note("token-four");
        assert_eq!(secrets.clean("token-one token-two"), "token-one [redacted]");
    }
}
