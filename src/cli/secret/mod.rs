//! `sbx secret`

pub mod create;
pub mod exists;
pub mod inspect;
pub mod list;
pub mod remove;

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::Global;
use crate::error::Result;
use crate::events::{self, Action, Event, Kind};
use crate::host::paths;
use crate::secret::{Secret, SecretStore};

/// Keep data that containers are given without being in an image
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx secret create key ./key.pem
  sbx run --rm --secret key host cat /run/secrets/key
  sbx secret ls"
)]
pub struct SecretArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::CreateArgs),
    Exists(exists::ExistsArgs),
    Inspect(inspect::InspectArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
}

pub fn execute(args: SecretArgs, global: &Global) -> Result<u8> {
    match args.verb {
        Verb::Create(args) => create::execute(&args, global),
        Verb::Exists(args) => exists::execute(&args, global),
        Verb::Inspect(args) => inspect::execute(&args, global),
        Verb::List(args) => list::execute(&args, global),
        Verb::Remove(args) => remove::execute(&args, global),
    }
}

/// The secrets of the store that the command line names, and the store.
/// The names of all secrets.
///
/// # Errors
/// They cannot be read.
pub(super) fn names(global: &Global) -> Result<Vec<String>> {
    Ok(secrets(global)?.0.list()?.into_iter().map(|secret| secret.name).collect())
}

fn secrets(global: &Global) -> Result<(SecretStore, PathBuf)> {
    let store = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
    Ok((SecretStore::new(&store), store))
}

fn record(store: &std::path::Path, action: Action, secret: &Secret) {
    events::record_here(store, Event::new(Kind::Secret, action, &secret.id, &secret.name));
}
