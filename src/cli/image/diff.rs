//! `sbx image diff`

use super::{Stores, missing};
use crate::cli::{Global, changes};
use crate::error::{Error, Result};
use crate::image::difference;
use crate::image::store::Image;

/// Show what the topmost layer of an image changes
///
/// Or, with a second image, what the first has that the second has not. `A` was added, `C` changed, `D` deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx image diff tool:1.2
  sbx image diff tool:1.2 debian:12
  sbx image diff --format json tool:1.2")]
pub struct DiffArgs {
    /// Print `json`
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// A name or ID
    image: String,
    /// The image to compare with
    #[arg(value_name = "BASE")]
    base: Option<String>,
}

pub fn execute(args: &DiffArgs, global: &Global) -> Result<u8> {
    let stores = Stores::of(global)?;
    let lease = stores.images.lease()?;
    let find = |word: &str| -> Result<Image> {
        let image = stores.images.find(word)?.ok_or_else(|| missing(word))?;
        // Another command may remove it while its layers are read.
        image.document.layers.iter().try_for_each(|layer| lease.add(&layer.digest))?;
        Ok(image)
    };
    let image = find(&args.image)?;
    let base = args.base.as_deref().map(find).transpose()?;
    if image.document.layers.is_empty() {
        return Err(
            Error::new(format!("cannot tell what `{}` changes", args.image)).because("it has no layers")
        );
    }
    let changes = difference::between(&stores.images, &image, base.as_ref())?;
    changes::print(&changes, args.format.is_some())?;
    Ok(0)
}
