//! From what `run` was given as an image to layers that can be mounted: found in the store, or pulled or unpacked
//! where something is missing.

use std::path::Path;

use crate::error::{Error, Result};
use crate::identity;
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::store::{Image, ImageStore, SharedLock};
use crate::image::transfer::Place;
use crate::image::transfer::ensure::{Options, Policy, ensure};
use crate::image::{Config, Resolved, Source, Unpacked};
use crate::layers::store::LayerStore;
use crate::registry;

/// How often an image is brought again that somebody removes at the same time.
const ATTEMPTS: usize = 3;

/// What decides which image a word means.
pub struct Request<'a> {
    /// As typed.
    pub name: &'a str,
    pub pull: Policy,
    pub platform: Wanted,
    /// How the registry is reached where the image is pulled.
    pub registry: registry::Options,
    /// `--id-tier`
    pub tier: Option<identity::Tier>,
    /// No progress.
    pub quiet: bool,
}

/// Finds the image, or gets it. Where it is there with all of its layers, no process is started.
///
/// # Errors
/// There is no such image, or it cannot be pulled or unpacked.
pub fn resolve(store: &Path, request: &Request<'_>) -> Result<Resolved> {
    let place = Place::of(store, request.tier)?;
    let images = ImageStore::new(store);
    let layers = LayerStore::new(store, place.key());
    let platform = &request.platform;
    let unpacked = |image: &Image| image.config.rootfs.diff_ids.iter().all(|layer| layers.has(layer));
    let resolved = |image: Image, lock: SharedLock| -> Result<Resolved> {
        if !platform.named && !platform.accepts(&image.config) {
            log::warn!(
                "the image is for {}/{}, and this machine is {platform}: its programs may not start here",
                image.config.os,
                image.config.architecture
            );
        }
        let stacked = layers.stack(&image.config.rootfs.diff_ids)?;
        let config = Config::from(&image.config.config);
        let name = shown(request.name, &image);
        let source = Source::Image(Unpacked { name, id: image.id, key: place.key().clone(), stacked });
        Ok(Resolved { source, config, lock: Some(lock) })
    };
    let mut quiet = request.quiet;
    if matches!(request.pull, Policy::Missing | Policy::Never) {
        let lock = images.share()?;
        let fits = |image: &Image| !platform.named || platform.accepts(&image.config);
        if let Some(image) = images.find(request.name)?.filter(fits) {
            if unpacked(&image) {
                return resolved(image, lock);
            }
            // Nobody need read that what was brought before is now unpacked.
            quiet = quiet || !rustix::termios::isatty(rustix::stdio::stderr());
        }
    }
    let options = Options { platform: platform.clone(), registry: request.registry.clone(), quiet };
    for _ in 0..ATTEMPTS {
        let brought = ensure(&place, request.name, request.pull, &options)?;
        let lock = images.share()?;
        if let Ok(image) = images.image(&brought.manifest)
            && unpacked(&image)
        {
            return resolved(image, lock);
        }
    }
    Err(Error::new(format!("cannot run the image `{}`", request.name))
        .because("it is removed as often as it is brought")
        .hint("look for an `sbx rmi` or `sbx image prune` that runs beside this command"))
}

/// As `sbx ps` shows it: the name as people write it, or what was typed of the ID.
fn shown(typed: &str, image: &Image) -> String {
    let by_id = image.id.hex().starts_with(typed.strip_prefix("sha256:").unwrap_or(typed));
    match Reference::parse(typed) {
        Ok(reference) if !by_id => reference.familiar(),
        _ => typed.to_owned(),
    }
}
