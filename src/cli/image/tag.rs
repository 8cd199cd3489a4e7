//! `sbx tag`

use super::{Stores, missing};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};
use crate::image::reference::Reference;

/// Give an image more names
///
/// A name that another image has is taken away from that one, which stays without.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx tag debian:12 localhost:5000/base:latest
  sbx tag 3f2a1b tool tool:1.2")]
pub struct TagArgs {
    /// A name or ID
    image: String,
    /// New names; without a tag, `latest`
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub fn execute(args: &TagArgs, global: &Global) -> Result<u8> {
    let names = args.names.iter().map(|name| new_name(name)).collect::<Result<Vec<_>>>()?;
    let stores = Stores::of(global)?;
    let mut change = stores.images.change()?;
    let image = change.descriptor(&args.image)?.ok_or_else(|| missing(&args.image))?;
    for name in &names {
        change.tag(name, &image);
    }
    let id = change.entries_of(&args.image)?.into_iter().next().map(|entry| entry.id.to_string());
    change.commit()?;
    for name in &names {
        let id = id.clone().unwrap_or_default();
        events::record_here(stores.images.root(), Event::image(Action::Tag, id, name.to_string()));
    }
    Ok(0)
}

fn new_name(text: &str) -> Result<Reference> {
    let name = Reference::parse(text)?.or_latest();
    if name.digest.is_some() {
        return Err(Error::new(format!("cannot give an image the name `{text}`"))
            .because("a digest is not given, it follows from the content"));
    }
    Ok(name)
}
