//! Reads the sealing keys the file points at. Never quotes one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use broker::SealingKeys;
use secrecy::SecretString;

use super::{ConfigError, Secrets};

/// Largest key file read: a key has 64 digits.
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// The keys, when one is configured.
pub(super) fn read(section: &Secrets) -> Result<Option<SealingKeys>, ConfigError> {
    let current = match (&section.key_file, &section.key_env) {
        (None, None) if section.old_key_files.is_empty() => return Ok(None),
        (None, None) => {
            return Err(at("/secrets/old_key_files", "needs key_file beside it"));
        }
        (Some(_), Some(_)) => {
            return Err(at("/secrets/key_env", "key_file is set already"));
        }
        (Some(path), None) => file("/secrets/key_file", path)?,
        (None, Some(name)) => std::env::var(name)
            .map(SecretString::from)
            .map_err(|_| at("/secrets/key_env", "this variable is not set"))?,
    };
    let older = section.old_key_files.iter().enumerate();
    let older = older.map(|(index, path)| file(&format!("/secrets/old_key_files/{index}"), path));
    let older = older.collect::<Result<Vec<_>, _>>()?;
    SealingKeys::new(&current, &older)
        .map(Some)
        .map_err(|error| at("/secrets", &error.to_string()))
}

fn file(place: &str, path: &str) -> Result<SecretString, ConfigError> {
    let unreadable = |_| at(place, "the file cannot be read");
    let facts = std::fs::metadata(Path::new(path)).map_err(unreadable)?;
    if facts.permissions().mode() & 0o077 != 0 {
        return Err(at(place, "others may read this file: chmod 600"));
    }
    if facts.len() > MAX_KEY_FILE_BYTES {
        return Err(at(place, "the file is too large for a key"));
    }
    std::fs::read_to_string(path)
        .map(SecretString::from)
        .map_err(unreadable)
}

fn at(place: &str, detail: &str) -> ConfigError {
    ConfigError::at(place, detail)
}
