//! `sbx pod exists`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::failures::MISSING;
use crate::error::Result;

/// Tell by the exit code whether a pod is there
///
/// 0: it is, 1: it is not, 125: that cannot be told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod exists site || sbx pod create --infra=false --share= site")]
pub struct ExistsArgs {
    /// A name or ID
    pod: String,
}

pub fn execute(args: &ExistsArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    Ok(if super::pods(&place).find(&args.pod)?.is_some() { 0 } else { MISSING })
}
