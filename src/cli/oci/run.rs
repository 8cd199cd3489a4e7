//! `sbx oci run`

use super::BundleArgs;
use crate::error::Result;
use crate::oci::group::Groups;
use crate::oci::run;
use crate::oci::state::Root;

/// Create a container, start it, and wait for its end
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci run --bundle ./bundle web
  sbx oci run --detach --pid-file web.pid --bundle ./bundle web </dev/null")]
pub struct RunArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// Leave it running in the background
    #[arg(short, long)]
    detach: bool,
    /// Leave its state when it has ended
    #[arg(long)]
    keep: bool,
    /// The container's ID, which no other one has
    #[arg(value_name = "ID")]
    id: String,
}

pub fn execute(args: &RunArgs, groups: Groups, root: &Root) -> Result<u8> {
    let described = args.bundle.described(&args.id)?;
    let choice = run::Choice { detach: args.detach, keep: args.keep };
    run::run(root, described, &args.bundle.request(false, groups)?, choice)
}
