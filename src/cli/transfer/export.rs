//! `sbx export`

use std::path::PathBuf;

use crate::cli::Global;
use crate::cli::transfer::output;
use crate::container::export;
use crate::container::store::Store;
use crate::error::Result;
use crate::events::{self, Action, Event};
use crate::host::paths;

/// Write the root of a container as a tar
///
/// The container may run or not. What is mounted in it, volumes among others, is left out. `sbx import` makes an
/// image of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx export -o root.tar web
  sbx export web | sbx import - snapshot:1")]
pub struct ExportArgs {
    /// Write this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub fn execute(args: &ExportArgs, global: &Global) -> Result<u8> {
    let store = Store::new(paths::store(global.root.as_deref(), &paths::Surroundings::current())?);
    let id = store.find(&args.container)?;
    match args.output.as_deref().filter(|path| path.as_os_str() != "-") {
        Some(path) => output::file(path, |file| export::export(&store, &id, file))?,
        None => export::export(&store, &id, &mut output::stdout("export")?)?,
    }
    if let Ok(spec) = store.read_spec(&id) {
        events::record_here(store.root(), Event::container(Action::Export, &spec));
    }
    Ok(0)
}
