//! The same image in other words: packed layers, and the manifest of the other schema.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::write::GzEncoder;

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::{Digest, HashingReader};
use crate::image::documents::{Descriptor, Manifest, media_type};
use crate::image::store::{ImageStore, Lease, NewBlob};
use crate::layers::compression::{self, Compression};

/// The kind of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Schema {
    #[default]
    Oci,
    /// docker's image manifest version 2, schema 2.
    Docker,
}

/// How layers are packed for a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// gzip or zstd.
    pub kind: Compression,
    /// The library's own where there is none.
    pub level: Option<u32>,
    /// Layers that are packed otherwise are packed anew; else only those that are not packed at all.
    pub all: bool,
}

impl Schema {
    pub fn of(media_type: &str) -> Self {
        if media_type == media_type::DOCKER_MANIFEST { Self::Docker } else { Self::Oci }
    }

    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_MANIFEST,
            Self::Docker => media_type::DOCKER_MANIFEST,
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_CONFIG,
            Self::Docker => media_type::DOCKER_CONFIG,
        }
    }

    fn layer(self, kind: Compression) -> Result<&'static str> {
        match (self, kind) {
            (Self::Oci, Compression::None) => Ok(media_type::OCI_LAYER),
            (Self::Oci, Compression::Gzip) => Ok(media_type::OCI_LAYER_GZIP),
            (Self::Oci, Compression::Zstd) => Ok(media_type::OCI_LAYER_ZSTD),
            (Self::Docker, Compression::None) => Ok(media_type::DOCKER_LAYER),
            (Self::Docker, Compression::Gzip) => Ok(media_type::DOCKER_LAYER_GZIP),
            (Self::Docker, Compression::Zstd) => {
                Err(Error::new("cannot write a manifest of docker's schema 2")
                    .because("the image has layers packed with zstd, which that schema does not have")
                    .hint("take `--format oci`, or pack with `--compression-format gzip`"))
            }
            (_, Compression::Xz | Compression::Bzip2) => Err(Error::new("cannot write a manifest")
                .because("a layer is packed in a way that manifests do not have")),
        }
    }
}

/// A manifest of the other schema for the same blobs; the same one where it is of that schema already.
///
/// # Errors
/// The schema has no word for a layer's packing.
pub fn to_schema(manifest: &Manifest, schema: Schema) -> Result<Manifest> {
    let mut manifest = manifest.clone();
    manifest.media_type = Some(schema.manifest().to_owned());
    manifest.config.media_type = schema.config().to_owned();
    for layer in &mut manifest.layers {
        let kind = match layer.media_type.as_str() {
            media_type::OCI_LAYER | media_type::DOCKER_LAYER => Compression::None,
            media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Compression::Gzip,
            media_type::OCI_LAYER_ZSTD | media_type::DOCKER_LAYER_ZSTD => Compression::Zstd,
            other => {
                return Err(Error::new("cannot write the manifest anew")
                    .because(format!("a layer is of the type `{}`", other.escape_debug())));
            }
        };
        layer.media_type = schema.layer(kind)?.to_owned();
    }
    if schema == Schema::Docker {
        // Words of the OCI specification alone.
        manifest.annotations.clear();
        manifest.other.remove("artifactType");
        manifest.other.remove("subject");
    }
    Ok(manifest)
}

/// The layer as it is to be sent: as it is, or packed anew into another blob of the store.
///
/// # Errors
/// The blob is missing or damaged, or there is no room.
pub fn pack(
    store: &ImageStore,
    lease: &Lease,
    layer: &Descriptor,
    (schema, packing): (Schema, Packing),
    stopped: &AtomicBool,
) -> Result<Descriptor> {
    let file = store.open_blob(layer)?;
    let kind = kind_of(&file).step(|| format!("cannot read the layer {}", layer.digest.short()))?;
    if kind == packing.kind || kind != Compression::None && !packing.all {
        return Ok(layer.clone());
    }
    let failed = || format!("cannot pack the layer {}", layer.digest.short());
    let mut source = HashingReader::new(Watched(file, stopped));
    let mut blob = store.begin_unknown_blob()?;
    let size = match repack(kind, packing, &mut source, &mut blob) {
        Ok(size) => size,
        Err(error) => {
            blob.discard();
            return Err(no_room(error, failed()));
        }
    };
    if source.finish().1 != layer.digest {
        blob.discard();
        return Err(store.damaged(&layer.digest, "its content has another digest"));
    }
    let digest: Digest = blob.finish(lease)?;
    let mut packed = Descriptor::new(schema.layer(packing.kind)?, digest, size);
    packed.annotations.clone_from(&layer.annotations);
    Ok(packed)
}

/// Told by the content: media types have been wrong before.
fn kind_of(mut file: &File) -> io::Result<Compression> {
    use std::io::Seek;
    let mut first = Vec::new();
    file.take(compression::FIRST_BYTES as u64).read_to_end(&mut first)?;
    file.rewind()?;
    Ok(compression::detect(&first))
}

fn repack(
    kind: Compression,
    packing: Packing,
    source: &mut (impl Read + Send),
    blob: &mut NewBlob,
) -> io::Result<u64> {
    let mut counted = Counted { inner: io::BufWriter::with_capacity(1 << 18, blob), count: 0 };
    {
        let mut plain = compression::decompress(kind, &mut *source)?;
        match packing.kind {
            Compression::Zstd => {
                // 0 is the library's own level.
                let level = packing.level.map_or(0, u32::cast_signed);
                let mut encoder = zstd::stream::write::Encoder::new(&mut counted, level)?;
                io::copy(&mut plain, &mut encoder)?;
                encoder.finish()?;
            }
            _ => {
                let level = packing.level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                let mut encoder = GzEncoder::new(&mut counted, level);
                io::copy(&mut plain, &mut encoder)?;
                encoder.finish()?;
            }
        }
    }
    // What follows the last member counts for the digest.
    io::copy(source, &mut io::sink())?;
    counted.inner.flush()?;
    Ok(counted.count)
}

struct Counted<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Watched<'s>(File, &'s AtomicBool);

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.load(Ordering::Relaxed) {
            return Err(io::Error::other("the transfer was stopped"));
        }
        self.0.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::transfer::archive::docker::manifest;

    #[test]
    fn a_manifest_goes_to_the_other_schema_and_back() {
        let layer = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of(b"l"), 1);
        let first = manifest(Descriptor::new(media_type::OCI_CONFIG, Digest::of(b"c"), 1), vec![layer]);
        let docker = to_schema(&first, Schema::Docker).unwrap();
        assert_eq!(docker.layers[0].media_type, media_type::DOCKER_LAYER_GZIP);
        assert_eq!(docker.media_type.as_deref(), Some(media_type::DOCKER_MANIFEST));
        let again = to_schema(&docker, Schema::Oci).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&first).unwrap());
    }

    #[test]
    fn zstd_is_no_word_of_dockers() {
        let layer = Descriptor::new(media_type::OCI_LAYER_ZSTD, Digest::of(b"l"), 1);
        let image = manifest(Descriptor::new(media_type::OCI_CONFIG, Digest::of(b"c"), 1), vec![layer]);
        assert!(to_schema(&image, Schema::Docker).unwrap_err().to_string().contains("zstd"));
    }
}
