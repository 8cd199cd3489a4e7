//! `sbx secret exists`

use crate::cli::Global;
use crate::cli::failures::MISSING;
use crate::error::Result;

/// Tell by the exit code whether a secret is there
///
/// 0: it is, 1: it is not, 125: that cannot be told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx secret exists key || sbx secret create key ./key.pem")]
pub struct ExistsArgs {
    /// A name or ID
    secret: String,
}

pub fn execute(args: &ExistsArgs, global: &Global) -> Result<u8> {
    Ok(if super::secrets(global)?.0.find(&args.secret)?.is_some() { 0 } else { MISSING })
}
