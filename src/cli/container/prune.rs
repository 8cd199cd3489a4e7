//! `sbx container prune`

use crate::cli::failures::Failures;
use crate::cli::system::prune::prune_containers;
use crate::cli::{Global, confirm};
use crate::container::size;
use crate::container::store::Store;
use crate::error::Result;
use crate::host::paths;
use crate::image::filter::Filters;
use crate::output::print;

/// Remove all containers that are down
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME (`24h`, `2024-05-06`).

Examples:
  sbx container prune
  sbx container prune -f --filter until=24h")]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove only those that fit
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

pub fn execute(args: &PruneArgs, global: &Global) -> Result<u8> {
    let filters = Filters::parse_for_prune(&args.filter)?.without_dangling();
    if !args.force && !confirm::ask("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let store = Store::new(paths::store(global.root.as_deref(), &paths::Surroundings::current())?);
    let mut failures = Failures::default();
    let (containers, freed) = prune_containers(&store, &filters, &mut failures)?;
    let total = size::decimal(freed);
    let deleted = match containers.is_empty() {
        true => String::new(),
        false => format!("Deleted Containers:\n{}\n\n", containers.join("\n")),
    };
    print::text(&format!("{deleted}Total reclaimed space: {total}\n"))?;
    failures.finish()
}
