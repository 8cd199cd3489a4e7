//! `sbx volume rm`

use super::Stores;
use crate::cli::Global;
use crate::cli::failures::Failures;
use crate::error::Result;
use crate::output::print;
use crate::volume::removal::{self, MISSING};

/// Remove volumes
///
/// Each name is printed once its volume is gone. One that a container has, also a container that ended, is never
/// removed. The exit code is 1 where a volume does not exist, 2 where a container has one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx volume rm data
  sbx volume rm -f data cache")]
pub struct RemoveArgs {
    /// Remove all volumes that no container has
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// Pass over volumes that do not exist
    #[arg(short, long)]
    force: bool,
    /// The volumes
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
}

pub fn execute(args: &RemoveArgs, global: &Global) -> Result<u8> {
    let stores = Stores::to_change(global)?;
    let all = if args.all { stores.volumes.names()? } else { Vec::new() };
    let mut failures = Failures::default();
    for name in if args.all { &all } else { &args.names } {
        match removal::remove(&stores.containers, name, None, None) {
            Ok(()) => {
                print::line(name)?;
            }
            Err(error) if (args.force || args.all) && error.code() == MISSING => {}
            Err(error) => failures.add(error),
        }
    }
    failures.finish()
}
