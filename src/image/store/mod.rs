//! The images of one user on disk: a valid OCI image layout below `oci/`, so that other tools read and write it.
//!
//! What counts are the blobs; `index.json` names them and is replaced by one rename. Readers take no lock.
//! Whoever resolves an image in order to use it, or adds to the store, keeps collectors away: for milliseconds
//! with [`ImageStore::share`], for longer with an [`ImageStore::lease`].

mod blobs;
mod change;
mod entry;
mod files;
mod find;
mod gc;
#[cfg(test)]
mod gc_tests;
mod index;
mod layers;
mod lease;
mod lock;
mod reach;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::{
    self, Descriptor, ImageConfig, Index, LARGEST_CONFIG, LARGEST_MANIFEST, Manifest, media_type,
};
use crate::image::reference::Reference;

pub use blobs::{BlobBegin, NewBlob};
pub use change::{Change, NewImage};
pub use entry::Entry;
pub use find::Meant;
pub use gc::{Collected, Extent, Orphan, Orphans};
pub use index::{LARGEST_INDEX, annotation};
pub use lease::Lease;
pub use lock::SharedLock;

/// OCI image specification, image-layout.md.
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

#[derive(Debug, Clone)]
pub struct ImageStore {
    root: PathBuf,
}

/// One image, with its documents.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of the configuration.
    pub id: Digest,
    pub manifest: Descriptor,
    pub document: Manifest,
    pub config: ImageConfig,
    pub names: Vec<Reference>,
    /// `repository@sha256:…`, whole.
    pub repo_digests: Vec<String>,
}

impl ImageStore {
    /// The images of the store below `store`; nothing is made before something is written.
    pub fn new(store: &Path) -> Self {
        Self { root: store.to_owned() }
    }

    /// The root of the whole store, with containers and layers.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The OCI image layout.
    pub fn layout(&self) -> PathBuf {
        self.root.join("oci")
    }

    pub fn index_path(&self) -> PathBuf {
        self.layout().join("index.json")
    }

    fn blobs(&self) -> PathBuf {
        self.layout().join("blobs/sha256")
    }

    fn partial(&self) -> PathBuf {
        self.layout().join("partial")
    }

    fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("images.lock")
    }

    /// Keeps collectors and changes of the index away, for milliseconds. Not together with a [`Change`] in one
    /// thread: each waits for the other.
    ///
    /// # Errors
    /// The lock cannot be made.
    pub fn share(&self) -> Result<SharedLock> {
        lock::share(&self.lock_path())
    }

    /// Locks and reads the index, to change it.
    ///
    /// # Errors
    /// The store cannot be written, or the index is damaged.
    pub fn change(&self) -> Result<Change> {
        self.prepare()?;
        Change::begin(self)
    }

    /// Protects digests for as long as the value lives.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn lease(&self) -> Result<Lease> {
        self.prepare()?;
        Lease::new(self)
    }

    /// Every image under every name, the newest first.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn list(&self) -> Result<Vec<Entry>> {
        Ok(entry::all(self, self.read_index()?.manifests))
    }

    /// The image's documents.
    ///
    /// # Errors
    /// They are missing or damaged, or it is no image.
    pub fn image(&self, manifest: &Descriptor) -> Result<Image> {
        self.image_of(manifest, &self.read_index()?)
    }

    fn image_of(&self, descriptor: &Descriptor, index: &Index) -> Result<Image> {
        let (manifest, document) = self.manifest(descriptor)?;
        let id = document.config.digest.clone();
        let config = self.config(&document)?;
        let layers = (document.layers.len(), config.rootfs.diff_ids.len());
        if layers.0 != layers.1 {
            return Err(Error::new(format!("cannot use the image {}", id.short()))
                .because(format!("its manifest has {} layers and its configuration {}", layers.0, layers.1))
                .hint("the image is damaged where it was made: remove it and pull another"));
        }
        let same = |found: &&Descriptor| {
            found.digest == descriptor.digest
                || found.annotations.get(annotation::ID).is_some_and(|found| found == id.as_str())
        };
        let same: Vec<&Descriptor> = index.manifests.iter().filter(same).collect();
        let mut repo_digests: Vec<String> =
            same.iter().flat_map(|found| entry::repo_digests(found)).collect();
        repo_digests.sort();
        repo_digests.dedup();
        let names = same.iter().filter_map(|found| entry::name_of(found)).collect();
        Ok(Image { id, manifest, document, config, names, repo_digests })
    }

    /// The manifest behind a descriptor: of an index that another tool put there, that of this machine.
    fn manifest(&self, descriptor: &Descriptor) -> Result<(Descriptor, Manifest)> {
        let mut descriptor = descriptor.clone();
        if media_type::is_index(&descriptor.media_type) {
            let text = self.read_document(&descriptor.digest, LARGEST_MANIFEST)?;
            let inner: Index = documents::parse(&format!("the index {}", descriptor.digest), &text)?;
            descriptor = entry::of_this_machine(&inner).cloned().ok_or_else(|| {
                Error::new(format!("cannot use the image index {}", descriptor.digest))
                    .because("it has no image for this machine")
                    .hint(format!("pull one with `--platform linux/{}`", entry::architecture()))
            })?;
        }
        let text = self.read_document(&descriptor.digest, LARGEST_MANIFEST)?;
        let document: Manifest = documents::parse(&format!("the manifest {}", descriptor.digest), &text)?;
        match document.config.media_type.as_str() {
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG => Ok((descriptor, document)),
            other => Err(Error::new(format!("cannot use {} as an image", descriptor.digest))
                .because(format!("its configuration is of the type `{}`", other.escape_debug()))),
        }
    }

    fn config(&self, manifest: &Manifest) -> Result<ImageConfig> {
        let digest = &manifest.config.digest;
        let text = self.read_document(digest, LARGEST_CONFIG)?;
        documents::parse(&format!("the configuration {digest}"), &text)
    }

    fn read_index(&self) -> Result<Index> {
        index::read(&self.index_path())
    }

    /// Makes what a valid layout has. Cheap when it is there.
    fn prepare(&self) -> Result<()> {
        let directories = [self.blobs(), self.partial(), self.leases()];
        if self.index_path().exists() && directories.iter().all(|directory| directory.exists()) {
            return Ok(());
        }
        let failed =
            |error| no_room(error, format!("cannot make the image store `{}`", self.layout().display()));
        directories.iter().try_for_each(|directory| lock::make_directory(directory)).map_err(failed)?;
        let _lock = lock::exclude(&self.lock_path())?;
        let layout = self.layout().join("oci-layout");
        if !layout.exists() {
            files::replace(&layout, OCI_LAYOUT).map_err(failed)?;
        }
        if !self.index_path().exists() {
            self.write_index(&index::empty()).map_err(failed)?;
        }
        Ok(())
    }

    /// Under the exclusive lock.
    fn write_index(&self, index: &Index) -> io::Result<()> {
        let text = serde_json::to_vec(index)?;
        if text.len() as u64 > LARGEST_INDEX {
            return Err(io::Error::other(
                "there are too many images: remove some with `sbx image prune -a` or `sbx rmi`",
            ));
        }
        files::replace(&self.index_path(), &text)
    }
}

fn random_name() -> Result<String> {
    let mut random = [0_u8; 16];
    crate::sys::random::fill(&mut random).step(|| "cannot make a random name")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
