//! `sbx volume exists`

use super::Stores;
use crate::cli::Global;
use crate::cli::failures::MISSING;
use crate::error::Result;

/// Tell by the exit code whether a volume is there
///
/// 0: it is, 1: it is not, 125: that cannot be told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx volume exists data || sbx volume create data")]
pub struct ExistsArgs {
    /// The volume
    #[arg(value_name = "NAME")]
    name: String,
}

pub fn execute(args: &ExistsArgs, global: &Global) -> Result<u8> {
    Ok(if Stores::of(global)?.volumes.exists(&args.name) { 0 } else { MISSING })
}
