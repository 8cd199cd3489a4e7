//! `sbx network ls`

use serde_json::Value;

use super::{NETWORKS, Network};
use crate::container::label::{self, LabelFilter};
use crate::error::Result;
use crate::image::filter::wrong;
use crate::output::print;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};

const TITLES: Titles<'_> = &[("ID", "NETWORK ID"), ("Id", "NETWORK ID")];
const KEYS: &str = "driver, id, label, name";

/// List networks
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters (`--filter KEY=VALUE`, again for more): driver, id, label, name.

Examples:
  sbx network ls
  sbx network ls --format '{{.Name}}'")]
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
    /// Print names alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
}

pub fn execute(args: &ListArgs) -> Result<u8> {
    let mut networks: Vec<&Network> = NETWORKS.iter().collect();
    for (key, values) in keyed(&args.filter)? {
        networks.retain(|network| match key {
            "driver" => values.contains(&network.driver),
            "label" => {
                let filters: Vec<LabelFilter> =
                    values.iter().map(|text| LabelFilter::new(text, true)).collect();
                label::all_fit(&filters, |_| None)
            }
            _ => values.iter().any(|part| network.name.contains(part)),
        });
    }
    let rows: Vec<Value> = networks.iter().map(|network| network.document()).collect();
    let format = args.format.as_deref().filter(|text| !text.is_empty()).map(Format::parse).transpose()?;
    print::text(&match format {
        Some(format) if args.noheading => format.list_without_heading(&rows)?,
        Some(format) => format.list(&rows, TITLES)?,
        None if args.quiet => networks.iter().map(|network| format!("{}\n", network.name)).collect(),
        None => table(&networks, args.noheading),
    })?;
    Ok(0)
}

/// The values of each key.
fn keyed(filters: &[String]) -> Result<Vec<(&str, Vec<&str>)>> {
    let mut keyed: Vec<(&str, Vec<&str>)> = Vec::new();
    for text in filters {
        let Some((key, value)) =
            text.split_once('=').filter(|(key, _)| KEYS.split(", ").any(|known| known == *key))
        else {
            return Err(wrong(text).hint(format!("write KEY=VALUE; there are: {KEYS}")));
        };
        match keyed.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => keyed.push((key, vec![value])),
        }
    }
    Ok(keyed)
}

fn table(networks: &[&Network], noheading: bool) -> String {
    let mut table = if noheading {
        Table::without_header()
    } else {
        Table::new(["network id", "name", "driver", "scope"])
    };
    for network in networks {
        table.push([network.name, network.name, network.driver, "local"]);
    }
    table.render()
}
