//! Bringing what steps came to elsewhere.

use std::fs;
use std::path::Path;

use super::fetch::tag_of;
use super::{Export, Place, document, options};
use crate::build::builder::Builder;
use crate::build::cache::Record;
use crate::container::store::no_room;
use crate::error::{Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, media_type};
use crate::image::store::Image;
use crate::image::transfer::archive::docker::manifest;
use crate::image::transfer::push;
use crate::image::transfer::save::{self, Format, Saved};
use crate::output::progress::Progress;
use crate::registry::{self, Client};

/// # Errors
/// The place cannot be written.
pub fn send(
    builder: &Builder<'_>,
    export: &Export,
    records: &[(Digest, Record)],
    registry: &registry::Options,
) -> Result<()> {
    match &export.place {
        Place::Inline => Ok(()),
        Place::Directory { directory, .. } => {
            let image = image(builder, records)?;
            let failed = || format!("cannot write the cache to `{}`", directory.display());
            to_directory(builder, image, directory).map_err(|error| error.while_doing(failed()))
        }
        Place::Registry(name) => {
            let client = Client::new(options(registry, export.insecure))?;
            push_to(builder, export, &client, &image(builder, records)?, name)
        }
        Place::Repository(name) => {
            let client = Client::new(options(registry, export.insecure))?;
            for record in records {
                let name = tag_of(name, &record.0);
                // What is there came of the same step.
                if client.manifest_digest(&name).is_ok_and(|found| found.is_some()) {
                    continue;
                }
                push_to(builder, export, &client, &image(builder, std::slice::from_ref(record))?, &name)?;
            }
            Ok(())
        }
    }
}

fn push_to(
    builder: &Builder<'_>,
    export: &Export,
    client: &Client,
    image: &Image,
    name: &crate::image::reference::Reference,
) -> Result<()> {
    let mut how = push::Options::default();
    if let Some(packing) = export.packing {
        how.packing = packing;
    }
    push::push(&builder.images, client, image, name, &how, &Progress::new(true)).map(|_| ())
}

/// The image of records, whose documents are in the store for as long as the build.
fn image(builder: &Builder<'_>, records: &[(Digest, Record)]) -> Result<Image> {
    let written = || "cannot write the documents of the cache";
    let (layers, config) = document::of_records(records, jiff::Timestamp::now().to_string());
    for layer in &layers {
        builder.lease.add(&layer.digest)?;
    }
    let bytes = serde_json::to_vec(&config).step(written)?;
    let id = builder.images.put_bytes(&bytes, &builder.lease)?;
    let document = manifest(Descriptor::new(media_type::OCI_CONFIG, id.clone(), bytes.len() as u64), layers);
    let bytes = serde_json::to_vec(&document).step(written)?;
    let digest = builder.images.put_bytes(&bytes, &builder.lease)?;
    let manifest = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
    Ok(Image { id, manifest, document, config, names: Vec::new(), repo_digests: Vec::new() })
}

/// What is read is the index, and so it comes last, by a rename.
fn to_directory(builder: &Builder<'_>, image: Image, directory: &Path) -> Result<()> {
    let blobs = directory.join("blobs/sha256");
    let unfinished = directory.join(format!(".new-{}", std::process::id()));
    let place = |error| no_room(error, format!("cannot make `{}`", blobs.display()));
    fs::create_dir_all(&blobs).map_err(place)?;
    let saved = [Saved { image, names: Vec::new() }];
    let written = save::directory(&builder.images, &saved, Format::OciDir, &unfinished, &Progress::new(true));
    let moved = written.and_then(|()| {
        let failed = || format!("cannot write to `{}`", directory.display());
        for entry in fs::read_dir(unfinished.join("blobs/sha256")).step(failed)? {
            let entry = entry.step(failed)?;
            fs::rename(entry.path(), blobs.join(entry.file_name())).step(failed)?;
        }
        for name in ["oci-layout", "index.json"] {
            fs::rename(unfinished.join(name), directory.join(name)).step(failed)?;
        }
        Ok(())
    });
    let _ = fs::remove_dir_all(&unfinished);
    moved
}
