//! What images take on the disk: their blobs and their unpacked layers, what several share counted once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::store::{Entry, ImageStore};
use crate::image::usage::Usage;

/// One image, under the first of its names.
#[derive(Debug, Clone)]
pub struct ImageUse {
    pub entry: Entry,
    /// Bytes that other images have, too.
    pub shared: u64,
    /// Bytes that go with the image.
    pub unique: u64,
    pub containers: usize,
}

#[derive(Debug, Default)]
pub struct Disk {
    pub images: Vec<ImageUse>,
    /// Bytes.
    pub size: u64,
    /// Bytes that go with all images that no container was made from.
    pub reclaimable: u64,
}

/// Counts what all images take.
///
/// # Errors
/// The index is damaged.
pub fn of(store: &ImageStore, usage: &Usage) -> Result<Disk> {
    let mut disk = Disk::default();
    // What lies where, how large it is, and which images need it.
    let mut pieces: BTreeMap<PathBuf, (u64, Vec<usize>)> = BTreeMap::new();
    for entry in store.list()? {
        if disk.images.iter().any(|known| known.entry.id == entry.id) {
            continue;
        }
        let at = disk.images.len();
        for (path, size) in pieces_of(store, &entry) {
            let (_, users) = pieces.entry(path).or_insert((size, Vec::new()));
            if users.last() != Some(&at) {
                users.push(at);
            }
        }
        let containers = usage.of(&entry.id).len();
        disk.images.push(ImageUse { entry, shared: 0, unique: 0, containers });
    }
    for (size, users) in pieces.into_values() {
        disk.size = disk.size.saturating_add(size);
        if users.iter().all(|user| disk.images[*user].containers == 0) {
            disk.reclaimable = disk.reclaimable.saturating_add(size);
        }
        for user in &users {
            let image = &mut disk.images[*user];
            let sum = if users.len() > 1 { &mut image.shared } else { &mut image.unique };
            *sum = sum.saturating_add(size);
        }
    }
    Ok(disk)
}

fn pieces_of(store: &ImageStore, entry: &Entry) -> Vec<(PathBuf, u64)> {
    let mut pieces = Vec::new();
    let mut blob = |digest: &Digest| {
        if let Some(size) = store.blob_size(digest) {
            pieces.push((store.blob_path(digest), size));
        }
    };
    blob(&entry.manifest.digest);
    let Ok(image) = store.image(&entry.manifest) else { return pieces };
    blob(&image.manifest.digest);
    blob(&image.id);
    image.document.layers.iter().for_each(|layer| blob(&layer.digest));
    for layers in store.layer_stores() {
        for diff_id in &image.config.rootfs.diff_ids {
            if let Ok(facts) = layers.facts(diff_id) {
                pieces.push((layers.directory(diff_id), facts.size));
            }
        }
    }
    pieces
}
