//! The directories of `RUN --mount=type=cache`: whoever uses one holds its lock, and nobody removes it meanwhile.
//!
//! ```text
//! <store>/build/caches/<id>[.<number>]/    data/, lock, making
//! <store>/build/caches/.gone-<…>/          being removed
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::build::dockerfile::step::Sharing;
use crate::container::store::no_room;
use crate::error::{Result, Step};
use crate::identity::Identity;
use crate::layers::remove;

const GONE: &str = ".gone-";

/// Makes the directory and takes its lock; none: somebody else has it, and it is not to be shared.
///
/// # Errors
/// The store cannot be written.
pub fn claim(path: &Path, sharing: Sharing) -> Result<Option<File>> {
    let failed = || format!("cannot make the cache `{}`", path.display());
    loop {
        fs::create_dir_all(path).map_err(|error| no_room(error, failed()))?;
        let lock = match File::create(path.join("lock")) {
            // It was removed as soon as it was made.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            made => made.map_err(|error| no_room(error, failed()))?,
        };
        // Who shares a cache holds it against those who want it alone.
        match sharing {
            Sharing::Shared => lock.lock_shared().step(failed)?,
            Sharing::Locked => lock.lock().step(failed)?,
            Sharing::Private => match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error).step(failed),
            },
        }
        // While the lock was waited for the directory may have been removed.
        if is_there(&lock, &path.join("lock")).step(failed)? {
            return Ok(Some(lock));
        }
    }
}

fn is_there(lock: &File, path: &Path) -> io::Result<bool> {
    let own = lock.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())))
}

/// Removes the caches that no build uses, their files by root of this identity.
///
/// # Errors
/// Some of them cannot be removed; the others are gone.
pub fn remove_unused(store: &Path, identity: impl Fn() -> Result<Identity>) -> Result<()> {
    let caches = store.join("build/caches");
    let failed = || format!("cannot read `{}`", caches.display());
    let entries = match fs::read_dir(&caches) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.step(failed)?,
    };
    let mut locks = Vec::new();
    let mut gone = Vec::new();
    for entry in entries {
        let entry = entry.step(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let begun = name.starts_with(GONE);
        match File::open(entry.path().join("lock")) {
            Ok(lock) if lock.try_lock().is_ok() => locks.push(lock),
            // A prune that was killed has removed that first.
            Err(error) if error.kind() == ErrorKind::NotFound && begun => {}
            _ => continue,
        }
        let target = caches.join(format!("{GONE}{}-{}", name.trim_start_matches(GONE), std::process::id()));
        // Another prune may have been quicker.
        if fs::rename(entry.path(), &target).is_ok() {
            gone.push(target);
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    remove::trees(&gone, &identity()?, None)
}
