//! What nothing names any more: found under the exclusive lock, moved into `trash/` by renames, and removed
//! after the lock is let go of. Whoever is killed in between leaves the rest to the next collector.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::reach::{self, Reachable};
use super::{ImageStore, blobs, lease, lock, random_name};
use crate::container::store::no_room;
use crate::error::{Result, Step};
use crate::identity::{self, Caller, Host};
use crate::image::digest::Digest;
use crate::image::documents::Index;
use crate::layers::remove;
use crate::layers::store::{LayerStore, MapKey};

/// A blob that another tool has just written is named by the index only when that tool is done.
const FOREIGN_GRACE: Duration = Duration::from_secs(3600);
/// What is in the store and of no use.
#[derive(Debug, Default)]
pub struct Orphans {
    pub blobs: Vec<Orphan>,
    pub layers: Vec<Orphan>,
    /// Layers in the making, and downloads, that no process holds.
    pub unfinished: Vec<Orphan>,
}

#[derive(Debug)]
pub struct Orphan {
    pub path: PathBuf,
    /// Of the blob, or the diff ID of the layer.
    pub digest: Option<Digest>,
    /// Bytes.
    pub size: u64,
    /// The lock of what is unfinished: nobody goes on with it before it is in the trash.
    _held: Option<File>,
}

/// What a collector is asked to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Downloads that were broken off stay: the next pull goes on with them.
    Unnamed,
    Everything,
}

/// What was removed.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// Diff IDs.
    pub layers: Vec<Digest>,
    /// Bytes.
    pub reclaimed: u64,
}

impl Orphans {
    pub fn count(&self) -> usize {
        self.blobs.len() + self.layers.len() + self.unfinished.len()
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.all().map(|orphan| orphan.size).sum()
    }

    fn all(&self) -> impl Iterator<Item = &Orphan> {
        self.blobs.iter().chain(&self.layers).chain(&self.unfinished)
    }
}

impl Orphan {
    fn new(path: PathBuf, digest: Option<Digest>, held: Option<File>) -> Self {
        Self { size: tree_size(&path), path, digest, _held: held }
    }
}

impl ImageStore {
    /// What a collector would take now. Takes no lock but for moments: what is being added may be among it.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn orphans(&self) -> Result<Orphans> {
        let mut orphans = self.find_orphans(&reach::all(self, &self.read_index()?)?);
        let trash = entries(&self.trash()).map(|path| Orphan::new(path, None, None));
        orphans.unfinished.extend(trash);
        Ok(orphans)
    }

    /// Removes what neither an image, nor a container, nor a pull under way names.
    ///
    /// # Errors
    /// The index or a lease cannot be read, or something cannot be removed; what was moved to the trash is
    /// removed by the next collector.
    pub fn collect(&self, extent: Extent) -> Result<Collected> {
        if !self.layout().exists() && !self.layers().exists() && !self.trash().exists() {
            return Ok(Collected::default());
        }
        let mut collected = Collected::default();
        // What lies in the trash while the lock is held is complete.
        let full: Vec<PathBuf> = {
            let _lock = lock::exclude(&self.lock_path())?;
            let reachable = reach::all(self, &self.read_index()?)?;
            let mut orphans = self.find_orphans(&reachable);
            if extent == Extent::Unnamed {
                let partial = self.partial();
                let goes_on = |path: &Path| path.starts_with(&partial) && digest_in(path).is_some();
                orphans.unfinished.retain(|orphan| !goes_on(&orphan.path));
            }
            let hidden = self.discard(&orphans, &mut collected)?;
            entries(&self.trash()).chain(hidden).collect()
        };
        if full.is_empty() {
            return Ok(collected);
        }
        let host = Host::system();
        let identity = identity::plan_on(&host, &identity::Request::default(), &Caller::current(&host)?)?;
        remove::trees(&full, &identity, None)?;
        Ok(collected)
    }

    /// Removes the blobs that an index to be written does not name, before there is room to write it. Under the
    /// exclusive lock. False: there are none.
    pub(super) fn give_up_blobs(&self, index: &Index) -> Result<bool> {
        let orphans = self.find_orphans(&reach::all(self, index)?);
        Ok(orphans.blobs.iter().filter(|blob| fs::remove_file(&blob.path).is_ok()).count() > 0)
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root().join("layers")
    }

    fn trash(&self) -> PathBuf {
        self.root().join("trash")
    }

    /// Takes the orphans out of sight: into the trash, or what cannot be moved there for want of room away at once.
    /// Gives what else there is to be removed.
    fn discard(&self, orphans: &Orphans, collected: &mut Collected) -> Result<Vec<PathBuf>> {
        if orphans.count() == 0 {
            return Ok(Vec::new());
        }
        let target = self.trash().join(random_name()?);
        let target = match lock::make_directory(&target) {
            Ok(()) => Some(target),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => None,
            Err(error) => return Err(no_room(error, format!("cannot make `{}`", target.display()))),
        };
        let mut hidden = Vec::new();
        for (number, orphan) in orphans.all().enumerate() {
            let gone = match &target {
                Some(target) => fs::rename(&orphan.path, target.join(number.to_string())),
                None if orphan.path.is_dir() => hide(&orphan.path).map(|path| hidden.push(path)),
                None => fs::remove_file(&orphan.path),
            };
            match gone {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.step(|| format!("cannot remove `{}`", orphan.path.display()))?,
            }
            collected.reclaimed += orphan.size;
        }
        // One that is unpacked for several ways of keeping owners is told once.
        let layers: BTreeSet<Digest> =
            orphans.layers.iter().filter_map(|layer| layer.digest.clone()).collect();
        collected.layers.extend(layers);
        Ok(hidden)
    }

    fn find_orphans(&self, reachable: &Reachable) -> Orphans {
        let leased = &reachable.leased;
        let mut orphans = Orphans::default();
        for path in entries(&self.blobs()) {
            let Some(digest) = digest_in(&path) else { continue };
            if reachable.blobs.contains(&digest) || leased.contains(&digest) || is_fresh_and_foreign(&path) {
                continue;
            }
            orphans.blobs.push(Orphan::new(path, Some(digest), None));
        }
        for path in entries(&self.partial()) {
            let Some(held) = lock::take_abandoned(&path) else { continue };
            orphans.unfinished.push(Orphan::new(path, None, Some(held)));
        }
        for key in entries(&self.layers()) {
            self.find_orphaned_layers(&key, reachable, &mut orphans);
        }
        orphans
    }

    fn find_orphaned_layers(&self, key: &Path, reachable: &Reachable, orphans: &mut Orphans) {
        let known = key.file_name().and_then(|name| MapKey::from_record(name.to_str()?));
        let Some(layers) = known.map(|key| LayerStore::new(self.root(), &key)) else { return };
        for digest in layers.ids() {
            let named = reachable.layers.as_ref().is_none_or(|named| named.contains(&digest));
            if !named && !reachable.leased.contains(&digest) {
                let size = layers.facts(&digest).map_or(0, |facts| facts.size);
                let path = layers.directory(&digest);
                orphans.layers.push(Orphan { path, digest: Some(digest), size, _held: None });
            }
        }
        for name in layers.in_the_making() {
            let Some(held) = lock::take_or_make(&name.lock) else { continue };
            orphans.unfinished.extend(name.trees.into_iter().map(|tree| Orphan::new(tree, None, None)));
            orphans.unfinished.push(Orphan::new(name.lock, None, Some(held)));
        }
    }

    /// Digests that the leases of living processes name. Under the exclusive lock.
    pub(super) fn leased(&self) -> Result<BTreeSet<Digest>> {
        lease::live(&self.leases())
    }
}

/// Renames a layer to what a killed maker leaves, which takes no room and is no layer.
fn hide(layer: &Path) -> io::Result<PathBuf> {
    let name = layer.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') {
        return Ok(layer.to_owned());
    }
    let hidden = layer.with_file_name(format!(".old-{name}"));
    fs::rename(layer, &hidden)?;
    Ok(hidden)
}

/// Blobs of sbx are leased; of those of others nobody knows.
fn is_fresh_and_foreign(path: &Path) -> bool {
    let Ok(metadata) = path.symlink_metadata() else { return false };
    let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    metadata.permissions().mode() & 0o777 != blobs::OWN_MODE && age.is_none_or(|age| age < FOREIGN_GRACE)
}

fn digest_in(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_name()?.to_str()?)
}

/// Bytes of the files below, as far as the caller may look.
fn tree_size(path: &Path) -> u64 {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => entries(path).map(|path| tree_size(&path)).sum(),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}
