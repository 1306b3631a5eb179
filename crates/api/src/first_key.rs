//! The first admin key: generated when there is no admin, shown once, kept for the local CLI.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

/// Name of the file in the state directory.
const FILE: &str = "admin.key";
/// Nobody but the owner.
const FILE_MODE: u32 = 0o600;
/// See [`FILE_MODE`].
const DIRECTORY_MODE: u32 = 0o700;

/// Writes the key where the CLI looks (0600, by rename) and tells it once on stderr.
///
/// # Errors
/// When the state directory cannot be written. The key was printed then already.
pub(crate) fn keep(key: &SecretString, state: &Path) -> std::io::Result<()> {
    let path = state.join(FILE);
    // Not through the log: a log is kept, this is said once.
    eprintln!(
        "admin key (shown once, kept in {}): {}",
        path.display(),
        key.expose_secret()
    );
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(state)?;
    let fresh = state.join(format!("{FILE}.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&fresh)?;
    file.write_all(key.expose_secret().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&fresh, &path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_readable_by_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state/paperbot");
        keep(&SecretString::from("pb_1_x"), &state).unwrap();
        let file = state.join(FILE);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "pb_1_x\n");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), FILE_MODE);
        assert_eq!(mode(&state), DIRECTORY_MODE);
        keep(&SecretString::from("pb_2_y"), &state).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "pb_2_y\n");
    }
}
