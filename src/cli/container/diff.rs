//! `sbx diff`

use super::Place;
use crate::cli::container::selection::{Chosen, Named};
use crate::cli::{Global, changes};
use crate::container::difference;
use crate::error::{Error, Result};

/// Show what a container has changed of its root
///
/// `A` was added, `C` changed, `D` deleted, against the image or directory that it was made from. What is mounted in the
/// container, volumes among others, is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx diff web
  sbx diff --format json web")]
pub struct DiffArgs {
    /// Print `json`
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// The container that was made last
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,
    /// A name or ID
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    container: Option<String>,
}

pub fn execute(args: &DiffArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let containers = args.container.iter().cloned().collect();
    let named = Named { latest: args.latest, cidfile: Vec::new(), containers };
    let [chosen]: [Chosen; 1] =
        named.resolve(&place)?.try_into().map_err(|_| Error::new("one container is compared"))?;
    let id = chosen.id(&place)?;
    let found = difference::changes(&place.store, &id)?;
    changes::print(&found, args.format.is_some())?;
    Ok(0)
}
