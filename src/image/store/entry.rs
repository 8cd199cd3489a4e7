//! What one descriptor of the index says of an image.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::ImageStore;
use super::index::annotation;
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, Index, Platform};
use crate::image::reference::Reference;

/// One image under one name, or without.
#[derive(Debug, Clone)]
pub struct Entry {
    /// With a digest and no tag where the image was pulled by digest.
    pub reference: Option<Reference>,
    /// As it stands in the index.
    pub manifest: Descriptor,
    /// The digest of the configuration; that of the manifest where it cannot be read.
    pub id: Digest,
    pub created: Option<Timestamp>,
    /// Bytes unpacked, where that is known; else the blobs'.
    pub size: u64,
    /// `repository@sha256:…`, whole.
    pub repo_digests: Vec<String>,
    /// Its documents cannot be read: all that can be done is to remove it, or to fetch it again.
    pub damaged: bool,
}

impl Entry {
    /// No tag and no digest names it.
    pub fn is_dangling(&self) -> bool {
        self.reference.is_none()
    }
}

/// The entries of an index, the newest first. Those that other tools wrote are completed from their blobs.
pub(super) fn all(store: &ImageStore, descriptors: Vec<Descriptor>) -> Vec<Entry> {
    let mut read: BTreeMap<Digest, Facts> = BTreeMap::new();
    let mut entries: Vec<Entry> =
        descriptors.into_iter().map(|descriptor| complete(store, descriptor, &mut read)).collect();
    entries.sort_by(|a, b| (b.created, &a.reference).cmp(&(a.created, &b.reference)));
    entries
}

#[derive(Clone)]
struct Facts {
    id: Digest,
    created: Option<Timestamp>,
    size: u64,
    damaged: bool,
}

fn complete(store: &ImageStore, descriptor: Descriptor, read: &mut BTreeMap<Digest, Facts>) -> Entry {
    let facts = annotated(&descriptor).unwrap_or_else(|| {
        read.entry(descriptor.digest.clone()).or_insert_with(|| from_blobs(store, &descriptor)).clone()
    });
    Entry {
        reference: name_of(&descriptor),
        repo_digests: repo_digests(&descriptor),
        id: facts.id,
        created: facts.created,
        size: facts.size,
        damaged: facts.damaged,
        manifest: descriptor,
    }
}

fn annotated(descriptor: &Descriptor) -> Option<Facts> {
    let annotations = &descriptor.annotations;
    Some(Facts {
        id: annotations.get(annotation::ID)?.parse().ok()?,
        created: annotations.get(annotation::CREATED).and_then(|text| text.parse().ok()),
        size: annotations.get(annotation::SIZE)?.parse().ok()?,
        damaged: false,
    })
}

fn from_blobs(store: &ImageStore, descriptor: &Descriptor) -> Facts {
    let facts = store.manifest(descriptor).and_then(|(_, manifest)| {
        let config = store.config(&manifest)?;
        let size = manifest.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let created = config.created.as_deref().and_then(|text| text.parse().ok());
        Ok(Facts { id: manifest.config.digest, created, size, damaged: false })
    });
    facts.unwrap_or_else(|error| {
        log::warn!("cannot read an image that `{}` names: {error}", store.index_path().display());
        Facts { id: descriptor.digest.clone(), created: None, size: 0, damaged: true }
    })
}

/// The name that an index gives; none where it is no name as docker knows them.
pub(super) fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let annotations = &descriptor.annotations;
    let text = annotations.get(annotation::CONTAINERD_NAME).or_else(|| annotations.get(annotation::NAME))?;
    Reference::parse(text).ok().map(Reference::or_latest)
}

/// Where the manifest is known to be, `repository@sha256:…`.
pub(super) fn repo_digests(descriptor: &Descriptor) -> Vec<String> {
    let text = descriptor.annotations.get(annotation::REPO_DIGESTS).map_or("", String::as_str);
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The names of Go for what this was built for.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

pub(super) fn of_this_machine(index: &Index) -> Option<&Descriptor> {
    let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture();
    index.manifests.iter().find(|found| found.platform.as_ref().is_some_and(fits)).or_else(|| {
        // A layout with one image needs no platform.
        match index.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        }
    })
}
