//! One image of an OCI layout that is somebody else's, brought into the store without a name: a base of a build.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::build::builder::BaseImage;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, ImageConfig};
use crate::image::platform::Wanted;
use crate::image::store::Lease;
use crate::image::transfer::archive::members::Members;
use crate::image::transfer::archive::oci;
use crate::image::transfer::layer::Origin;
use crate::image::transfer::made::Made;
use crate::image::transfer::pull::bring_all;
use crate::image::transfer::session::Session;
use crate::image::transfer::{Place, unpacker};
use crate::output::progress::Progress;

/// `DIRECTORY[:TAG][@DIGEST]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub directory: PathBuf,
    pub tag: Option<String>,
    /// Of a manifest or an index.
    pub digest: Option<Digest>,
}

impl Layout {
    /// # Errors
    /// There is no such layout, or the digest is none.
    pub fn read(text: &str) -> Result<Self> {
        let (path, digest) = match text.rsplit_once('@') {
            Some((path, digest)) if digest.starts_with("sha256:") => (path, Some(digest.parse()?)),
            _ => (text, None),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') && !Path::new(path).exists() => (before, Some(tag)),
            _ => (path, None),
        };
        let directory = Path::new(path).canonicalize().step(|| format!("cannot open `{path}`"))?;
        if !directory.join("oci-layout").is_file() {
            return Err(Error::new(format!("cannot use `{path}` as an OCI layout"))
                .because("it has no file `oci-layout`"));
        }
        Ok(Self { directory, tag: tag.map(str::to_owned), digest })
    }
}

/// What the process that brings it hands over.
#[derive(Serialize, Deserialize)]
struct Brought {
    id: Digest,
    config: ImageConfig,
    layers: Vec<Made>,
}

/// Brings the image, protected by `lease` alone.
///
/// # Errors
/// The layout has no such image, or it is not what its digests say, or there is no room.
pub fn bring(
    place: &Place,
    layout: &Layout,
    wanted: &Wanted,
    quiet: bool,
    lease: &Lease,
) -> Result<BaseImage> {
    let failed = || format!("cannot use the OCI layout `{}`", layout.directory.display());
    let mut brought = None;
    unpacker::run(
        &place.identity,
        |results| {
            let session = Session::begin(&place.store, place.key(), Progress::new(quiet))?;
            let one = one(&session, layout, wanted)?;
            for made in &one.layers {
                // The session's own lease ends with this process.
                lease.add(&made.blob.digest)?;
                lease.add(&made.diff_id)?;
            }
            results.hand_over(&one)
        },
        |one: Brought| {
            brought = Some(one);
            Ok(())
        },
    )
    .map_err(|error| error.while_doing(failed()))?;
    let Brought { id, config, layers } = brought.ok_or_else(|| Error::new(failed()))?;
    Ok(BaseImage { id, config, layers })
}

fn one(session: &Session, layout: &Layout, wanted: &Wanted) -> Result<Brought> {
    let members = Members::of_directory(&layout.directory)?;
    let chosen = (layout.tag.as_deref(), layout.digest.as_ref());
    let image = oci::one(&members, chosen, wanted, session)?;
    let open = |blob: &Descriptor, offset: u64| -> Result<Box<dyn Read + Send>> {
        let at = image.manifest.layers.iter().position(|layer| layer.digest == blob.digest);
        let content = at.and_then(|at| image.layers.get(at));
        content.ok_or_else(|| Error::new("cannot find a layer of the layout"))?.open(offset, session)
    };
    bring_all(session, &image.manifest, &image.config, &Origin { action: "Loading", open: &open })?;
    let mut layers = Vec::new();
    for (blob, diff_id) in image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
        let size = session.layers.facts(diff_id)?.size;
        layers.push(Made { blob: blob.clone(), diff_id: diff_id.clone(), size });
    }
    Ok(Brought { id: image.manifest.config.digest, config: image.config, layers })
}
