//! `sbx oci pause` and `sbx oci resume`

use crate::error::Result;
use crate::oci::freeze;
use crate::oci::state::Root;

/// Freeze all processes of a container
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci pause web")]
pub struct PauseArgs {
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
}

/// Let the processes of a container go on that was paused
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci resume web")]
pub struct ResumeArgs {
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
}

pub fn pause(args: &PauseArgs, root: &Root) -> Result<u8> {
    freeze::pause(&root.find(&args.id)?)?;
    Ok(0)
}

pub fn resume(args: &ResumeArgs, root: &Root) -> Result<u8> {
    freeze::resume(&root.find(&args.id)?)?;
    Ok(0)
}
