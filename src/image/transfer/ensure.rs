//! An image for `run`: from the store, or pulled by policy.

use crate::error::{Error, Result};
use crate::image::platform::Wanted;
use crate::image::store::{Image, ImageStore};
use crate::image::transfer::pull::{self, Pulled};
use crate::image::transfer::session::Session;
use crate::image::transfer::{Place, unpacker};
use crate::layers::store::LayerStore;
use crate::output::progress::Progress;
use crate::registry;

/// `--pull`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Policy {
    /// Ask the registry each time.
    Always,
    /// Only what is not in the store.
    #[default]
    Missing,
    /// Take what is in the store.
    Never,
    /// As always, but be content with what is in the store where no registry answers.
    Newer,
}

/// What a pull is told.
#[derive(Debug, Clone)]
pub struct Options {
    pub platform: Wanted,
    pub registry: registry::Options,
    /// No progress.
    pub quiet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { platform: Wanted::host(), registry: registry::Options::default(), quiet: false }
    }
}

/// The image that `text` means, all of its layers unpacked. What is missing is pulled as the policy says, or
/// unpacked from blobs that are there. The caller holds no lock of the image store meanwhile, and looks again
/// under the shared lock afterwards: an image without containers may be removed at any time.
///
/// # Errors
/// There is no such image, it cannot be pulled, or unpacked.
pub fn ensure(place: &Place, text: &str, policy: Policy, options: &Options) -> Result<Image> {
    let store = ImageStore::new(&place.store);
    let known = store.find(text)?;
    // Two images for two platforms may have one name, after each other.
    let known = known.filter(|image| !options.platform.named || options.platform.accepts(&image.config));
    let mut not_unpacked = None;
    match (known.as_ref(), policy) {
        (Some(image), Policy::Never) => {
            unpack(place, image, options.quiet)?;
            return Ok(image.clone());
        }
        (Some(image), Policy::Missing) => match unpack(place, image, options.quiet) {
            Ok(()) => return Ok(image.clone()),
            Err(error) => {
                log::warn!("the image is pulled again: {error}");
                not_unpacked = Some(error);
            }
        },
        (None, Policy::Never) if store.has(text)? => {
            return Err(Error::new(format!("cannot find the image `{text}` for {}", options.platform))
                .because("the one in the store is for another platform, and `--pull never` keeps it from being pulled")
                .hint(format!("pull it: `sbx pull --platform {} {text}`", options.platform)));
        }
        (None, Policy::Never) => {
            return Err(Error::new(format!("cannot find the image `{text}`"))
                .because("it is not in the store, and `--pull never` keeps it from being pulled")
                .hint(format!("pull it: `sbx pull {text}`, or run with `--pull missing`")));
        }
        (None, Policy::Missing) if !options.quiet => {
            Progress::new(false).line(&format!("Unable to find image '{text}' locally"));
        }
        _ => {}
    }
    match (pull_one(place, text, options), known) {
        (Ok(pulled), _) => store.find(&pulled.name)?.ok_or_else(|| {
            Error::new(format!("cannot find the image `{text}`"))
                .because("it was removed right after it was pulled")
        }),
        (Err(error), Some(image)) if policy == Policy::Newer && error.code() == crate::error::EXIT_SBX => {
            log::warn!("the image in the store is taken: {error}");
            unpack(place, &image, options.quiet)?;
            Ok(image)
        }
        // That is why it was pulled.
        (Err(error), _) => Err(match not_unpacked {
            Some(reason) => reason.hint(format!("pulling it again failed, too: {error}")),
            None => error,
        }),
    }
}

/// Pulls the image that a name stands for.
///
/// # Errors
/// As [`pull::pull`].
fn pull_one(place: &Place, text: &str, options: &Options) -> Result<Pulled> {
    let mut pulled = None;
    pull::all(place, &[text.to_owned()], false, options, |found| {
        pulled = Some(found);
        Ok(())
    })?;
    pulled.ok_or_else(|| Error::new(format!("cannot pull `{text}`")))
}

/// Unpacks what of an image is there as blobs alone.
///
/// # Errors
/// A blob is missing or damaged, or there is no room.
fn unpack(place: &Place, image: &Image, quiet: bool) -> Result<()> {
    let layers = LayerStore::new(&place.store, place.key());
    if image.config.rootfs.diff_ids.iter().all(|diff_id| layers.has(diff_id)) {
        return Ok(());
    }
    unpacker::run(
        &place.identity,
        |_| {
            let session = Session::begin(&place.store, place.key(), Progress::new(quiet))?;
            pull::unpack(&session, image).map(|_| ())
        },
        |()| Ok(()),
    )
}
