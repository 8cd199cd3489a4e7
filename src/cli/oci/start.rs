//! `sbx oci start`

use crate::error::Result;
use crate::oci::start;
use crate::oci::state::Root;

/// Execute the command of a container that was created
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci start web")]
pub struct StartArgs {
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
}

pub fn execute(args: &StartArgs, root: &Root) -> Result<u8> {
    start::start(&root.find(&args.id)?)?;
    Ok(0)
}
