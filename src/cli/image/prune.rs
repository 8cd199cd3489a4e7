//! `sbx image prune`

use super::Stores;
use crate::cli::{Global, confirm};
use crate::container::size;
use crate::error::Result;
use crate::image::filter::Filters;
use crate::image::removal::{self, Done};
use crate::output::print;

/// Remove images that nobody uses
///
/// Those without a name, or with `--all` every image that no container was made from; then all that no image,
/// container or pull under way needs: blobs, layers, broken downloads.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME (`24h`, `2024-05-06`), dangling=false (as --all).

Examples:
  sbx image prune
  sbx image prune -af --filter until=240h"
)]
pub struct PruneArgs {
    /// Remove images with names, too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove only images that fit
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

pub fn execute(args: &PruneArgs, global: &Global) -> Result<u8> {
    let filters = Filters::parse_for_prune(&args.filter)?;
    let all = args.all || filters.dangling() == Some(false);
    let what = if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    if !args.force && !confirm::ask(&format!("WARNING! This will remove {what}."))? {
        return Ok(0);
    }
    let stores = Stores::of(global)?;
    let (done, collected) =
        removal::prune(&stores.images, &stores.containers, &filters.without_dangling(), all)?;
    print::text(&format!(
        "{}Total reclaimed space: {}\n",
        deleted(&done),
        size::decimal(collected.reclaimed)
    ))?;
    Ok(0)
}

/// docker's list, and an empty line.
pub(crate) fn deleted(done: &[Done]) -> String {
    if done.is_empty() {
        return String::new();
    }
    let line = |done: &Done| match done {
        Done::Untagged { name, .. } => format!("untagged: {name}\n"),
        Done::Deleted(digest) => format!("deleted: {digest}\n"),
    };
    format!("Deleted Images:\n{}\n", done.iter().map(line).collect::<String>())
}
