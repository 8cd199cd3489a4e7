//! `sbx network ls`

use serde_json::{Map, Value, json};

use super::Shown;
use super::filter::Filters;
use crate::cli::Global;
use crate::cli::container::Place;
use crate::error::Result;
use crate::output::print;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};

const TITLES: Titles<'_> = &[("ID", "NETWORK ID"), ("Id", "NETWORK ID")];

/// List networks
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters (`--filter KEY=VALUE`, again for more): driver, id, label, label!, name,\nscope, type (custom or builtin), until.

Examples:
  sbx network ls
  sbx network ls --noheading --filter label=app=shop --format '{{.Name}}'"
)]
pub struct ListArgs {
    /// List only networks that fit
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print `json`, or what a Go template makes of each
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Leave out the heading
    #[arg(short, long, visible_alias = "no-heading")]
    noheading: bool,
    /// Print whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Print names alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
}

pub fn execute(args: &ListArgs, global: &Global) -> Result<u8> {
    let filters = Filters::parse(&args.filter)?;
    let format = args.format.as_deref().filter(|text| !text.is_empty()).map(Format::parse).transpose()?;
    let mut networks = Shown::all(&Place::of(global)?)?;
    networks.retain(|network| filters.fit(network));
    print::text(&match format {
        Some(format) => {
            let short = !args.no_trunc && !format.is_whole_json();
            let rows: Vec<Value> = networks.iter().map(|network| row(network, short)).collect();
            match args.noheading {
                true => format.list_without_heading(&rows)?,
                false => format.list(&rows, TITLES)?,
            }
        }
        None if args.quiet => networks.iter().map(|network| format!("{}\n", network.name)).collect(),
        None => table(&networks, args),
    })?;
    Ok(0)
}

fn row(network: &Shown, short: bool) -> Value {
    let mut row = network.document(&Map::new());
    if short {
        for key in ["ID", "Id"] {
            row[key] = json!(network.short_id());
        }
    }
    row
}

fn table(networks: &[Shown], args: &ListArgs) -> String {
    let mut table = if args.noheading {
        Table::without_header()
    } else {
        Table::new(["network id", "name", "driver", "scope"])
    };
    for network in networks {
        let id = if args.no_trunc { &network.id } else { network.short_id() };
        table.push([id, &network.name, &network.driver, "local"]);
    }
    table.render()
}
