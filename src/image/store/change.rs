//! Changing the index.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::index::{self, annotation};
use super::lock::ExclusiveLock;
use super::{Entry, ImageStore, Meant, entry, lock};
use crate::container::store::no_room;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, Index};
use crate::image::reference::Reference;

/// What the index says of an image.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Media type, digest, size and platform of the manifest.
    pub manifest: Descriptor,
    /// The digest of the configuration.
    pub id: Digest,
    /// RFC 3339, as the configuration has it.
    pub created: Option<String>,
    /// Bytes unpacked.
    pub size: u64,
    /// `repository@sha256:…`, whole.
    pub repo_digests: Vec<String>,
    /// The index that the manifest was chosen from.
    pub index: Option<Digest>,
}

/// The index, held alone. Nothing is changed before [`Change::commit`]. Hold it for milliseconds.
#[derive(Debug)]
pub struct Change {
    store: ImageStore,
    _lock: ExclusiveLock,
    base: Vec<Descriptor>,
    seen: Option<Stamp>,
    index: Index,
}

/// What tells that a tool without locks has written the file.
type Stamp = (u64, u64, SystemTime);

impl Change {
    pub(super) fn begin(store: &ImageStore) -> Result<Self> {
        let lock = lock::exclude(&store.lock_path())?;
        let seen = stamp(store);
        let index = store.read_index()?;
        Ok(Self { store: store.clone(), _lock: lock, base: index.manifests.clone(), seen, index })
    }

    /// What the index will have.
    pub fn entries(&self) -> Vec<Entry> {
        entry::all(&self.store, self.index.manifests.clone())
    }

    /// As [`ImageStore::find`], in the index as it will be.
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, text: &str) -> Result<Option<super::Image>> {
        self.store.find_in(text, &self.index)
    }

    /// What of which image the word names.
    ///
    /// # Errors
    /// The word is ambiguous, or neither name nor ID.
    pub fn meant(&self, text: &str) -> Result<Option<Meant>> {
        self.store.meant(text, &self.index)
    }

    /// The entry that a name or ID means, without reading the image.
    ///
    /// # Errors
    /// The word is ambiguous, or neither name nor ID.
    pub fn descriptor(&self, text: &str) -> Result<Option<Descriptor>> {
        self.store.descriptor_of(text, &self.index)
    }

    /// Every entry of the image that a name or ID means; none where there is no such image.
    ///
    /// # Errors
    /// As [`Change::descriptor`].
    pub fn entries_of(&self, text: &str) -> Result<Vec<Entry>> {
        let Some(meant) = self.descriptor(text)? else { return Ok(Vec::new()) };
        let mut entries = self.entries();
        let id = entries.iter().find(|entry| entry.manifest == meant).map(|entry| entry.id.clone());
        entries.retain(|entry| Some(&entry.id) == id.as_ref());
        Ok(entries)
    }

    /// Adds an image under `name`, which is taken away from the image that had it: that one stays without a name.
    /// An image that is given no name keeps those it has.
    pub fn put(&mut self, name: Option<&Reference>, image: &NewImage) {
        let mut descriptor = image.manifest.clone();
        descriptor.annotations.clear();
        let mut note = |key: &str, value: String| descriptor.annotations.insert(key.to_owned(), value);
        note(annotation::ID, image.id.to_string());
        note(annotation::SIZE, image.size.to_string());
        if let Some(created) = &image.created {
            note(annotation::CREATED, created.clone());
        }
        if let Some(index) = &image.index {
            note(annotation::INDEX, index.to_string());
        }
        if !image.repo_digests.is_empty() {
            note(annotation::REPO_DIGESTS, image.repo_digests.join(" "));
        }
        self.insert(name, descriptor);
    }

    /// Gives an image that is there one more name.
    pub fn tag(&mut self, name: &Reference, of: &Descriptor) {
        let mut descriptor = of.clone();
        descriptor.annotations.remove(annotation::CONTAINERD_NAME);
        self.insert(Some(name), descriptor);
    }

    /// Puts another manifest of the same image in the place of `old`, under all its names: one whose layers are
    /// packed, say.
    pub fn replace(&mut self, old: &Digest, new: &Descriptor) {
        for found in self.index.manifests.iter_mut().filter(|found| found.digest == *old) {
            found.media_type.clone_from(&new.media_type);
            found.digest.clone_from(&new.digest);
            found.size = new.size;
        }
    }

    /// Takes a name away. The image stays, without a name where it was the last. False: no image has it.
    pub fn untag(&mut self, name: &Reference) -> bool {
        let Some(at) = self.position(name) else { return false };
        let descriptor = self.index.manifests.remove(at);
        self.keep_nameless(descriptor);
        true
    }

    /// Removes the image from the index, with all its names.
    pub fn remove(&mut self, id: &Digest) {
        let doomed: BTreeSet<Digest> = self
            .entries()
            .into_iter()
            .filter(|entry| entry.id == *id)
            .map(|entry| entry.manifest.digest)
            .collect();
        self.index.manifests.retain(|found| !doomed.contains(&found.digest));
    }

    /// Notes where an image came from or went to (`repository@sha256:…`).
    pub fn add_repo_digest(&mut self, manifest: &Digest, repo_digest: &str) {
        for descriptor in self.index.manifests.iter_mut().filter(|found| found.digest == *manifest) {
            let mut all: BTreeSet<String> = entry::repo_digests(descriptor).into_iter().collect();
            all.insert(repo_digest.to_owned());
            let all: Vec<String> = all.into_iter().collect();
            descriptor.annotations.insert(annotation::REPO_DIGESTS.to_owned(), all.join(" "));
        }
    }

    /// Forgets that the image was ever in this repository under this digest.
    pub fn remove_repo_digest(&mut self, manifest: &Digest, repo_digest: &str) {
        for descriptor in self.index.manifests.iter_mut().filter(|found| found.digest == *manifest) {
            let mut all = entry::repo_digests(descriptor);
            all.retain(|known| known != repo_digest);
            descriptor.annotations.insert(annotation::REPO_DIGESTS.to_owned(), all.join(" "));
        }
    }

    /// Makes it so.
    ///
    /// # Errors
    /// The index cannot be written; then it is as it was.
    pub fn commit(mut self) -> Result<()> {
        if self.index.manifests == self.base {
            return Ok(());
        }
        if stamp(&self.store) != self.seen {
            let theirs = self.store.read_index()?.manifests;
            self.index.manifests = index::merge(&self.base, self.index.manifests, theirs);
        }
        let written = match self.store.write_index(&self.index) {
            // A full disk is no reason to keep what fills it.
            Err(error) if is_full(&error) && self.store.give_up_blobs(&self.index)? => {
                self.store.write_index(&self.index)
            }
            written => written,
        };
        let failed = || format!("cannot write the list of images `{}`", self.store.index_path().display());
        written.map_err(|error| no_room(error, failed()))
    }

    fn position(&self, name: &Reference) -> Option<usize> {
        self.index.manifests.iter().position(|found| entry::name_of(found).as_ref() == Some(name))
    }

    fn insert(&mut self, name: Option<&Reference>, mut descriptor: Descriptor) {
        let known: Vec<&Descriptor> =
            self.index.manifests.iter().filter(|found| found.digest == descriptor.digest).collect();
        let named = known.iter().any(|found| entry::name_of(found).is_some());
        // What is known of the manifest stays known.
        let mut digests: BTreeSet<String> = entry::repo_digests(&descriptor).into_iter().collect();
        digests.extend(known.iter().flat_map(|found| entry::repo_digests(found)));
        if !digests.is_empty() {
            let digests: Vec<String> = digests.into_iter().collect();
            descriptor.annotations.insert(annotation::REPO_DIGESTS.to_owned(), digests.join(" "));
        }
        let nameless = |found: &Descriptor| entry::name_of(found).is_none();
        match name {
            None if named => return,
            None => {}
            Some(name) => {
                if let Some(at) = self.position(name) {
                    let former = self.index.manifests.remove(at);
                    if former.digest != descriptor.digest {
                        self.keep_nameless(former);
                    }
                }
                descriptor.annotations.insert(annotation::NAME.to_owned(), name.to_string());
            }
        }
        self.index.manifests.retain(|found| found.digest != descriptor.digest || !nameless(found));
        self.index.manifests.push(descriptor);
    }

    /// Keeps an image whose name is gone, unless it has another entry.
    fn keep_nameless(&mut self, mut descriptor: Descriptor) {
        if self.index.manifests.iter().any(|found| found.digest == descriptor.digest) {
            return;
        }
        descriptor.annotations.remove(annotation::NAME);
        descriptor.annotations.remove(annotation::CONTAINERD_NAME);
        self.index.manifests.push(descriptor);
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

fn stamp(store: &ImageStore) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = store.index_path().symlink_metadata().ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
}
