//! `sbx builder du`

use std::path::Path;
use std::time::SystemTime;

use crate::build::cache::Cache;
use crate::cli::Global;
use crate::container::{duration, size};
use crate::error::Result;
use crate::host::paths;
use crate::output::print;
use crate::output::table::Table;

/// Show what builds have left for the next ones
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx builder du\n  sbx buildx du --verbose --filter until=24h")]
pub struct UsageArgs {
    /// Show whole IDs, and the layers that the steps have made
    #[arg(long)]
    verbose: bool,
    /// Show what was made longer ago alone: `until=24h`
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
}

pub fn execute(args: &UsageArgs, global: &Global) -> Result<u8> {
    let before = args.filter.as_deref().map(super::until).transpose()?;
    let root = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
    show(&root, before, args.verbose)?;
    Ok(0)
}

/// The steps that are kept, or those that were before a time.
///
/// # Errors
/// The store cannot be read.
pub(super) fn show(root: &Path, before: Option<SystemTime>, verbose: bool) -> Result<()> {
    let columns = ["id", "reclaimable", "size", "made", "layer"];
    let mut table = Table::new(columns.into_iter().take(if verbose { 5 } else { 4 }));
    let mut layers = std::collections::BTreeMap::new();
    let kept = Cache::new(root).all()?.into_iter();
    for kept in kept.filter(|kept| before.is_none_or(|before| kept.since < before)) {
        let size = kept.record.layer.as_ref().map_or(0, |made| made.size);
        if let Some(made) = &kept.record.layer {
            layers.insert(made.diff_id.clone(), made.size);
        }
        let age = SystemTime::now().duration_since(kept.since).unwrap_or_default();
        let short = kept.key.get(..12).filter(|_| !verbose);
        let layer = kept.record.layer.as_ref().map_or("", |made| made.diff_id.as_str());
        let (size, age) = (size::decimal(size), format!("{} ago", duration::human(age)));
        let cells = [short.unwrap_or(&kept.key), "true", &size, &age, layer];
        table.push(cells.into_iter().take(if verbose { 5 } else { 4 }));
    }
    print::text(&table.render())?;
    print::line(&format!("Total: {}", size::decimal(layers.values().sum()))).map(drop)
}
