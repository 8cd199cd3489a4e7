//! `sbx network rm`

use super::{Network, missing};
use crate::cli::failures::{Failures, MISSING};
use crate::error::{Error, Result};

/// Remove networks
///
/// Those that are always there cannot be removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network rm -f old")]
pub struct RemoveArgs {
    /// Pass over one that does not exist
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

pub fn execute(args: &RemoveArgs) -> Result<u8> {
    let mut failures = Failures::default();
    for word in &args.networks {
        match Network::find(word) {
            Some(network) => failures.add(
                Error::new(format!("cannot remove the network `{}`", network.name))
                    .because("it is always there"),
            ),
            None if args.force => {}
            None => failures.add(missing(word).exit_code(MISSING)),
        }
    }
    failures.finish()
}
