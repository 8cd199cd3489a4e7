//! `sbx network exists`

use super::{Shown, networks};
use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::failures::MISSING;
use crate::error::Result;

/// Tell by the exit code whether there is a network
///
/// 0: there is, 1: there is none, 125: that cannot be told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network exists shop || sbx network create shop")]
pub struct ExistsArgs {
    /// A name or ID
    #[arg(value_name = "NETWORK")]
    network: String,
}

pub fn execute(args: &ExistsArgs, global: &Global) -> Result<u8> {
    // Nothing is made by looking for it.
    let there =
        Shown::is_always_there(&args.network) || networks(&Place::of(global)?).find(&args.network)?.is_some();
    Ok(if there { 0 } else { MISSING })
}
