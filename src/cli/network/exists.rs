//! `sbx network exists`

use super::Network;
use crate::error::Result;

/// Tell by the exit code whether there is a network: 0 yes, 1 no
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network exists private")]
pub struct ExistsArgs {
    /// A name
    #[arg(value_name = "NETWORK")]
    network: String,
}

pub fn execute(args: &ExistsArgs) -> Result<u8> {
    Ok(u8::from(Network::find(&args.network).is_none()))
}
