//! Secrets that users and admins put into the store, by name, for one server.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{Holder, Kind, Vault};
use crate::error::{BrokerError, ErrorCode, Fault};

/// A secret as it is sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    value: String,
    /// Where it may go: see [`Destination`](super::personal::destination).
    to: String,
}

/// What is known of a secret without opening it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct About {
    /// Where it may go.
    #[serde(default)]
    pub to: String,
}

impl Vault {
    /// Puts these secrets in place of all the holder had for the server. They go to `destination` alone: a definition
    /// that is changed to lead elsewhere gets none of them.
    ///
    /// # Errors
    /// `conflict` without a sealing key; `store_unavailable`.
    pub(crate) async fn put_secrets(
        &self,
        holder: &Holder,
        destination: &str,
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<(), BrokerError> {
        self.keys()?;
        let about = About {
            to: destination.to_owned(),
        };
        let about = serde_json::to_string(&about).map_err(|_| no_form())?;
        for (name, value) in secrets {
            let kept = Kept {
                value: value.expose_secret().to_owned(),
                to: destination.to_owned(),
            };
            let kept = serde_json::to_vec(&kept).map_err(|_| no_form())?;
            let place = holder.at(Kind::Secret, name);
            self.write(&place, &kept, &about).await?;
        }
        for row in self.0.store.sealed_of(holder, Kind::Secret).await? {
            if !secrets.contains_key(&row.place.field) {
                self.0.store.drop_sealed(&row.place, row.version).await?;
            }
        }
        Ok(())
    }

    /// The holder's secrets for a server that may go to this destination.
    pub(super) async fn secrets_of(
        &self,
        holder: &Holder,
        destination: &str,
    ) -> Result<BTreeMap<String, SecretString>, BrokerError> {
        let mut found = BTreeMap::new();
        for row in self.0.store.sealed_of(holder, Kind::Secret).await? {
            let opened = self.open(&row)?;
            let kept: Kept =
                serde_json::from_slice(opened.expose_secret()).map_err(|_| no_form())?;
            if kept.to == destination {
                found.insert(row.place.field, SecretString::from(kept.value));
            }
        }
        Ok(found)
    }
}

pub(super) fn no_form() -> BrokerError {
    Fault::new(
        ErrorCode::Internal,
        "a sealed value has another form than was written",
    )
}
