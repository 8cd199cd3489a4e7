//! `sbx network inspect`

use serde_json::Value;

use super::{Shown, missing};
use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::failures::{Failures, MISSING};
use crate::error::Result;
use crate::output::print;
use crate::output::template::Format;

/// Show what is known of networks, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network inspect shop
  sbx network inspect -f '{{.Driver}}' host")]
pub struct InspectArgs {
    /// Print `json`, or what a Go template makes of each
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or IDs
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

/// What is known of one; none: it is not there.
///
/// # Errors
/// The networks cannot be read, or the word means several.
pub(crate) fn document(place: &Place, word: &str) -> Result<Option<Value>> {
    let network = Shown::find(place, word)?;
    Ok(network.map(|network| network.document(&network.containers(place))))
}

pub fn execute(args: &InspectArgs, global: &Global) -> Result<u8> {
    let format = Format::parse(args.format.as_deref().filter(|text| !text.is_empty()).unwrap_or("json"))?;
    let place = Place::of(global)?;
    let mut failures = Failures::default();
    let mut found: Vec<Value> = Vec::new();
    for word in &args.networks {
        match document(&place, word) {
            Ok(Some(network)) => found.push(network),
            Ok(None) => failures.add(missing(word).exit_code(MISSING)),
            Err(error) => failures.add(error),
        }
    }
    print::text(&format.list(&found, &[])?)?;
    failures.finish()
}
