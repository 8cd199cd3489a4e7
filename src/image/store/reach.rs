//! What is in use: from the images of the index, the containers, and the leases.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::index::annotation;
use super::{ImageStore, files};
use crate::container;
use crate::error::{Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, ImageConfig, Index, LARGEST_CONFIG, LARGEST_MANIFEST, Manifest};
use crate::image::usage;

/// Indexes in indexes in an index.
const DEEPEST: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Reachable {
    pub(super) blobs: BTreeSet<Digest>,
    /// Diff IDs; none: it is not known which layers are in use.
    pub(super) layers: Option<BTreeSet<Digest>>,
    pub(super) leased: BTreeSet<Digest>,
}

/// # Errors
/// Something could not be read that says what is in use: better nothing is removed.
pub(super) fn all(store: &ImageStore, index: &Index) -> Result<Reachable> {
    let mut reachable = Reachable { leased: store.leased()?, ..Reachable::default() };
    let mut layers = BTreeSet::new();
    let mut read = BTreeMap::new();
    for descriptor in &index.manifests {
        if let Some(index) = descriptor.annotations.get(annotation::INDEX) {
            reachable.blobs.extend(index.parse::<Digest>());
        }
        let mut marks = Marks { blobs: &mut reachable.blobs, layers: &mut layers, read: &mut read };
        mark(store, descriptor, &mut marks, DEEPEST)?;
    }
    // What the cache of builds keeps, until it is pruned itself.
    for made in crate::build::cache::Cache::new(store.root()).layers()? {
        reachable.blobs.insert(made.blob.digest);
        layers.insert(made.diff_id);
    }
    let containers = container::store::Store::new(store.root().to_owned());
    let mut known = true;
    for id in containers.all_ids()? {
        match containers.directory(&id).spec().symlink_metadata() {
            // It is being removed: who makes one holds the shared lock until its spec is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            _ => {}
        }
        match containers.read_spec(&id) {
            Ok(spec) => layers.extend(usage::layers_of(&spec).iter().cloned()),
            Err(error) => {
                log::warn!(
                    "no layer is removed, since container {} may need it: {error}",
                    container::store::short(&id)
                );
                known = false;
            }
        }
    }
    reachable.layers = known.then_some(layers);
    Ok(reachable)
}

struct Marks<'m> {
    blobs: &'m mut BTreeSet<Digest>,
    layers: &'m mut BTreeSet<Digest>,
    /// The manifests and indexes that were followed, and how deep. Not those in `blobs`: an image may name the
    /// manifest of another as its own configuration.
    read: &'m mut BTreeMap<Digest, usize>,
}

fn mark(store: &ImageStore, descriptor: &Descriptor, marks: &mut Marks<'_>, depth: usize) -> Result<()> {
    marks.blobs.insert(descriptor.digest.clone());
    let followed = marks.read.entry(descriptor.digest.clone()).or_default();
    if *followed >= depth {
        return Ok(());
    }
    *followed = depth;
    let Some(text) = document(store, &descriptor.digest, LARGEST_MANIFEST)? else { return Ok(()) };
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) {
        marks.blobs.insert(manifest.config.digest.clone());
        marks.blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        let config = document(store, &manifest.config.digest, LARGEST_CONFIG)?;
        if let Some(Ok(config)) = config.map(|text| serde_json::from_slice::<ImageConfig>(&text)) {
            marks.layers.extend(config.rootfs.diff_ids);
        }
    } else if let Ok(index) = serde_json::from_slice::<Index>(&text) {
        for inner in &index.manifests {
            mark(store, inner, marks, depth - 1)?;
        }
    }
    Ok(())
}

/// A document that is there and sound. One that is damaged names nothing: no image can be made of it.
///
/// # Errors
/// The disk or the network does not answer: what the document names is not known.
fn document(store: &ImageStore, digest: &Digest, max: u64) -> Result<Option<Vec<u8>>> {
    let path = store.blob_path(digest);
    let read = files::open(&path).and_then(|file| file.map(|file| files::read(file, max)).transpose());
    match read {
        Ok(Some(text)) => Ok((Digest::of(&text) == *digest).then_some(text)),
        Ok(None) => Ok(None),
        // A symlink, a directory, too large: our own words, without a number.
        Err(error) if error.raw_os_error().is_none() && error.kind() == io::ErrorKind::Other => Ok(None),
        Err(error) => Err(error).step(|| format!("cannot read `{}`", path.display())),
    }
}
