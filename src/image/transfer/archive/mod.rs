//! Archives of images as docker, podman, skopeo and sbx write them: what is in them, told by their content.

pub mod docker;
pub mod members;
pub mod oci;

use crate::error::{Error, Result};
use crate::image::documents::{Descriptor, ImageConfig, LARGEST_MANIFEST, Manifest};
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::transfer::archive::members::{Content, Members};
use crate::image::transfer::session::Session;

/// An image of an archive, ready to be brought into the store.
#[derive(Debug)]
pub struct Candidate {
    pub descriptor: Descriptor,
    /// The manifest, byte for byte.
    pub bytes: Vec<u8>,
    pub manifest: Manifest,
    pub config_bytes: Vec<u8>,
    pub config: ImageConfig,
    pub names: Vec<Reference>,
    /// One for each layer of the manifest.
    pub layers: Vec<Content>,
}

/// All images of an archive.
///
/// # Errors
/// It is of no kind that is known, or what it says of itself does not hold together.
pub fn images(members: &Members, wanted: &Wanted, session: &Session) -> Result<Vec<Candidate>> {
    let index = match members.find("oci-layout")? {
        Some(_) => members.document("index.json", LARGEST_MANIFEST, session)?,
        None => None,
    };
    let manifest = members.document("manifest.json", LARGEST_MANIFEST, session)?;
    let mut images = match (index, &manifest) {
        (Some(index), _) => {
            let mut images = oci::images(&index, members, wanted, session)?;
            // docker writes both, and all names into the older one alone.
            if let Some(items) = manifest.as_deref().and_then(|bytes| docker::items(bytes).ok()) {
                docker::add_names(&items, &mut images);
            }
            images
        }
        (None, Some(manifest)) if manifest.trim_ascii_start().starts_with(b"{") => {
            vec![oci::directory(manifest, members, session)?]
        }
        (None, Some(manifest)) => docker::images(&docker::items(manifest)?, members, session)?,
        (None, None) => return Err(unknown(members)?),
    };
    for image in &mut images {
        image.names.sort();
        image.names.dedup();
    }
    Ok(images)
}

fn unknown(members: &Members) -> Result<Error> {
    let error = Error::new("cannot find an image in the archive");
    Ok(match members.find("repositories")? {
        Some(_) => error
            .because("docker before version 1.10 wrote it: it names no configuration and no digests")
            .hint("load it with an old docker and save it with a newer one"),
        None => error
            .because("it has neither `manifest.json` nor `oci-layout` with `index.json`")
            .hint("is it a root file system? `sbx import FILE NAME` makes an image of it"),
    })
}
