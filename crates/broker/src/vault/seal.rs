//! Envelope encryption: each value has a key of its own, and the configuration's key wraps those.
//!
//! AES-256-GCM-SIV throughout. Nothing here is ever written in the clear, and a failure says no more than that.

use aes_gcm_siv::aead::{Aead as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use sha2::{Digest as _, Sha256};

use super::place::Place;

/// Length of every key, in bytes.
const KEY_BYTES: usize = 32;
/// Length of a nonce, in bytes.
const NONCE_BYTES: usize = 12;
/// Digits of a key's name: enough to tell the few keys of a bridge apart, and no help in guessing one.
const KEY_ID_DIGITS: usize = 16;
/// What the name of a key is a digest of, besides the key.
const KEY_ID_LABEL: &[u8] = b"paperbot sealing key id";

/// A text is no sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealing key is 32 random bytes in hex or base64: openssl rand -hex 32")]
pub struct NoSealingKey;

/// Why something sealed is not readable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The bridge has no key.
    #[error("no sealing key is configured (secrets.key_file)")]
    Off,
    /// It was sealed under a key the bridge was not given.
    #[error("it was sealed with another key; add that one to secrets.old_key_files")]
    OtherKey,
    /// The row was changed, or belongs elsewhere.
    #[error("what the store holds is not what was sealed")]
    Broken,
}

/// A value as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The key that wraps the value's own.
    pub key_id: String,
    /// Base64: nonce and wrapped key.
    pub wrapped_key: String,
    /// Base64: nonce and ciphertext.
    pub body: String,
}

/// The keys of the configuration.
#[derive(Clone)]
pub struct SealingKeys {
    current: WrappingKey,
    older: Vec<WrappingKey>,
}

impl std::fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKeys({})", self.current.id)
    }
}

#[derive(Clone)]
struct WrappingKey {
    id: String,
    cipher: Aes256GcmSiv,
}

impl SealingKeys {
    /// Seals with `current`; still opens what `older` ones sealed.
    ///
    /// # Errors
    /// [`NoSealingKey`] when a text is no 32 bytes in hex or base64.
    pub fn new(current: &SecretString, older: &[SecretString]) -> Result<Self, NoSealingKey> {
        let older = older.iter().map(WrappingKey::read);
        Ok(Self {
            current: WrappingKey::read(current)?,
            older: older.collect::<Result<_, _>>()?,
        })
    }

    /// The name of the key that seals.
    pub(crate) fn id(&self) -> &str {
        &self.current.id
    }

    pub(crate) fn seal(
        &self,
        place: &Place,
        version: u64,
        value: &[u8],
    ) -> Result<Sealed, SealError> {
        let mut key = [0; KEY_BYTES];
        rand::fill(&mut key);
        let key = SecretSlice::from(key.to_vec());
        let bound = place.bound_to(version);
        Ok(Sealed {
            key_id: self.current.id.clone(),
            wrapped_key: encrypt(&self.current.cipher, &bound, key.expose_secret())?,
            body: encrypt(&cipher(&key)?, &bound, value)?,
        })
    }

    pub(crate) fn open(
        &self,
        place: &Place,
        version: u64,
        sealed: &Sealed,
    ) -> Result<SecretSlice<u8>, SealError> {
        let bound = place.bound_to(version);
        let key = decrypt(self.wrapping(sealed)?, &bound, &sealed.wrapped_key)?;
        decrypt(&cipher(&key)?, &bound, &sealed.body)
    }

    /// The same value with its key wrapped by the current key; the value itself is not touched.
    pub(crate) fn rewrap(
        &self,
        place: &Place,
        version: u64,
        sealed: &Sealed,
    ) -> Result<Sealed, SealError> {
        let bound = place.bound_to(version);
        let key = decrypt(self.wrapping(sealed)?, &bound, &sealed.wrapped_key)?;
        Ok(Sealed {
            key_id: self.current.id.clone(),
            wrapped_key: encrypt(&self.current.cipher, &bound, key.expose_secret())?,
            body: sealed.body.clone(),
        })
    }

    /// Seals a short text that is given out and comes back, for `purpose` alone.
    pub(crate) fn seal_ticket(&self, purpose: &str, text: &str) -> Result<String, SealError> {
        let sealed = encrypt(&self.current.cipher, purpose.as_bytes(), text.as_bytes())?;
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::Broken)?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The text of a ticket that this bridge gave out for `purpose`.
    pub(crate) fn open_ticket(&self, purpose: &str, ticket: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let text = STANDARD.encode(bytes);
        let all = std::iter::once(&self.current).chain(&self.older);
        let mut opened = all.filter_map(|key| decrypt(&key.cipher, purpose.as_bytes(), &text).ok());
        String::from_utf8(opened.next()?.expose_secret().to_vec()).ok()
    }

    fn wrapping(&self, sealed: &Sealed) -> Result<&Aes256GcmSiv, SealError> {
        let mut all = std::iter::once(&self.current).chain(&self.older);
        let found = all.find(|key| key.id == sealed.key_id);
        found.map(|key| &key.cipher).ok_or(SealError::OtherKey)
    }
}

impl WrappingKey {
    fn read(text: &SecretString) -> Result<Self, NoSealingKey> {
        let text = text.expose_secret().trim();
        let bytes = hex::decode(text).or_else(|_| STANDARD.decode(text));
        let bytes = bytes.ok().filter(|bytes| bytes.len() == KEY_BYTES);
        let key = SecretSlice::from(bytes.ok_or(NoSealingKey)?);
        let mut digest = Sha256::new();
        digest.update(KEY_ID_LABEL);
        digest.update(key.expose_secret());
        let hex = catalog::Hash(digest.finalize().into()).hex();
        Ok(Self {
            id: hex[..KEY_ID_DIGITS].to_owned(),
            cipher: cipher(&key).map_err(|_| NoSealingKey)?,
        })
    }
}

fn cipher(key: &SecretSlice<u8>) -> Result<Aes256GcmSiv, SealError> {
    Aes256GcmSiv::new_from_slice(key.expose_secret()).map_err(|_| SealError::Broken)
}

/// Base64 of a fresh nonce and the ciphertext.
fn encrypt(cipher: &Aes256GcmSiv, bound: &[u8], value: &[u8]) -> Result<String, SealError> {
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce);
    let payload = Payload {
        msg: value,
        aad: bound,
    };
    let text = cipher.encrypt(&Nonce::from(nonce), payload);
    let mut bytes = nonce.to_vec();
    // It fails for values of gigabytes only.
    bytes.extend_from_slice(&text.map_err(|_| SealError::Broken)?);
    Ok(STANDARD.encode(bytes))
}

fn decrypt(
    cipher: &Aes256GcmSiv,
    bound: &[u8],
    sealed: &str,
) -> Result<SecretSlice<u8>, SealError> {
    let bytes = STANDARD.decode(sealed).map_err(|_| SealError::Broken)?;
    let (nonce, text) = bytes
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(SealError::Broken)?;
    let payload = Payload {
        msg: text,
        aad: bound,
    };
    let value = cipher.decrypt(&Nonce::from(*nonce), payload);
    value.map(SecretSlice::from).map_err(|_| SealError::Broken)
}

#[cfg(test)]
mod tests {
    use sessions::{UserId, WorkspaceId};
    use transports::ServerName;

    use super::super::place::{Holder, Kind};
    use super::*;

    fn keys(digit: char, older: &[char]) -> SealingKeys {
        let key = |digit: &char| SecretString::from(digit.to_string().repeat(64));
        let older: Vec<_> = older.iter().map(key).collect();
        SealingKeys::new(&key(&digit), &older).unwrap()
    }

    fn place(workspace: &str, user: Option<&str>) -> Place {
        let holder = Holder {
            workspace: WorkspaceId::new(workspace).unwrap(),
            server: ServerName::new("s").unwrap(),
            user: user.map(|user| UserId::new(user).unwrap()),
        };
        holder.at(Kind::Secret, "token")
    }

    #[test]
    fn a_value_opens_at_its_place_and_version_alone() {
        let keys = keys('a', &[]);
        let home = place("w", Some("ann"));
        let sealed = keys.seal(&home, 3, b"hunter2hunter2").unwrap();
        let opened = keys.open(&home, 3, &sealed).unwrap();
        assert_eq!(opened.expose_secret(), b"hunter2hunter2");
        for (place, version) in [
            (place("w", Some("bob")), 3),
            (place("v", Some("ann")), 3),
            (place("w", None), 3),
            (home.clone(), 4),
        ] {
            assert_eq!(
                keys.open(&place, version, &sealed).err(),
                Some(SealError::Broken)
            );
        }
        let other_field = home.holder.at(Kind::Secret, "other");
        assert!(keys.open(&other_field, 3, &sealed).is_err());
        let other_kind = home.holder.at(Kind::Grant, "token");
        assert!(keys.open(&other_kind, 3, &sealed).is_err());
    }

    #[test]
    fn neither_half_of_a_row_fits_another_row() {
        let keys = keys('a', &[]);
        let home = place("w", Some("ann"));
        let one = keys.seal(&home, 1, b"one").unwrap();
        let two = keys.seal(&home, 1, b"two").unwrap();
        let mixed = Sealed {
            body: two.body.clone(),
            ..one.clone()
        };
        assert_eq!(keys.open(&home, 1, &mixed).err(), Some(SealError::Broken));
        assert_ne!(one.wrapped_key, two.wrapped_key);
    }

    #[test]
    fn another_key_says_so_and_an_old_one_still_opens_and_is_wrapped_anew() {
        let home = place("w", None);
        let sealed = keys('a', &[]).seal(&home, 1, b"value").unwrap();
        let fault = keys('b', &[]).open(&home, 1, &sealed).err();
        assert_eq!(fault, Some(SealError::OtherKey));
        let rotated = keys('b', &['a']);
        assert!(rotated.open(&home, 1, &sealed).is_ok());
        let wrapped = rotated.rewrap(&home, 1, &sealed).unwrap();
        assert_eq!(wrapped.body, sealed.body, "the value was not touched");
        let without_the_old = keys('b', &[]);
        let opened = without_the_old.open(&home, 1, &wrapped).unwrap();
        assert_eq!(opened.expose_secret(), b"value");
    }

    #[test]
    fn keys_are_hex_or_base64_of_32_bytes_and_are_never_shown() {
        let hex = "0f".repeat(32);
        let base64 = STANDARD.encode([15; 32]);
        let read = |text: &str| SealingKeys::new(&SecretString::from(text), &[]);
        assert_eq!(read(&hex).unwrap().id(), read(&base64).unwrap().id());
        for bad in ["", "0f", "é", &"0g".repeat(32), &STANDARD.encode([1; 31])] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", read(&hex).unwrap()).contains("0f0f"));
    }

    #[test]
    fn a_ticket_is_good_for_its_purpose_and_key_alone() {
        let keys_a = keys('a', &[]);
        let ticket = keys_a.seal_ticket("start", "who").unwrap();
        assert_eq!(keys_a.open_ticket("start", &ticket).as_deref(), Some("who"));
        assert_eq!(keys_a.open_ticket("other", &ticket), None);
        assert_eq!(keys('b', &[]).open_ticket("start", &ticket), None);
        assert_eq!(keys_a.open_ticket("start", "AAAA"), None);
    }
}
