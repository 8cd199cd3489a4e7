//! `sbx image exists`

use super::Stores;
use crate::cli::Global;
use crate::cli::failures::MISSING;
use crate::error::Result;

/// Tell by the exit code whether an image is there
///
/// 0: it is, 1: it is not, 125: that cannot be told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx image exists debian:12 || sbx pull debian:12")]
pub struct ExistsArgs {
    /// A name or ID
    image: String,
}

pub fn execute(args: &ExistsArgs, global: &Global) -> Result<u8> {
    Ok(if Stores::of(global)?.images.has(&args.image)? { 0 } else { MISSING })
}
