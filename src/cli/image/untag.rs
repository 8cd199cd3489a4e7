//! `sbx untag`

use super::{Stores, missing};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};
use crate::image::reference::Reference;

/// Take names away from an image
///
/// The image stays, also without a name. Without names, all of the image's are taken away.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx untag debian:12
  sbx untag 3f2a1b tool:1.2")]
pub struct UntagArgs {
    /// A name or ID
    image: String,
    /// The names to take away
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub fn execute(args: &UntagArgs, global: &Global) -> Result<u8> {
    let names = args
        .names
        .iter()
        .map(|name| Reference::parse(name).map(Reference::or_latest))
        .collect::<Result<Vec<_>>>()?;
    let stores = Stores::of(global)?;
    let mut change = stores.images.change()?;
    let entries = change.entries_of(&args.image)?;
    if entries.is_empty() {
        return Err(missing(&args.image));
    }
    let id = entries.first().map(|entry| entry.id.to_string());
    let own: Vec<Reference> = entries.into_iter().filter_map(|entry| entry.reference).collect();
    if let Some((text, _)) = args.names.iter().zip(&names).find(|(_, name)| !own.contains(name)) {
        return Err(Error::new(format!("cannot take the name `{text}` away from `{}`", args.image))
            .because("the image has no such name"));
    }
    let taken = if names.is_empty() { &own } else { &names };
    for name in taken {
        change.untag(name);
    }
    change.commit()?;
    for name in taken {
        let event = Event::image(Action::Untag, id.as_deref().unwrap_or_default(), name.to_string());
        events::record_here(stores.images.root(), event);
    }
    Ok(0)
}
