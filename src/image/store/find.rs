//! Which image a word means.

use std::collections::BTreeMap;

use super::index::annotation;
use super::{Image, ImageStore, entry};
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, Index};
use crate::image::reference::{DEFAULT_DOMAIN, Reference};
use crate::image::registries::Registries;

/// Where images made on this machine are, as podman names them.
const LOCAL_DOMAIN: &str = "localhost";
/// Longer lists of what an ambiguous word may mean help nobody.
const SHOWN: usize = 5;

/// What of an image a word names.
#[derive(Debug)]
pub enum Meant {
    Name(Descriptor, Reference),
    /// `repository@sha256:…`
    Digest(Descriptor, Reference),
    Id(Descriptor),
}

impl Meant {
    pub fn descriptor(self) -> Descriptor {
        match self {
            Self::Name(descriptor, _) | Self::Digest(descriptor, _) | Self::Id(descriptor) => descriptor,
        }
    }
}

impl ImageStore {
    /// The image that a name (`ubuntu`, `a/b:tag`, `name@sha256:…`), an ID or an unambiguous beginning of one means.
    /// A name goes before the beginning of an ID.
    ///
    /// # Errors
    /// The word is ambiguous or neither name nor ID, or the image's documents are damaged.
    pub fn find(&self, text: &str) -> Result<Option<Image>> {
        self.find_in(text, &self.read_index()?)
    }

    /// The image that has exactly this name.
    ///
    /// # Errors
    /// As [`ImageStore::find`].
    pub fn find_reference(&self, reference: &Reference) -> Result<Option<Image>> {
        let index = self.read_index()?;
        named(&index, reference).map(|found| self.image_of(found, &index)).transpose()
    }

    /// Whether the word means an image, without reading that.
    ///
    /// # Errors
    /// The word is ambiguous or neither name nor ID, or the index is damaged.
    pub fn has(&self, text: &str) -> Result<bool> {
        Ok(self.descriptor_of(text, &self.read_index()?)?.is_some())
    }

    pub(super) fn find_in(&self, text: &str, index: &Index) -> Result<Option<Image>> {
        self.descriptor_of(text, index)?.map(|found| self.image_of(&found, index)).transpose()
    }

    /// The entry that the word means, without reading the image.
    pub(super) fn descriptor_of(&self, text: &str, index: &Index) -> Result<Option<Descriptor>> {
        Ok(self.meant(text, index)?.map(Meant::descriptor))
    }

    pub(super) fn meant(&self, text: &str, index: &Index) -> Result<Option<Meant>> {
        let reference = Reference::parse(text).map(Reference::or_latest);
        if let Ok(reference) = &reference {
            let mut names = vec![reference.clone()];
            // `podman build -t tool` gives localhost/tool; who knows that asks for it by this name.
            if reference.domain == LOCAL_DOMAIN {
                let library = if reference.path.contains('/') { "" } else { "library/" };
                let path = format!("{library}{}", reference.path);
                names.push(Reference { domain: DEFAULT_DOMAIN.to_owned(), path, ..reference.clone() });
            }
            if !text.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':'])) {
                let path = reference.path.strip_prefix("library/").unwrap_or(&reference.path).to_owned();
                names.push(Reference { domain: LOCAL_DOMAIN.to_owned(), path, ..reference.clone() });
            }
            let own = names.into_iter().find_map(|name| Some((named(index, &name)?, name)));
            // What a listing shows as `tool` is found without reading any configuration.
            let found = own.or_else(|| {
                let mut configured = configured_names(text).into_iter();
                configured.find_map(|name| Some((named(index, &name)?, name)))
            });
            if let Some((found, name)) = found {
                let found = found.clone();
                return Ok(Some(match name.digest {
                    Some(_) => Meant::Digest(found, name),
                    None => Meant::Name(found, name),
                }));
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = !hex.is_empty()
            && hex.len() <= 64
            && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_hex {
            return Ok(self.by_id(text, hex, index)?.map(Meant::Id));
        }
        reference.map(|_| None)
    }

    fn by_id(&self, text: &str, hex: &str, index: &Index) -> Result<Option<Descriptor>> {
        let mut found: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        for entry in entry::all(self, index.manifests.clone()) {
            // The whole digest of a manifest means its image, too: `images --digests` shows it.
            let by_manifest = hex.len() == 64 && entry.manifest.digest.hex() == hex;
            if entry.id.hex().starts_with(hex) || by_manifest {
                found.entry(entry.id).or_insert(entry.manifest);
            }
        }
        if found.len() > 1 {
            let some: Vec<&str> = found.keys().take(SHOWN).map(Digest::short).collect();
            let more = if found.len() > SHOWN { ", …" } else { "" };
            return Err(Error::new(format!("cannot tell which image `{text}` means"))
                .because(format!("the IDs of {} images begin so: {}{more}", found.len(), some.join(", ")))
                .hint("write more digits of the ID, or a name"));
        }
        Ok(found.into_values().next())
    }
}

/// What a short name may stand for by registries.conf: an image that was pulled by its short name is found by that.
fn configured_names(text: &str) -> Vec<Reference> {
    if !Reference::is_short(text) {
        return Vec::new();
    }
    let names = Registries::load().and_then(|registries| registries.candidates(text));
    // Images are there whatever is wrong with the configuration; a pull will tell.
    names.unwrap_or_else(|error| {
        log::debug!("{error}");
        Vec::new()
    })
}

/// The entry with this name. A digest decides where there is one: it is that of the manifest, of the index that
/// it was chosen from, or of one that the repository gave.
fn named<'i>(index: &'i Index, reference: &Reference) -> Option<&'i Descriptor> {
    let Some(digest) = &reference.digest else {
        return index.manifests.iter().find(|found| entry::name_of(found).as_ref() == Some(reference));
    };
    let known_as = format!("{}@{digest}", reference.repository());
    let is_that = |found: &&Descriptor| {
        let is_named = || {
            entry::name_of(found).is_some_and(|name| {
                name.domain == reference.domain
                    && name.path == reference.path
                    && is_digest_of(found, digest, &name)
            })
        };
        entry::repo_digests(found).contains(&known_as) || is_named()
    };
    index.manifests.iter().find(is_that)
}

fn is_digest_of(found: &Descriptor, digest: &Digest, name: &Reference) -> bool {
    found.digest == *digest
        || name.digest.as_ref() == Some(digest)
        || found.annotations.get(annotation::INDEX).is_some_and(|index| index == digest.as_str())
}
