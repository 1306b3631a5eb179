//! Input schemas of tools called before, so that a call needs one request and not two.
//! A kept schema is only ever used together with its hash, which the bridge checks. Bounded.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{self, Access};
use crate::places::Places;
use crate::settings::Settings;

/// More tools than one person's agents use; the oldest files go first.
const MAX_KEPT_SCHEMAS: usize = 512;

/// A larger schema is fetched each time rather than kept.
const MAX_SCHEMA_BYTES: usize = 256 * 1024;

/// A tool's schema and the hash of the definition it belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Known {
    key: String,
    /// The definition's hash, as the bridge shows it.
    pub(crate) hash: String,
    /// `inputSchema`.
    pub(crate) input_schema: Value,
}

/// The directory of kept schemas.
#[derive(Debug)]
pub(crate) struct Schemas {
    directory: PathBuf,
    scope: String,
}

impl Schemas {
    /// For one bridge and workspace.
    #[must_use]
    pub(crate) fn new(places: &Places, settings: &Settings) -> Self {
        let workspace = settings.workspace.as_deref().unwrap_or_default();
        Self {
            directory: places.schemas(),
            scope: format!("{} {workspace}", settings.url),
        }
    }

    /// What is kept about a tool; nothing when the file is missing, damaged or another tool's.
    #[must_use]
    pub(crate) fn recall(&self, reference: &str) -> Option<Known> {
        let key = self.key(reference);
        let bytes = std::fs::read(self.path(&key)).ok()?;
        let known: Known = serde_json::from_slice(&bytes).ok()?;
        (known.key == key).then_some(known)
    }

    /// Keeps a tool's schema; a cache that cannot be written is no reason to fail a call.
    #[must_use]
    pub(crate) fn keep(&self, reference: &str, hash: &str, input_schema: Value) -> Known {
        let known = Known {
            key: self.key(reference),
            hash: hash.to_owned(),
            input_schema,
        };
        let bytes = serde_json::to_vec(&known).unwrap_or_default();
        if !bytes.is_empty() && bytes.len() <= MAX_SCHEMA_BYTES {
            let _ = files::replace(&self.path(&known.key), &bytes, Access::Private);
            files::prune(&self.directory, MAX_KEPT_SCHEMAS);
        }
        known
    }

    /// Forgets a tool whose definition changed.
    pub(crate) fn forget(&self, reference: &str) {
        let _ = std::fs::remove_file(self.path(&self.key(reference)));
    }

    fn key(&self, reference: &str) -> String {
        format!("{} {reference}", self.scope)
    }

    fn path(&self, key: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.directory
            .join(format!("{:016x}.json", hasher.finish()))
    }
}
