//! Writes private files whole: a temporary file beside the target, then a rename. Never leaves half a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only its owner (0600), also where an older file was open to others: what holds secrets.
    Secret,
    /// Only its owner (0600): results, schemas, configuration with addresses.
    Private,
    /// As the user's umask says: files that belong to a project.
    Usual,
}

/// Replaces `path` by `bytes` in one step; missing directories are made (0700 when private).
/// An existing file keeps its permissions, unless secrets go into it; a symbolic link is followed, so that its target is replaced.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_absent| path.to_path_buf());
    if let Some(parent) = target.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        make_directory(parent, access)?;
    }
    let temporary = beside(&target, &format!("tmp{}", std::process::id()));
    let written = write_new(&temporary, bytes, access)
        .and_then(|()| match fs::metadata(&target) {
            Ok(old) if access != Access::Secret => {
                fs::set_permissions(&temporary, old.permissions())
            }
            Ok(_) | Err(_) => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, &target));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Keeps one copy of `path` as `path.bak`, if it exists.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn back_up(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    let copy = beside(path, "bak");
    fs::copy(path, &copy)?;
    Ok(Some(copy))
}

/// As [`back_up`], for what holds secrets: nobody else may read the copy, whoever could read the file.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn back_up_secret(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    let copy = beside(path, "bak");
    replace(&copy, &fs::read(path)?, Access::Secret)?;
    Ok(Some(copy))
}

/// Removes the oldest files of `directory` until at most `keep` are left. What cannot be removed stays.
pub(crate) fn prune(directory: &Path, keep: usize) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let facts = entry.metadata().ok()?;
            let modified = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            facts.is_file().then(|| (modified, entry.path()))
        })
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(keep);
    for (_, path) in files.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(unix)]
fn make_directory(path: &Path, access: Access) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mode = match access {
        Access::Secret | Access::Private => 0o700,
        Access::Usual => 0o777,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
}

#[cfg(not(unix))]
fn make_directory(path: &Path, _access: Access) -> io::Result<()> {
    fs::create_dir_all(path)
}

fn write_new(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut file = open_new(path, access)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
fn open_new(path: &Path, access: Access) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mode = match access {
        Access::Secret | Access::Private => 0o600,
        Access::Usual => 0o666,
    };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
}

#[cfg(not(unix))]
fn open_new(path: &Path, _access: Access) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}
