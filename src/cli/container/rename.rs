//! `sbx rename`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::container::name;
use crate::error::Result;

/// Give a container another name
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx rename focused_turing web")]
pub struct RenameArgs {
    /// Name, ID or the beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The new name
    #[arg(value_name = "NAME")]
    name: String,
}

pub fn execute(args: &RenameArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    name::check(&args.name)?;
    let id = place.store.find(&args.container)?;
    place.store.rename(&id, &args.name)?;
    Ok(0)
}
