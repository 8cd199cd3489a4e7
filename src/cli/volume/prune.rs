//! `sbx volume prune`

use super::Stores;
use crate::cli::failures::Failures;
use crate::cli::{Global, confirm};
use crate::container::size;
use crate::container::store::Store;
use crate::error::Result;
use crate::output::print;
use crate::volume::filter::Filters;
use crate::volume::usage::Usage;
use crate::volume::{VolumeStore, disk, removal};

/// Remove volumes that no container has
///
/// Anonymous ones, or with `--all` those with names, too.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME, since=TIME (`24h`, `2024-05-06`), name=, opt=,
anonymous=false and all=true (as --all).

Examples:
  sbx volume prune
  sbx volume prune -af --filter label=app=web"
)]
pub struct PruneArgs {
    /// Remove volumes with names, too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove only volumes that fit
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

pub fn execute(args: &PruneArgs, global: &Global) -> Result<u8> {
    let filters = Filters::parse_for_prune(&args.filter)?;
    let all = args.all || filters.takes_named();
    let kind = if all { "local" } else { "anonymous local" };
    let warning = format!("WARNING! This will remove all {kind} volumes not used by at least one container.");
    if !args.force && !confirm::ask(&warning)? {
        return Ok(0);
    }
    let stores = Stores::to_change(global)?;
    let mut failures = Failures::default();
    let fits = |volume: &_, users| filters.fit(volume, users);
    let (removed, freed) = remove_unused(&stores.containers, all, fits, &mut failures)?;
    print::text(&format!("{}Total reclaimed space: {}\n", deleted(&removed), size::decimal(freed)))?;
    failures.finish()
}

/// docker's list, and an empty line.
pub(crate) fn deleted(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("Deleted Volumes:\n{}\n\n", names.join("\n")) }
}

/// The names of the volumes that are gone, and the bytes that were in them. `all`: those with names, too.
pub(crate) fn remove_unused(
    store: &Store,
    all: bool,
    fits: impl Fn(&crate::volume::Record, usize) -> bool,
    failures: &mut Failures,
) -> Result<(Vec<String>, u64)> {
    let volumes = VolumeStore::of(store);
    let usage = Usage::read(store)?;
    let mut candidates = volumes.all()?;
    candidates
        .retain(|volume| (all || volume.anonymous) && usage.of(&volume.name).is_empty() && fits(volume, 0));
    let names: Vec<String> = candidates.into_iter().map(|volume| volume.name).collect();
    let sizes = disk::sizes(&volumes, &names);
    let (removed, failed) = removal::prune(store, &names)?;
    failed.into_iter().for_each(|error| failures.add(error));
    let freed = removed.iter().filter_map(|name| sizes.get(name)).sum();
    Ok((removed, freed))
}
