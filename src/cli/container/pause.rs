//! `sbx pause` and `sbx unpause`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Selection, each};
use crate::container::life;
use crate::container::list::Status;
use crate::error::Result;

/// Freeze all processes of containers
///
/// It takes a control group of the container's own, which it has where it was started in one that is delegated to you. A
/// command that ends the container lets it go on first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pause web
  sbx pause --all
  systemd-run --user --scope -p Delegate=yes sbx start web && sbx pause web")]
pub struct PauseArgs {
    #[command(flatten)]
    selection: Selection,
}

/// Let containers go on that were paused
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx unpause web
  sbx unpause --all")]
pub struct UnpauseArgs {
    #[command(flatten)]
    selection: Selection,
}

pub fn pause(args: &PauseArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let runs = |status| matches!(status, Status::Running { .. });
    let chosen = args.selection.resolve(&place, |found| runs(found.status))?;
    each(&chosen, &place, "pause", |id, _| life::pause(&place.store, &place.runtime, id))
}

pub fn unpause(args: &UnpauseArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let paused = |status| matches!(status, Status::Paused { .. });
    let chosen = args.selection.resolve(&place, |found| paused(found.status))?;
    each(&chosen, &place, "unpause", |id, _| life::unpause(&place.store, &place.runtime, id))
}
