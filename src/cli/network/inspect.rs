//! `sbx network inspect`

use serde_json::Value;

use super::{Network, missing};
use crate::cli::failures::Failures;
use crate::error::Result;
use crate::output::print;
use crate::output::template::Format;

/// Show what is known of networks, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network inspect private
  sbx network inspect -f '{{.Driver}}' host")]
pub struct InspectArgs {
    /// Print `json`, or what a Go template makes of each
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

pub fn execute(args: &InspectArgs) -> Result<u8> {
    let format = Format::parse(args.format.as_deref().filter(|text| !text.is_empty()).unwrap_or("json"))?;
    let mut failures = Failures::default();
    let mut found: Vec<Value> = Vec::new();
    for word in &args.networks {
        match Network::find(word) {
            Some(network) => found.push(network.document()),
            None => failures.add(missing(word)),
        }
    }
    print::text(&format.list(&found, &[])?)?;
    failures.finish()
}
