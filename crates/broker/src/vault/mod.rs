//! Credentials of users for servers: sealed at rest, opened for one caller's session, told to nobody.
//!
//! Owns the sealing key, the cache of what was opened, and grants at authorization servers. Never logs, lists or
//! serialises a value outside a seal.

mod oauth;
mod personal;
mod place;
mod rewrap;
mod seal;
mod secrets;

use std::sync::{Arc, Weak};
use std::time::Duration;

use transports::OutboundPolicy;
use url::Url;

use self::oauth::GrantCells;
pub(crate) use self::oauth::{AboutGrant, Begun, Returned};
use self::personal::PersonalServers;
pub(crate) use self::personal::destination;
pub use self::place::{Holder, Kind, Place};
pub use self::seal::{NoSealingKey, SealError, Sealed, SealingKeys};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::store::{SealedRow, Store};

/// Tries of one change against others of the same row before it is given up.
const WRITE_TRIES: usize = 5;
/// How long what was opened is used before the store is asked again: what another node was told is seen then.
const OPENED_FOR: Duration = Duration::from_secs(30);

/// What a vault is started with.
#[derive(Debug, Clone, Default)]
pub struct VaultOptions {
    /// Without it nothing is sealed, and nothing that needs it is accepted.
    pub keys: Option<SealingKeys>,
    /// Where people's browsers reach the bridge; without it nobody can grant anything.
    pub base_url: Option<Url>,
}

/// Everything sealed. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Vault(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    keys: Option<SealingKeys>,
    base_url: Option<Url>,
    /// Where metadata and token endpoints may be.
    outbound: OutboundPolicy,
    personal: PersonalServers,
    cells: GrantCells,
}

impl Vault {
    pub(crate) fn new(store: Store, outbound: OutboundPolicy, options: VaultOptions) -> Self {
        Self(Arc::new(Inner {
            store,
            keys: options.keys,
            base_url: options.base_url,
            outbound,
            personal: PersonalServers::new(),
            cells: GrantCells::new(),
        }))
    }

    fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    fn keys(&self) -> Result<&SealingKeys, BrokerError> {
        self.0
            .keys
            .as_ref()
            .ok_or_else(|| unreadable(&SealError::Off))
    }

    /// Seals `value` at its place, as the next version. `about` is what people may see.
    async fn write(&self, place: &Place, value: &[u8], about: &str) -> Result<(), BrokerError> {
        for _ in 0..WRITE_TRIES {
            let before = self.0.store.sealed(place).await?;
            let version = before.map_or(0, |row| row.version) + 1;
            if self.write_version(place, version, (value, about)).await? {
                return Ok(());
            }
        }
        let detail = "others change the same credentials at the moment";
        Err(Fault::new(ErrorCode::Conflict, detail))
    }

    /// The same for exactly this version; false when it is there already, or the one before is not.
    async fn write_version(
        &self,
        place: &Place,
        version: u64,
        (value, about): (&[u8], &str),
    ) -> Result<bool, BrokerError> {
        let sealed = self.keys()?.seal(place, version, value);
        let row = SealedRow {
            place: place.clone(),
            version,
            sealed: sealed.map_err(|error| unreadable(&error))?,
            about: about.to_owned(),
            written_at: chrono::Utc::now(),
        };
        Ok(self.0.store.put_sealed(&row).await?)
    }

    /// The bytes of a row.
    fn open(&self, row: &SealedRow) -> Result<secrecy::SecretSlice<u8>, BrokerError> {
        let opened = self.keys()?.open(&row.place, row.version, &row.sealed);
        opened.map_err(|error| {
            tracing::error!(
                vault.server = %row.place.holder.server,
                vault.kind = row.place.kind.as_str(),
                error = %error,
                "a sealed value could not be opened"
            );
            unreadable(&error)
        })
    }
}

/// Something sealed cannot be had: the bridge's fault or its configuration's, never the caller's.
fn unreadable(error: &SealError) -> BrokerError {
    let mut fault = Fault::new(ErrorCode::Conflict, error.to_string());
    fault.hint = Some(match error {
        SealError::Off => "an admin sets secrets.key_file and restarts the bridge".to_owned(),
        SealError::OtherKey | SealError::Broken => {
            "give the credentials anew: PUT /v1/credentials/{server}, or grant again".to_owned()
        }
    });
    fault
}

/// A text of random bytes that nobody guesses.
fn unguessable() -> String {
    use base64::Engine as _;
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// What of a secret text may stand in the store for comparing.
fn digest(text: &str) -> String {
    use sha2::Digest as _;
    catalog::Hash(sha2::Sha256::digest(text).into()).hex()
}
