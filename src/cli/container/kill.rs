//! `sbx kill`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Selection, each};
use crate::container::{life, signal};
use crate::error::Result;

/// Send a signal to the first process of containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx kill web
  sbx kill -s HUP web
  sbx kill --all")]
pub struct KillArgs {
    #[command(flatten)]
    selection: Selection,
    /// Name or number of the signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

pub fn execute(args: &KillArgs, global: &Global) -> Result<u8> {
    let signal = signal::parse("--signal", &args.signal)?;
    let place = Place::of(global)?;
    let chosen = args.selection.resolve(&place, |found| found.status.is_up())?;
    each(&chosen, &place, "kill", |id, _| life::kill(&place.store, &place.runtime, id, signal))
}
