//! Signed places of a chain: its end as of a moment, and the entry after which retention left it beginning.
//! Ed25519, so that whoever checks needs nothing secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::Serialize;

use super::Link;
use crate::instant::rfc3339;

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    /// The end of the chain when it was signed.
    Head,
    /// Everything up to here was removed by retention.
    Anchor,
}

impl PlaceKind {
    /// As in the store and in what is signed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Anchor => "anchor",
        }
    }
}

/// A place in a chain at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The workspace.
    pub workspace: String,
    /// The node that wrote the chain.
    pub chain: String,
    /// What it is.
    pub kind: PlaceKind,
    /// Which entry, and its hash.
    pub link: Link,
    /// When it was signed.
    pub signed_at: DateTime<Utc>,
}

/// What is signed: members in the order of RFC 8785.
#[derive(Serialize)]
struct Statement<'a> {
    chain: &'a str,
    hash: String,
    kind: PlaceKind,
    seq: u64,
    signed_at: String,
    workspace: &'a str,
}

impl Place {
    /// When it was signed, as it is signed: RFC 3339.
    #[must_use]
    pub fn signed_at(&self) -> String {
        rfc3339(self.signed_at)
    }

    /// The canonical JSON that is signed.
    fn statement(&self) -> Vec<u8> {
        let statement = Statement {
            chain: &self.chain,
            hash: self.link.hash.hex(),
            kind: self.kind,
            seq: self.link.seq,
            signed_at: self.signed_at(),
            workspace: &self.workspace,
        };
        serde_json::to_vec(&statement).unwrap_or_default()
    }
}

/// A place with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPlace {
    /// What is signed.
    pub place: Place,
    /// Ed25519, base64.
    pub signature: String,
}

/// The signing key of this bridge.
#[derive(Clone)]
pub(crate) struct Signer(SigningKey);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&secret))
    }

    pub(crate) fn public_key(&self) -> VerifyingKey {
        self.0.verifying_key()
    }

    pub(crate) fn sign(&self, place: Place) -> SignedPlace {
        let signature = self.0.sign(&place.statement());
        SignedPlace {
            place,
            signature: STANDARD.encode(signature.to_bytes()),
        }
    }

    /// Whether a place was signed by this bridge.
    pub(crate) fn signed(&self, signed: &SignedPlace) -> bool {
        let bytes = STANDARD.decode(&signed.signature).ok();
        let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| {
            self.public_key()
                .verify_strict(&signed.place.statement(), &signature)
                .is_ok()
        })
    }
}

/// A public key as it is shown.
pub(crate) fn public_key_text(key: &VerifyingKey) -> String {
    STANDARD.encode(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use catalog::Hash;

    use super::*;

    #[test]
    fn a_place_is_good_only_as_it_was_signed() {
        let own = Signer::new([7; 32]);
        let place = Place {
            workspace: "default".into(),
            chain: "local".into(),
            kind: PlaceKind::Head,
            link: Link {
                seq: 9,
                hash: Hash([3; 32]),
            },
            signed_at: DateTime::UNIX_EPOCH,
        };
        let signed = own.sign(place.clone());
        assert!(own.signed(&signed));
        assert!(!Signer::new([8; 32]).signed(&signed));
        for place in [
            Place {
                link: Link {
                    seq: 8,
                    ..place.link
                },
                ..place.clone()
            },
            Place {
                kind: PlaceKind::Anchor,
                ..place.clone()
            },
            Place {
                workspace: "other".into(),
                ..place
            },
        ] {
            let forged = SignedPlace {
                place,
                signature: signed.signature.clone(),
            };
            assert!(!own.signed(&forged), "{forged:?}");
        }
    }
}
