//! `sbx builder du`

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
#[command(after_help = "Examples:\n  sbx builder du\n  sbx buildx du")]
pub struct UsageArgs {}

pub fn execute(_args: &UsageArgs, global: &Global) -> Result<u8> {
    let root = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
    let mut table = Table::new(["id", "reclaimable", "size", "made"]);
    let mut layers = std::collections::BTreeMap::new();
    for kept in Cache::new(&root).all()? {
        let size = kept.record.layer.as_ref().map_or(0, |made| made.size);
        if let Some(made) = &kept.record.layer {
            layers.insert(made.diff_id.clone(), made.size);
        }
        let age = SystemTime::now().duration_since(kept.since).unwrap_or_default();
        let id = kept.key.get(..12).unwrap_or(&kept.key);
        table.push([id, "true", &size::decimal(size), &format!("{} ago", duration::human(age))]);
    }
    print::text(&table.render())?;
    print::line(&format!("Total: {}", size::decimal(layers.values().sum())))?;
    Ok(0)
}
