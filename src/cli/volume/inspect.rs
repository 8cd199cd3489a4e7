//! `sbx volume inspect`

use super::Stores;
use crate::cli::Global;
use crate::cli::inspect::{self, Kind};
use crate::error::Result;

/// Show all that is known of volumes, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx volume inspect data
  sbx volume inspect -f '{{.Mountpoint}}' data")]
pub struct InspectArgs {
    /// Show every volume
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// Print `json`, or what a Go template makes of each volume
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The volumes
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
}

pub fn execute(args: &InspectArgs, global: &Global) -> Result<u8> {
    let all = if args.all { Stores::of(global)?.volumes.names()? } else { Vec::new() };
    let names = if args.all { &all } else { &args.names };
    inspect::show(names, Kind::Volume, args.format.as_deref(), false, global)
}
