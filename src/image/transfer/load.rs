//! From an archive or a directory into the store.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::documents::Descriptor;
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::store::NewImage;
use crate::image::transfer::archive::members::Members;
use crate::image::transfer::archive::{self, Candidate};
use crate::image::transfer::layer::Origin;
use crate::image::transfer::pull::bring_all;
use crate::image::transfer::session::Session;
use crate::image::transfer::{Place, unpacker};
use crate::output::progress::Progress;

/// Where an archive comes from.
#[derive(Debug)]
pub enum Input {
    /// A file, or a pipe. Opened by the caller, with the caller's own permissions.
    Archive(File),
    Directory(std::path::PathBuf),
}

impl Input {
    /// Opens what `path` names.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::new(format!("cannot open `{}`", path.display())).because(error);
        if path.metadata().map_err(failed)?.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        File::open(path).map(Self::Archive).map_err(failed)
    }
}

/// An image that was loaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Loaded {
    pub id: Digest,
    /// Whole names.
    pub names: Vec<String>,
}

/// Loads every image of an archive, in the unpacker's process.
///
/// # Errors
/// It is no archive of images, or is not what its digests say, or there is no room. Images before the one that
/// failed stay.
pub fn load(
    place: &Place,
    input: Input,
    wanted: &Wanted,
    quiet: bool,
    each: impl FnMut(Loaded) -> Result<()>,
) -> Result<()> {
    let mut input = Some(input);
    unpacker::run(
        &place.identity,
        |results| {
            let session = Session::begin(&place.store, place.key(), Progress::new(quiet))?;
            let members = match input.take() {
                Some(Input::Archive(file)) => Members::of_archive(file, &session)?,
                Some(Input::Directory(path)) => Members::of_directory(&path)?,
                None => return Ok(()),
            };
            for image in archive::images(&members, wanted, &session)? {
                results.hand_over(&load_one(&session, &image)?)?;
            }
            Ok(())
        },
        each,
    )
}

fn load_one(session: &Session, image: &Candidate) -> Result<Loaded> {
    let id = image.manifest.config.digest.clone();
    let shown = image.names.first().map_or_else(|| id.to_string(), Reference::familiar);
    let failed = |error: Error| error.while_doing(format!("cannot load the image `{shown}`"));
    let open = |blob: &Descriptor, offset: u64| -> Result<Box<dyn Read + Send>> {
        let at = image.manifest.layers.iter().position(|layer| layer.digest == blob.digest);
        let content = at.and_then(|at| image.layers.get(at));
        content.ok_or_else(|| Error::new("cannot find a layer of the archive"))?.open(offset, session)
    };
    let origin = Origin { action: "Loading", open: &open };
    let size = bring_all(session, &image.manifest, &image.config, &origin).map_err(failed)?;
    session.store.put_bytes(&image.config_bytes, &session.lease)?;
    session.store.put_bytes(&image.bytes, &session.lease)?;
    let new = NewImage {
        manifest: image.descriptor.clone(),
        id: id.clone(),
        created: image.config.created.clone(),
        size,
        repo_digests: Vec::new(),
        index: None,
    };
    let mut change = session.store.change()?;
    if image.names.is_empty() {
        change.put(None, &new);
    }
    for name in &image.names {
        change.put(Some(name), &new);
    }
    change.commit()?;
    Ok(Loaded { id, names: image.names.iter().map(Reference::to_string).collect() })
}
