//! OCI image layouts (image-layout.md), packed or not, and the directories of skopeo's `dir:`.

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::documents::{
    self, Descriptor, ImageConfig, Index, LARGEST_CONFIG, LARGEST_MANIFEST, Manifest, media_type,
};
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::store::annotation;
use crate::image::transfer::archive::Candidate;
use crate::image::transfer::archive::members::Members;
use crate::image::transfer::session::Session;

/// An index may name an index; more of them are a maze.
const DEEPEST: usize = 3;

/// Where blobs are.
struct Blobs<'b> {
    members: &'b Members,
    session: &'b Session,
    /// `blobs/sha256/`, or nothing in the directories of `dir:`.
    prefix: &'static str,
}

impl Blobs<'_> {
    fn name(&self, digest: &Digest) -> String {
        format!("{}{}", self.prefix, digest.hex())
    }

    /// A document, verified.
    fn document(&self, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>> {
        let name = self.name(&descriptor.digest);
        let bytes = self.members.document(&name, most, self.session)?.ok_or_else(|| missing(&name))?;
        if Digest::of(&bytes) != descriptor.digest {
            return Err(Error::new(format!("cannot use `{name}` of the archive"))
                .because("its content has another digest"));
        }
        Ok(bytes)
    }
}

fn missing(name: &str) -> Error {
    Error::new(format!("cannot find `{name}` in the archive"))
        .because("a manifest names the blob, and it is not there")
        .hint("the archive is incomplete: write it again")
}

pub(super) fn images(
    index: &[u8],
    members: &Members,
    wanted: &Wanted,
    session: &Session,
) -> Result<Vec<Candidate>> {
    let index: Index = documents::parse("the `index.json` of the archive", index)?;
    let blobs = Blobs { members, session, prefix: "blobs/sha256/" };
    let mut images: Vec<Candidate> = Vec::new();
    for entry in &index.manifests {
        let Some(image) = image(entry, wanted, &blobs)? else { continue };
        match images.iter_mut().find(|known| known.descriptor.digest == image.descriptor.digest) {
            Some(known) => known.names.extend(image.names),
            None => images.push(image),
        }
    }
    if images.is_empty() {
        return Err(Error::new("cannot find an image in the archive").because("its `index.json` names none"));
    }
    Ok(images)
}

/// The image of a layout that has this tag or digest; without both the only one, or `latest`.
///
/// # Errors
/// There is none such, or it is incomplete.
pub fn one(
    members: &Members,
    (tag, digest): (Option<&str>, Option<&Digest>),
    wanted: &Wanted,
    session: &Session,
) -> Result<Candidate> {
    let index =
        members.document("index.json", LARGEST_MANIFEST, session)?.ok_or_else(|| missing("index.json"))?;
    let index: Index = documents::parse("the `index.json` of the layout", &index)?;
    let blobs = Blobs { members, session, prefix: "blobs/sha256/" };
    let has_tag = |entry: &Descriptor, tag: &str| {
        let name = entry.annotations.get(annotation::NAME);
        name.is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
    };
    let is_it = |entry: &&Descriptor| match (tag, digest) {
        (_, Some(digest)) => entry.digest == *digest,
        (Some(tag), None) => has_tag(entry, tag),
        (None, None) => index.manifests.len() == 1 || has_tag(entry, "latest"),
    };
    let found = index.manifests.iter().find(is_it).map(|entry| image(entry, wanted, &blobs)).transpose()?;
    found.flatten().ok_or_else(|| {
        let names = index.manifests.iter().filter_map(|entry| entry.annotations.get(annotation::NAME));
        let names: Vec<String> = names.take(20).map(|name| name.escape_debug().to_string()).collect();
        let wanted = digest.map(Digest::as_str).or(tag).unwrap_or("latest");
        Error::new(format!("cannot find `{}` in the layout", wanted.escape_debug()))
            .because("its `index.json` has no such image")
            .hint(format!("there are: {}", names.join(", ")))
    })
}

/// The image behind an entry; none where it is something else, such as a signature.
fn image(entry: &Descriptor, wanted: &Wanted, blobs: &Blobs<'_>) -> Result<Option<Candidate>> {
    let names = names(entry)?;
    let mut descriptor = entry.clone();
    for _ in 0..DEEPEST {
        if !media_type::is_index(&descriptor.media_type) {
            let bytes = match media_type::is_manifest(&descriptor.media_type) {
                true => blobs.document(&descriptor, LARGEST_MANIFEST)?,
                false => return Ok(None),
            };
            return candidate(&descriptor.media_type, bytes, names, blobs);
        }
        let bytes = blobs.document(&descriptor, LARGEST_MANIFEST)?;
        let index: Index =
            documents::parse(&format!("the index {} of the archive", descriptor.digest.short()), &bytes)?;
        let shown = names.first().map_or_else(|| descriptor.digest.to_string(), Reference::to_string);
        descriptor = wanted.choose(&index, &shown)?.clone();
    }
    Err(Error::new("cannot read the archive").because("its indexes name indexes, again and again"))
}

fn candidate(
    kind: &str,
    bytes: Vec<u8>,
    names: Vec<Reference>,
    blobs: &Blobs<'_>,
) -> Result<Option<Candidate>> {
    let digest = Digest::of(&bytes);
    let manifest: Manifest =
        documents::parse(&format!("the manifest {} of the archive", digest.short()), &bytes)?;
    if !matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
        return Ok(None);
    }
    let failed =
        || Error::new(format!("cannot use the image {} of the archive", manifest.config.digest.short()));
    if let Some(layer) = manifest.layers.iter().find(|layer| !media_type::is_layer(&layer.media_type)) {
        return Err(
            failed().because(format!("it has a layer of the type `{}`", layer.media_type.escape_debug()))
        );
    }
    let config_bytes = blobs.document(&manifest.config, LARGEST_CONFIG)?;
    let config: ImageConfig = documents::parse(
        &format!("the configuration {} of the archive", manifest.config.digest.short()),
        &config_bytes,
    )?;
    let counts = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if counts.0 != counts.1 {
        return Err(failed()
            .because(format!("its manifest has {} layers and its configuration {}", counts.0, counts.1)));
    }
    let mut layers = Vec::with_capacity(counts.0);
    for layer in &manifest.layers {
        let name = blobs.name(&layer.digest);
        let content = blobs.members.find(&name)?.ok_or_else(|| missing(&name))?;
        if content.size() != layer.size {
            return Err(failed().because(format!(
                "`{name}` has {} bytes and should have {}",
                content.size(),
                layer.size
            )));
        }
        layers.push(content);
    }
    let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
    Ok(Some(Candidate { descriptor, bytes, manifest, config_bytes, config, names, layers }))
}

/// The name that an index gives: containerd's and docker's whole one before the tag of the specification, which
/// others write whole.
fn names(entry: &Descriptor) -> Result<Vec<Reference>> {
    let annotations = &entry.annotations;
    let text = annotations.get(annotation::CONTAINERD_NAME).or_else(|| annotations.get(annotation::NAME));
    text.map(|text| Reference::parse(text).map(Reference::or_latest)).into_iter().collect()
}

/// skopeo's `dir:`: a manifest, and beside it blobs by their digits.
pub(super) fn directory(manifest: &[u8], members: &Members, session: &Session) -> Result<Candidate> {
    let document: Manifest = documents::parse("the `manifest.json` of the directory", manifest)?;
    let kind = document.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
    let blobs = Blobs { members, session, prefix: "" };
    candidate(kind, manifest.to_vec(), Vec::new(), &blobs)?.ok_or_else(|| {
        Error::new("cannot find an image in the directory").because("its manifest is of something else")
    })
}
