//! `sbx container exists`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::error::Result;

/// Tell by the exit code whether a container exists
///
/// 0: it does, 1: it does not, 125: that cannot be told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx container exists web && sbx start web")]
pub struct ExistsArgs {
    /// Name, ID or the beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// podman's, for containers of other programs in its storage: sbx has none
    #[arg(long, hide = true)]
    external: bool,
}

pub fn execute(args: &ExistsArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    Ok(u8::from(place.store.find(&args.container).is_err()))
}
