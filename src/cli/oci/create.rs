//! `sbx oci create`

use super::BundleArgs;
use crate::error::Result;
use crate::oci::create;
use crate::oci::group::Groups;
use crate::oci::state::Root;

/// Create a container, whose command waits for `start`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci create --bundle ./bundle web
  sbx oci create --bundle ./bundle --pid-file web.pid --console-socket terminal.sock web")]
pub struct CreateArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// The container's ID, which no other one has
    #[arg(value_name = "ID")]
    id: String,
}

pub fn execute(args: &CreateArgs, groups: Groups, root: &Root) -> Result<u8> {
    let described = args.bundle.described(&args.id)?;
    create::make(root, described, &args.bundle.request(true, groups)?)?;
    Ok(0)
}
