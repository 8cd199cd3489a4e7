//! `sbx rename`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::container::{connection, name};
use crate::error::Result;
use crate::events::{self, Action, Event};

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
    let old = place.store.read_spec(&id)?.name;
    place.store.rename(&id, &args.name)?;
    let event = Event::container(Action::Rename, &place.store.read_spec(&id)?).with("oldName", old);
    events::record(place.store.root(), &place.runtime, event);
    if let Err(error) = connection::renamed(&place.store, &place.runtime, &id) {
        log::warn!("the networks of the container know its old name: {error}");
    }
    Ok(0)
}
