//! `sbx volume ls`

use serde_json::Value;

use super::Stores;
use crate::cli::Global;
use crate::error::Result;
use crate::output::print;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::volume::document;
use crate::volume::filter::Filters;
use crate::volume::usage::Usage;

const TITLES: Titles<'_> = &[
    ("Name", "VOLUME NAME"),
    ("CreatedAt", "CREATED AT"),
    ("MountCount", "MOUNT COUNT"),
    ("NeedsCopyUp", "NEEDS COPY UP"),
];

/// List volumes
///
/// By name. Fields for templates: Name, Driver, Mountpoint, CreatedAt, Labels, Scope, Options, Anonymous, MountCount,
/// NeedsCopyUp.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters (`--filter KEY=VALUE`, again for more): dangling, anonymous, name, label, label!, driver, opt, scope,
since, until.

Examples:
  sbx volume ls
  sbx volume ls -q --filter dangling=true
  sbx volume ls --noheading --filter label=app=web --format '{{.Name}}'"
)]
pub struct ListArgs {
    /// List only volumes that fit
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print `json`, or what a Go template makes of each volume
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Leave out the heading
    #[arg(short, long, visible_alias = "no-heading")]
    noheading: bool,
    /// Print names alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
}

pub fn execute(args: &ListArgs, global: &Global) -> Result<u8> {
    let filters = Filters::parse(&args.filter)?;
    let text = args.format.as_deref().filter(|text| !text.is_empty());
    let format = text.map(Format::parse).transpose()?;
    let stores = Stores::of(global)?;
    // All of the containers are read only where they are asked for.
    let counted = text.is_some_and(|text| text.contains("json") || text.contains("MountCount"));
    let usage = if counted || filters.asks_for_users() {
        Usage::glance(&stores.containers)
    } else {
        Usage::default()
    };
    let mut volumes = stores.volumes.all()?;
    volumes.retain(|record| filters.fit(record, usage.of(&record.name).len()));
    let rows: Vec<Value> = volumes
        .iter()
        .map(|record| document::of(&stores.volumes, record, usage.of(&record.name).len()))
        .collect();
    print::text(&match format {
        Some(format) if args.noheading => without_heading(&format.list(&rows, TITLES)?, text),
        Some(format) => format.list(&rows, TITLES)?,
        None if args.quiet => rows.iter().map(|row| cell(row, "Name") + "\n").collect(),
        None => table(&rows, args.noheading),
    })?;
    Ok(0)
}

/// `table` and a template has a heading.
fn without_heading(printed: &str, format: Option<&str>) -> String {
    let table = format.is_some_and(|text| text.trim_start().starts_with("table "));
    let rest = printed.split_once('\n').map(|(_, rest)| rest).filter(|_| table);
    rest.unwrap_or(printed).to_owned()
}

fn table(rows: &[Value], noheading: bool) -> String {
    let mut table = if noheading { Table::without_header() } else { Table::new(["driver", "volume name"]) };
    for row in rows {
        table.push([cell(row, "Driver"), cell(row, "Name")]);
    }
    table.render()
}

fn cell(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}
