//! `sbx network exists`

use super::Shown;
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
    Ok(if Shown::find(&Place::of(global)?, &args.network)?.is_some() { 0 } else { MISSING })
}
