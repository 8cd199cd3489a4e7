//! `sbx restart`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Selection, all, each};
use crate::cli::container::stop::seconds;
use crate::client;
use crate::container::life;
use crate::error::Result;

/// Stop containers and start them again
///
/// One that is down is started. Each is printed as it was typed once its command runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx restart web
  sbx restart -t 0 --all
  sbx restart --running")]
pub struct RestartArgs {
    #[command(flatten)]
    selection: Selection,
    /// All that run
    #[arg(long, conflicts_with_all = ["all", "latest", "containers"])]
    running: bool,
    /// Seconds until SIGKILL, -1: never; default: as the container was made
    #[arg(
        short,
        long = "time",
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<String>,
}

pub fn execute(args: &RestartArgs, global: &Global) -> Result<u8> {
    let timeout = args.time.as_deref().map(|text| seconds("--time", text)).transpose()?;
    let place = Place::of(global)?;
    let chosen = if args.running {
        all(&place, &[], |found| found.status.is_up())?
    } else {
        args.selection.resolve(&place, |found| found.spec.is_some())?
    };
    each(&chosen, &place, "restart", |id, _| {
        life::restart(&place.store, &place.runtime, id, timeout, client::caller_size())
    })
}
