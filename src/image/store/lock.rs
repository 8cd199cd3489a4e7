//! The locks of the image store: flock(2) on files of its own, so that the kernel lets go of them with their
//! holder, however it ends.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::container::store::no_room;
use crate::error::{Error, Result};

/// Nothing that was there when it was taken is collected while it lives. For milliseconds: what takes longer
/// holds a [`super::Lease`].
#[derive(Debug)]
pub struct SharedLock {
    _file: File,
}

/// Nobody else resolves, adds or collects.
#[derive(Debug)]
pub(super) struct ExclusiveLock {
    _file: File,
}

pub(super) fn share(path: &Path) -> Result<SharedLock> {
    let failed = || format!("cannot lock `{}`", path.display());
    let file = open(path).map_err(|error| no_room(error, failed()))?;
    file.lock_shared().map_err(|error| no_locks(error, failed()))?;
    Ok(SharedLock { _file: file })
}

pub(super) fn exclude(path: &Path) -> Result<ExclusiveLock> {
    let failed = || format!("cannot lock `{}`", path.display());
    let file = open(path).map_err(|error| no_room(error, failed()))?;
    file.lock().map_err(|error| no_locks(error, failed()))?;
    Ok(ExclusiveLock { _file: file })
}

/// Some network file systems know no flock(2), or not without an option of their mount.
fn no_locks(error: io::Error, message: String) -> Error {
    let unknown = matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP));
    let failed = Error::new(message).because(error);
    if unknown {
        return failed.hint(
            "keep the store on a file system with locks: name a directory with `--root DIR` or SBX_ROOT",
        );
    }
    failed
}

/// For writing, too: NFS gives an exclusive lock for nothing less.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                make_directory(parent)?;
            }
            options.open(path)
        }
        result => result,
    }
}

/// Opens or makes the file and waits until nobody else holds it. Who held it before may have renamed or removed
/// it: then it is made anew.
pub(super) fn own(path: &Path) -> io::Result<File> {
    loop {
        let file = open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        file.lock()?;
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

/// The lock of a file that nobody holds any more; none where somebody does, or it is gone.
pub(super) fn take_abandoned(path: &Path) -> Option<File> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        // Of an sbx that made blobs read-only before they were in their place.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            options.write(false).open(path).ok()?
        }
        opened => opened.ok()?,
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => None,
        // A file system without locks: what is there may be in use.
        Err(TryLockError::Error(_)) => None,
        Ok(()) => is_at(&file, path).ok()?.then_some(file),
    }
}

/// The same, where the file may be missing: whoever wants it then waits for us.
pub(super) fn take_or_make(path: &Path) -> Option<File> {
    let file = open(path).ok()?;
    file.try_lock().ok()?;
    is_at(&file, path).ok()?.then_some(file)
}

/// Whether the open file is still the one that others find under its name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.ino() == ours.ino() && found.dev() == ours.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A directory for the caller alone, and those above it.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
