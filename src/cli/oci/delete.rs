//! `sbx oci delete`

use crate::error::Result;
use crate::oci::delete;
use crate::oci::state::Root;

/// Remove what is left of a container
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci delete web
  sbx oci delete --force web")]
pub struct DeleteArgs {
    /// Kill it first where it runs; one that is not there is no failure
    #[arg(short, long)]
    force: bool,
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
}

pub fn execute(args: &DeleteArgs, root: &Root) -> Result<u8> {
    delete::delete(root, &args.id, args.force)?;
    Ok(0)
}
