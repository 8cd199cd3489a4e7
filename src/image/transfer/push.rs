//! From the store into a registry.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, Manifest};
use crate::image::reference::Reference;
use crate::image::store::{Extent, Image, ImageStore, Lease};
use crate::image::transfer::convert::{self, Packing, Schema};
use crate::image::transfer::workers::share_out;
use crate::layers::compression::Compression;
use crate::output::progress::{Bar, Progress};
use crate::registry::{Client, Upload};

/// Larger blobs are sent in pieces, so that a connection that breaks does not cost all of them.
const PIECE: u64 = 64 << 20;

/// What a push is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The schema of the manifest; default: the image's own.
    pub schema: Option<Schema>,
    pub packing: Packing,
}

impl Default for Options {
    fn default() -> Self {
        Self { schema: None, packing: Packing { kind: Compression::Gzip, level: None, all: false } }
    }
}

/// What a push has put into the registry.
#[derive(Debug, Clone)]
pub struct Pushed {
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

/// Sends an image, as far as the registry does not have it. Layers that are not packed are packed, once: the
/// store keeps them so.
///
/// # Errors
/// The registry refuses or cannot be reached, or a blob of the store is missing or damaged.
pub fn push(
    store: &ImageStore,
    client: &Client,
    image: &Image,
    target: &Reference,
    options: &Options,
    progress: &Progress,
) -> Result<Pushed> {
    let failed = |error: Error| error.while_doing(format!("cannot push to `{target}`"));
    let lease = store.lease()?;
    let documents = [&image.manifest, &image.document.config];
    for blob in documents.into_iter().chain(&image.document.layers) {
        lease.add(&blob.digest)?;
    }
    let sent = prepare(store, &lease, image, options, progress).map_err(failed)?;
    let sources = sources(image, target);
    let task = Task { store, client, target, sources: &sources };
    let mut seen = BTreeSet::new();
    let blobs = sent.document.layers.iter().chain([&sent.document.config]);
    let blobs: Vec<_> = blobs
        .filter(|blob| seen.insert(&blob.digest))
        .map(|blob| (blob, progress.bar(blob.digest.short(), blob.size)))
        .collect();
    share_out(blobs, &AtomicBool::new(false), |(blob, bar)| task.send(blob, bar)).map_err(failed)?;
    let digest = client
        .put_manifest(target, &sent.media_type, &sent.bytes)
        .map_err(|failure| failed(failure.into()))?;
    remember(store, image, &sent, target)?;
    if sent.kept {
        // What was not packed is nobody's now.
        drop(lease);
        if let Err(error) = store.collect(Extent::Unnamed) {
            log::warn!("{error}: `sbx system prune` removes what is left");
        }
    }
    Ok(Pushed { digest, size: sent.bytes.len() as u64 })
}

/// A manifest as it is sent.
struct Sent {
    media_type: String,
    bytes: Vec<u8>,
    document: Manifest,
    digest: Digest,
    /// The image of the store is replaced by it: the same, but packed.
    kept: bool,
}

fn prepare(
    store: &ImageStore,
    lease: &Lease,
    image: &Image,
    options: &Options,
    progress: &Progress,
) -> Result<Sent> {
    let own = Schema::of(&image.manifest.media_type);
    let schema = options.schema.unwrap_or(own);
    let stopped = AtomicBool::new(false);
    let packed = share_out(image.document.layers.iter().collect(), &stopped, |layer| {
        let bar = progress.bar(layer.digest.short(), layer.size);
        bar.working("Preparing");
        let packed = convert::pack(store, lease, layer, (own, options.packing), &stopped)?;
        if packed.digest != layer.digest {
            bar.done("Packed");
        } else {
            bar.forget();
        }
        Ok(packed)
    })?;
    let repacked = packed != image.document.layers;
    if !repacked && schema == own {
        return Ok(Sent {
            media_type: image.manifest.media_type.clone(),
            bytes: store.read_document(&image.manifest.digest, crate::image::documents::LARGEST_MANIFEST)?,
            document: image.document.clone(),
            digest: image.manifest.digest.clone(),
            kept: false,
        });
    }
    let mut document = Manifest { layers: packed, ..image.document.clone() };
    if schema != own {
        document = convert::to_schema(&document, schema)?;
    }
    let bytes = serde_json::to_vec(&document).step(|| "cannot write the manifest")?;
    let kept = repacked && schema == own && !options.packing.all;
    let digest = if kept { store.put_bytes(&bytes, lease)? } else { Digest::of(&bytes) };
    Ok(Sent { media_type: schema.manifest().to_owned(), bytes, document, digest, kept })
}

/// Repositories of the same registry that are known to have the image's blobs.
fn sources(image: &Image, target: &Reference) -> Vec<String> {
    let known = image.repo_digests.iter().filter_map(|text| Reference::parse(text).ok());
    let mut paths: Vec<String> = known
        .filter(|known| known.domain == target.domain && known.path != target.path)
        .map(|known| known.path)
        .collect();
    paths.dedup();
    paths
}

struct Task<'t> {
    store: &'t ImageStore,
    client: &'t Client,
    target: &'t Reference,
    sources: &'t [String],
}

impl Task<'_> {
    fn send(&self, blob: &Descriptor, bar: Bar) -> Result<()> {
        if self.client.has_blob(self.target, &blob.digest)? {
            bar.done("Already exists");
            return Ok(());
        }
        for source in self.sources {
            if self.client.mount_blob(self.target, &blob.digest, source)? {
                bar.done("Mounted from another repository");
                return Ok(());
            }
        }
        bar.moving("Pushing");
        let bar = Arc::new(bar);
        let how = if blob.size > PIECE { Upload::Chunked(PIECE) } else { Upload::Monolithic };
        self.client.upload_blob(self.target, blob, how, |offset| {
            let mut file = self.store.open_blob(blob).map_err(io::Error::other)?;
            file.seek(SeekFrom::Start(offset))?;
            bar.set(offset);
            Ok(Counting { file, bar: Arc::clone(&bar) })
        })?;
        bar.done("Pushed");
        Ok(())
    }
}

struct Counting {
    file: File,
    bar: Arc<Bar>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bar.advance(count as u64);
        Ok(count)
    }
}

/// Notes where the image is now, and takes its packed form for the image itself.
fn remember(store: &ImageStore, image: &Image, sent: &Sent, target: &Reference) -> Result<()> {
    let mut change = store.change()?;
    let pushed = format!("{}@{}", target.repository(), sent.digest);
    if sent.kept {
        let manifest = Descriptor::new(&sent.media_type, sent.digest.clone(), sent.bytes.len() as u64);
        change.replace(&image.manifest.digest, &manifest);
    }
    let at = if sent.kept { &sent.digest } else { &image.manifest.digest };
    change.add_repo_digest(at, &pushed);
    change.commit()
}
