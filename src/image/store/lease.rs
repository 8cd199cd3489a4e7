//! Leases: what a pull or load under way needs and no image names yet.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::ImageStore;
use super::lock;
use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;

/// Longer leases are not ours: a hundred thousand digests.
const LONGEST: u64 = 8 << 20;

/// Digests (of blobs and of layers, by their diff IDs) that are not collected while the value lives. It is
/// shared by the threads of one pull; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub struct Lease {
    store: ImageStore,
    path: PathBuf,
    held: Mutex<(File, BTreeSet<Digest>)>,
}

impl Lease {
    pub(super) fn new(store: &ImageStore) -> Result<Self> {
        let directory = store.leases();
        let path = directory.join(super::random_name()?);
        let failed = || format!("cannot make `{}`", path.display());
        let file = lock::own(&path).map_err(|error| no_room(error, failed()))?;
        Ok(Self { store: store.clone(), path, held: Mutex::new((file, BTreeSet::new())) })
    }

    /// Keeps `digest` from being collected from now on. To be called before looking whether it is there. Never
    /// while the same thread holds a [`super::Change`] or an exclusive lock: it waits for those.
    ///
    /// # Errors
    /// The lease cannot be written.
    pub fn add(&self, digest: &Digest) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.1.contains(digest) {
            return Ok(());
        }
        // A collector that has read this lease already is done before the lock is had.
        let _lock = self.store.share()?;
        held.0
            .write_all(format!("{digest}\n").as_bytes())
            .map_err(|error| no_room(error, format!("cannot write `{}`", self.path.display())))?;
        held.1.insert(digest.clone());
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What the leases of living processes name; those of dead ones are removed. Under the exclusive lock.
///
/// # Errors
/// A lease that cannot be read: nothing is known of what it keeps.
pub(super) fn live(directory: &Path) -> Result<BTreeSet<Digest>> {
    let mut digests = BTreeSet::new();
    let unread = || format!("cannot read `{}`", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(digests),
        entries => entries.step(unread)?,
    };
    for entry in entries {
        let path = entry.step(unread)?.path();
        if lock::take_abandoned(&path).is_some() {
            let _ = fs::remove_file(&path);
            continue;
        }
        let failed = || format!("cannot read the lease `{}`", path.display());
        let Some(file) = super::files::open(&path).step(failed)? else { continue };
        let mut text = String::new();
        file.take(LONGEST + 1).read_to_string(&mut text).step(failed)?;
        if text.len() as u64 > LONGEST {
            return Err(Error::new(failed()).because("it is longer than a lease can be"));
        }
        // The last line may be in the making; who writes it waits for our lock before looking.
        digests.extend(text.lines().filter_map(|line| line.parse().ok()));
    }
    Ok(digests)
}
