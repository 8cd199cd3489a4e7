//! `sbx container cleanup`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Selection, each};
use crate::cli::rm;
use crate::container::sweep::{self, Volumes};
use crate::error::{Error, Result};

/// Put in order what is left of containers whose monitor was killed
///
/// Every command does so before it needs it; this one does nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx container cleanup --all
  sbx container cleanup --rm web")]
pub struct CleanupArgs {
    #[command(flatten)]
    selection: Selection,
    /// Remove the containers, too
    #[arg(long)]
    rm: bool,
}

pub fn execute(args: &CleanupArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    sweep::sweep(&place.store, &place.runtime);
    let chosen = args.selection.resolve(&place, |found| !found.status.is_up())?;
    each(&chosen, &place, "clean up after", |id, one| {
        if args.rm {
            return rm::remove_down(&place.store, &place.runtime, id, Volumes::Stay);
        }
        if place.store.is_looked_after(id) {
            return Err(Error::new("it is running").hint(format!("stop it first: `sbx stop {}`", one.word)));
        }
        Ok(())
    })
}
