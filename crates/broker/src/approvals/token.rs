//! Confirmation tokens: which approval, and a MAC over everything it was given for. Whether one was used is for the
//! store to say.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catalog::Hash;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sessions::{UserId, WorkspaceId};
use sha2::Sha256;
use uuid::Uuid;

use super::id::ApprovalId;
use crate::store::signing::SECRET_BYTES;

/// What every token begins with, so that one is known where it should not stand.
const PREFIX: &str = "pbc_";
/// An id and a MAC.
const ID_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
/// Longest text looked at.
const MAX_TOKEN_BYTES: usize = 128;
/// What the MAC is over, and in which version.
const DOMAIN: &[u8] = b"paperbot confirm token v1";

/// Everything a token is good for: another of any of these is another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding<'a> {
    pub(crate) workspace: &'a WorkspaceId,
    pub(crate) user: &'a UserId,
    /// `server.tool`.
    pub(crate) reference: &'a str,
    /// The agent the caller named; empty where it named none.
    pub(crate) agent_id: &'a str,
    /// Of the RFC 8785 form.
    pub(crate) arguments_digest: [u8; 32],
    pub(crate) schema_hash: Hash,
}

/// Signs and checks tokens.
pub(crate) struct Signer([u8; SECRET_BYTES]);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// A token that can be read; what it is worth is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: ApprovalId,
    mac: [u8; MAC_BYTES],
}

impl Token {
    /// Reads a token.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text
            .strip_prefix(PREFIX)
            .filter(|text| text.len() <= MAX_TOKEN_BYTES)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (id, mac) = bytes.split_at_checked(ID_BYTES)?;
        Some(Self {
            id: ApprovalId(Uuid::from_slice(id).ok()?),
            mac: mac.try_into().ok()?,
        })
    }
}

impl Signer {
    pub(crate) fn new(secret: [u8; SECRET_BYTES]) -> Self {
        Self(secret)
    }

    /// The token of an approval.
    pub(crate) fn mint(&self, id: ApprovalId, binding: &Binding<'_>, expires_ms: i64) -> String {
        let mut bytes = Vec::with_capacity(ID_BYTES + MAC_BYTES);
        bytes.extend_from_slice(id.0.as_bytes());
        if let Some(mac) = self.mac(id, binding, expires_ms) {
            bytes.extend_from_slice(&mac.finalize().into_bytes());
        }
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whether a token was given for exactly this, in constant time.
    pub(crate) fn holds(&self, token: &Token, binding: &Binding<'_>, expires_ms: i64) -> bool {
        let mac = self.mac(token.id, binding, expires_ms);
        mac.is_some_and(|mac| mac.verify_slice(&token.mac).is_ok())
    }

    fn mac(&self, id: ApprovalId, binding: &Binding<'_>, expires_ms: i64) -> Option<Hmac<Sha256>> {
        // Any length will do as a key: there is always one.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        let expires = expires_ms.to_be_bytes();
        let parts: [&[u8]; 9] = [
            DOMAIN,
            id.0.as_bytes(),
            binding.workspace.as_str().as_bytes(),
            binding.user.as_str().as_bytes(),
            binding.reference.as_bytes(),
            binding.agent_id.as_bytes(),
            &binding.arguments_digest,
            &binding.schema_hash.0,
            &expires,
        ];
        for part in parts {
            // With its length, so that no two lists of parts read alike.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_exactly_what_it_was_given_for() {
        let [here, there] = ["here", "there"].map(|id| WorkspaceId::new(id).unwrap());
        let [ann, bob] = ["ann", "bob"].map(|id| UserId::new(id).unwrap());
        let binding = Binding {
            workspace: &here,
            user: &ann,
            reference: "bank.pay",
            agent_id: "",
            arguments_digest: [1; 32],
            schema_hash: Hash([2; 32]),
        };
        let (signer, id) = (Signer::new([7; 32]), ApprovalId::mint());
        let text = signer.mint(id, &binding, 1000);
        let token = Token::read(&text).unwrap();
        assert!(signer.holds(&token, &binding, 1000));
        for other in [
            Binding {
                workspace: &there,
                ..binding
            },
            Binding {
                user: &bob,
                ..binding
            },
            Binding {
                reference: "bank.pay2",
                ..binding
            },
            Binding {
                agent_id: "laptop",
                ..binding
            },
            Binding {
                arguments_digest: [3; 32],
                ..binding
            },
            Binding {
                schema_hash: Hash([3; 32]),
                ..binding
            },
        ] {
            assert!(!signer.holds(&token, &other, 1000), "{other:?}");
        }
        assert!(!signer.holds(&token, &binding, 1001));
        assert!(!Signer::new([8; 32]).holds(&token, &binding, 1000));
        let of_another = Token {
            id: ApprovalId::mint(),
            ..token
        };
        assert!(!signer.holds(&of_another, &binding, 1000));
        for bad in [
            "",
            "pbc_",
            "pbc_!",
            &text[..60],
            &format!("{text}AA"),
            &text[4..],
        ] {
            assert_eq!(Token::read(bad), None, "{bad}");
        }
    }
}
