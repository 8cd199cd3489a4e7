//! `sbx volume export`

use std::path::PathBuf;

use super::Stores;
use crate::cli::Global;
use crate::cli::transfer::output;
use crate::error::Result;
use crate::volume::archive;

/// Write what a volume holds as a tar
///
/// Containers may use it meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx volume export -o data.tar data
  sbx volume export data | gzip > data.tar.gz")]
pub struct ExportArgs {
    /// Write this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The volume
    #[arg(value_name = "NAME")]
    name: String,
}

pub fn execute(args: &ExportArgs, global: &Global) -> Result<u8> {
    let stores = Stores::of(global)?;
    match args.output.as_deref().filter(|path| path.as_os_str() != "-") {
        Some(path) => output::file(path, |file| archive::export(&stores.containers, &args.name, file))?,
        None => archive::export(&stores.containers, &args.name, &mut output::stdout("export")?)?,
    }
    Ok(0)
}
