//! What stands, signed, in a legacy client's `Mcp-Session-Id`: enough to bring its session back.

use sessions::Lane;

use super::abilities::Abilities;
use super::era::Revision;
use super::signed::Signer;

/// Format of what stands in an id.
const FORMAT: u8 = 1;

/// Tells sessions apart.
pub(super) type Nonce = [u8; 12];

/// What an id holds.
pub(super) struct Payload {
    pub(super) nonce: Nonce,
    pub(super) revision: Revision,
    pub(super) abilities: Abilities,
}

impl Payload {
    /// As bytes to be signed.
    pub(super) fn write(&self) -> Vec<u8> {
        let revision = Revision::ALL.iter().position(|one| *one == self.revision);
        let mut bytes = vec![
            FORMAT,
            u8::try_from(revision.unwrap_or_default()).unwrap_or_default(),
        ];
        bytes.extend_from_slice(&self.abilities.0.to_be_bytes());
        bytes.extend_from_slice(&self.nonce);
        bytes
    }

    /// Reads them again.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [FORMAT, revision, high, low, nonce @ ..] = bytes else {
            return None;
        };
        Some(Self {
            nonce: nonce.try_into().ok()?,
            revision: *Revision::ALL.get(usize::from(*revision))?,
            abilities: Abilities(u16::from_be_bytes([*high, *low])),
        })
    }

    /// What stands in an id that was checked when its session was made.
    pub(super) fn of_known(id: &str) -> Option<Self> {
        Self::read(&Signer::payload(id)?)
    }

    /// The same after a restart, so that servers with a session for each conversation find theirs.
    pub(super) fn lane(&self) -> Lane {
        Lane::new(&format!("mcp:{}", hex::encode(self.nonce))).unwrap_or_default()
    }
}
