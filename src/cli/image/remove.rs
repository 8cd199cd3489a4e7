//! `sbx rmi`, `sbx image rm`

use super::{Stores, missing};
use crate::cli::Global;
use crate::cli::failures::{Failures, MISSING};
use crate::error::Result;
use crate::image::removal::{self, Allow, Done};
use crate::image::store::Extent;
use crate::image::usage::Usage;
use crate::output::print;

/// Remove images
///
/// A name of an image that has others is taken away alone; the last one takes the image along, and what no other
/// image needs of it. The exit code is 1 where an image does not exist, 2 where a container needs one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx rmi debian:12
  sbx rmi -f 3f2a1b
  sbx rmi --all")]
pub struct RemoveArgs {
    /// Remove all images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// Remove an image with all its names, also one that ended containers were made from, which keep its layers;
    /// pass over images that do not exist
    #[arg(short, long)]
    force: bool,
    /// Pass over images that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// Leave the files of the image to the next `prune`
    #[arg(long)]
    no_prune: bool,
    /// Names, IDs, or beginnings of IDs
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    images: Vec<String>,
}

pub fn execute(args: RemoveArgs, global: &Global) -> Result<u8> {
    let RemoveArgs { all, force, ignore, no_prune, images: words } = args;
    let stores = Stores::of(global)?;
    let words = if all { removal::all(&stores.images)? } else { words };
    let allow = Allow { several_names: force || all, ended_containers: force };
    let mut failures = Failures::default();
    let mut done = Vec::new();
    if stores.images.index_path().exists() {
        // While it is locked nobody makes a container from an image that goes.
        let mut change = stores.images.change()?;
        let usage = Usage::read(&stores.containers);
        for word in &words {
            match removal::remove(&mut change, word, &usage, allow) {
                Ok(Some(what)) => done.extend(what),
                // All that there are may be fewer by now.
                Ok(None) if ignore || force || all => {}
                Ok(None) => failures.add(missing(word).exit_code(MISSING)),
                Err(error) => failures.add(error),
            }
        }
        change.commit()?;
        removal::record(&stores.images, &done);
    } else if !(ignore || force) {
        words.iter().for_each(|word| failures.add(missing(word).exit_code(MISSING)));
    }
    tell(&done)?;
    if !no_prune && done.iter().any(|line| matches!(line, Done::Deleted(_))) {
        let collected = stores.images.collect(Extent::Unnamed)?;
        tell(&collected.layers.into_iter().map(Done::Deleted).collect::<Vec<_>>())?;
    }
    failures.finish()
}

fn tell(done: &[Done]) -> Result<()> {
    let line = |done: &Done| match done {
        Done::Untagged { name, .. } => format!("Untagged: {name}\n"),
        Done::Deleted(digest) => format!("Deleted: {digest}\n"),
    };
    print::text(&done.iter().map(line).collect::<String>()).map(drop)
}
