//! `docker save`: a `manifest.json` that names configuration and layers by file.

use serde::Deserialize;

use crate::error::{Error, Result, Step};
use crate::image::digest::{Digest, HashingReader};
use crate::image::documents::{self, Descriptor, ImageConfig, LARGEST_CONFIG, Manifest, media_type};
use crate::image::reference::Reference;
use crate::image::transfer::archive::Candidate;
use crate::image::transfer::archive::members::{Content, Members};
use crate::image::transfer::session::Session;
use crate::layers::compression::{self, Compression};

/// One image of `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Item {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Option<Vec<String>>,
}

/// Reads `manifest.json`.
///
/// # Errors
/// It is something else.
pub fn items(bytes: &[u8]) -> Result<Vec<Item>> {
    documents::parse("the `manifest.json` of the archive", bytes)
}

impl Item {
    /// The whole names of the image.
    ///
    /// # Errors
    /// One of them is no name.
    pub fn names(&self) -> Result<Vec<Reference>> {
        let tags = self.repo_tags.as_deref().unwrap_or_default();
        tags.iter().map(|tag| Reference::parse(tag).map(Reference::or_latest)).collect()
    }
}

/// Gives the images of the same archive, read by its other list, the names that stand here.
pub(super) fn add_names(items: &[Item], images: &mut [Candidate]) {
    for item in items {
        let Some(id) = digest_in(&item.config) else { continue };
        if let Some(image) = images.iter_mut().find(|image| image.manifest.config.digest == id) {
            image.names.extend(item.names().unwrap_or_default());
        }
    }
}

pub(super) fn images(items: &[Item], members: &Members, session: &Session) -> Result<Vec<Candidate>> {
    items.iter().map(|item| image(item, members, session)).collect()
}

fn image(item: &Item, members: &Members, session: &Session) -> Result<Candidate> {
    let shown = item.config.escape_debug();
    let config_bytes =
        members.document(&item.config, LARGEST_CONFIG, session)?.ok_or_else(|| missing(&item.config))?;
    let id = Digest::of(&config_bytes);
    if digest_in(&item.config).is_some_and(|said| said != id) {
        return Err(Error::new(format!("cannot use the configuration `{shown}` of the archive"))
            .because("its content has another digest"));
    }
    let config: ImageConfig =
        documents::parse(&format!("the configuration `{shown}` of the archive"), &config_bytes)?;
    let files = item.layers.as_deref().unwrap_or_default();
    let diff_ids = &config.rootfs.diff_ids;
    if files.len() != diff_ids.len() {
        return Err(Error::new(format!("cannot use the image {} of the archive", id.short())).because(
            format!("its list has {} layers and its configuration {}", files.len(), diff_ids.len()),
        ));
    }
    let mut layers = Vec::with_capacity(files.len());
    let mut blobs = Vec::with_capacity(files.len());
    for (file, diff_id) in files.iter().zip(diff_ids) {
        let content = members.find(file)?.ok_or_else(|| missing(file))?;
        let blob = describe(file, &content, diff_id, session).map_err(|error| {
            error.while_doing(format!("cannot use the layer `{}` of the archive", file.escape_debug()))
        })?;
        blobs.push(blob);
        layers.push(content);
    }
    let manifest = manifest(Descriptor::new(media_type::OCI_CONFIG, id, config_bytes.len() as u64), blobs);
    let bytes = serde_json::to_vec(&manifest).step(|| "cannot write a manifest")?;
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    Ok(Candidate { descriptor, bytes, manifest, config_bytes, config, names: item.names()?, layers })
}

/// The manifest of an image that came without one.
pub fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config,
        layers,
        annotations: std::collections::BTreeMap::new(),
        other: serde_json::Map::new(),
    }
}

/// Type, digest and size of a layer's file as it will be kept.
fn describe(file: &str, content: &Content, diff_id: &Digest, session: &Session) -> Result<Descriptor> {
    let mut first = [0; compression::FIRST_BYTES];
    let filled = read_up_to(content.open(0, session)?.as_mut(), &mut first).step(|| "cannot read it")?;
    let kind = compression::detect(&first[..filled]);
    let media_type = match kind {
        Compression::None => media_type::OCI_LAYER,
        Compression::Gzip => media_type::OCI_LAYER_GZIP,
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        Compression::Xz | Compression::Bzip2 => {
            return Err(Error::new("its compression is none that layers may have")
                .hint("layers are plain, or packed with gzip or zstd"));
        }
    };
    let digest = match (kind, content, digest_in(file)) {
        (Compression::None, ..) => diff_id.clone(),
        (_, Content::Blob(blob), _) => blob.digest.clone(),
        // It is verified while the layer is brought.
        (_, _, Some(said)) => said,
        (_, _, None) => {
            let mut reader = HashingReader::new(session.watched(content.open(0, session)?));
            std::io::copy(&mut reader, &mut std::io::sink()).step(|| "cannot read it")?;
            reader.finish().1
        }
    };
    Ok(Descriptor::new(media_type, digest, content.size()))
}

fn read_up_to(reader: &mut dyn std::io::Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn missing(name: &str) -> Error {
    Error::new(format!("cannot find `{}` in the archive", name.escape_debug()))
        .because("its list of images names the file, and it is not there")
        .hint("the archive is incomplete: write it again")
}

/// The digest that a file's name claims: `blobs/sha256/<hex>`, `<hex>.json`. Directories of layers have names
/// that look like digests and are none.
fn digest_in(name: &str) -> Option<Digest> {
    match name.strip_prefix("blobs/sha256/") {
        Some(hex) => Digest::from_hex(hex),
        None => Digest::from_hex(name.strip_suffix(".json")?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_from_the_names_that_claim_them() {
        let hex = Digest::of(b"x").hex().to_owned();
        assert!(digest_in(&format!("blobs/sha256/{hex}")).is_some());
        assert!(digest_in(&format!("{hex}.json")).is_some());
        assert!(digest_in(&format!("{hex}/layer.tar")).is_none());
        assert!(digest_in("config.json").is_none());
    }

    #[test]
    fn lists_may_be_null() {
        let items = items(br#"[{"Config":"c.json","RepoTags":null,"Layers":null}]"#).unwrap();
        assert!(items[0].names().unwrap().is_empty());
        assert!(super::items(br#"{"Config":1}"#).is_err());
    }
}
