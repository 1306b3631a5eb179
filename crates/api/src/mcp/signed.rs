//! What is given into a client's hands and must come back unchanged: session ids and the state of held calls.
//!
//! Readable by whoever holds it, so it holds no secret; signed together with who it was given to, so that
//! anybody else's is no different from an invented one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker::Principal;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Name of the secret in the store.
pub(super) const SECRET: &str = "mcp";
/// Bytes of a key block of SHA-256.
const BLOCK_BYTES: usize = 64;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 32;
/// Longest text looked at.
const MAX_TEXT_BYTES: usize = 512;

/// What a signed text is for: one is never taken for another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// `Mcp-Session-Id`.
    Session,
    /// `requestState` of a call that waits for input.
    State,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"mcp session",
            Self::State => b"mcp state",
        }
    }
}

/// Signs and checks.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Signs under this secret.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        // HMAC pads a short key with zeros; a whole block leaves no length to be wrong about.
        let mut block = [0_u8; BLOCK_BYTES];
        block[..secret.len()].copy_from_slice(&secret);
        Self(Hmac::new(&block.into()))
    }

    /// Signs a payload for a principal and a place.
    pub(super) fn seal(&self, purpose: Purpose, bound: &Bound<'_>, payload: &[u8]) -> String {
        let mut bytes = payload.to_vec();
        bytes.extend_from_slice(&self.mac(purpose, bound, payload).finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The payload, when this principal was given it for this place.
    pub(super) fn open(&self, purpose: Purpose, bound: &Bound<'_>, text: &str) -> Option<Vec<u8>> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let payload_bytes = bytes.len().checked_sub(SIGNATURE_BYTES)?;
        let (payload, signature) = bytes.split_at(payload_bytes);
        self.mac(purpose, bound, payload)
            .verify_slice(signature)
            .ok()?;
        bytes.truncate(payload_bytes);
        Some(bytes)
    }

    /// The payload of a text that was checked before.
    pub(super) fn payload(text: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.truncate(bytes.len().checked_sub(SIGNATURE_BYTES)?);
        Some(bytes)
    }

    fn mac(&self, purpose: Purpose, bound: &Bound<'_>, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        let who = bound.principal;
        let parts = [
            purpose.label(),
            who.user.as_str().as_bytes(),
            who.workspace.as_str().as_bytes(),
            bound.place.as_bytes(),
            payload,
        ];
        for part in parts {
            // With its length, so that no two lists of parts sign alike.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// To whom and for what place something is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<'a> {
    /// Who.
    pub(super) principal: &'a Principal,
    /// The face, or the request.
    pub(super) place: &'a str,
}

#[cfg(test)]
mod tests {
    use broker::Scopes;
    use sessions::{UserId, WorkspaceId};

    use super::*;

    fn principal(user: &str, workspace: &str) -> Principal {
        Principal {
            user: UserId::new(user).unwrap(),
            workspace: WorkspaceId::new(workspace).unwrap(),
            workspaces: Vec::new(),
            roles: Vec::new(),
            key_id: "k".to_owned(),
            scopes: Scopes::default(),
            expires_at: None,
        }
    }

    #[test]
    fn only_the_one_it_was_given_to_can_bring_it_back() {
        let signer = Signer::new([7; 32]);
        let ann = principal("ann", "w");
        let bound = Bound {
            principal: &ann,
            place: "demo",
        };
        let text = signer.seal(Purpose::Session, &bound, b"payload");
        assert_eq!(
            signer.open(Purpose::Session, &bound, &text).as_deref(),
            Some(b"payload".as_slice())
        );
        // After a restart the same secret opens it, another does not.
        assert!(
            Signer::new([7; 32])
                .open(Purpose::Session, &bound, &text)
                .is_some()
        );
        assert!(
            Signer::new([8; 32])
                .open(Purpose::Session, &bound, &text)
                .is_none()
        );
        assert!(signer.open(Purpose::State, &bound, &text).is_none());
        let (bob, elsewhere) = (principal("bob", "w"), principal("ann", "v"));
        for (principal, place) in [(&bob, "demo"), (&elsewhere, "demo"), (&ann, "demo2")] {
            let bound = Bound { principal, place };
            assert!(signer.open(Purpose::Session, &bound, &text).is_none());
        }
        let mut other = text.clone().into_bytes();
        other[3] = if other[3] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        for wrong in [
            other.as_str(),
            "",
            "x",
            &"A".repeat(70),
            &text[1..],
            &"A".repeat(9000),
        ] {
            assert!(
                signer.open(Purpose::Session, &bound, wrong).is_none(),
                "{wrong}"
            );
        }
    }
}
