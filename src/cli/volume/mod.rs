//! `sbx volume`

mod create;
mod exists;
mod export;
mod import;
mod inspect;
mod list;
pub(crate) mod prune;
mod remove;

use clap::Subcommand;

use crate::cli::Global;
use crate::container::store::Store;
use crate::error::{Error, Result};
use crate::host::paths;
use crate::volume::VolumeStore;

/// Work with volumes
///
/// A volume is a directory that containers share and that outlives them: `sbx run -v NAME:/path`.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx volume create data
  sbx run --rm -v data:/var/lib/data debian:12 sh -c 'date > /var/lib/data/now'
  sbx volume ls
  sbx volume rm data"
)]
pub struct VolumeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::CreateArgs),
    Exists(exists::ExistsArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Inspect(inspect::InspectArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    /// Mount a volume for the host: it takes root, and `inspect` tells where its files are
    #[command(hide = true)]
    Mount(Absent),
    Prune(prune::PruneArgs),
    /// Ask the plugins for their volumes: there are none
    #[command(hide = true)]
    Reload(Absent),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
    /// Take away what `mount` made
    #[command(hide = true)]
    Unmount(Absent),
    /// Change a volume of a cluster: there is none
    #[command(hide = true)]
    Update(Absent),
}

/// Verbs of podman and docker that have no meaning here.
#[derive(Debug, clap::Args)]
struct Absent {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<String>,
}

pub fn execute(args: VolumeArgs, global: &Global) -> Result<u8> {
    match args.verb {
        Verb::Create(args) => create::execute(args, global),
        Verb::Exists(args) => exists::execute(&args, global),
        Verb::Export(args) => export::execute(&args, global),
        Verb::Import(args) => import::execute(&args, global),
        Verb::Inspect(args) => inspect::execute(&args, global),
        Verb::List(args) => list::execute(&args, global),
        Verb::Prune(args) => prune::execute(&args, global),
        Verb::Remove(args) => remove::execute(&args, global),
        Verb::Mount(_) | Verb::Unmount(_) => Err(absent("mount")
            .because("a volume is a directory of the store, and there without being mounted")
            .hint("`sbx volume inspect -f '{{.Mountpoint}}' NAME` tells where it is, and `sbx unshare` enters it")),
        Verb::Reload(_) => Err(absent("reload").because("there are no plugins that have volumes of their own")),
        Verb::Update(_) => Err(absent("update").because("it is about the volumes of a cluster, and there is none")),
    }
}

fn absent(verb: &str) -> Error {
    Error::new(format!("there is no command `volume {verb}`"))
}

/// The volumes and containers of the store that the command line names.
struct Stores {
    containers: Store,
    volumes: VolumeStore,
}

impl Stores {
    fn of(global: &Global) -> Result<Self> {
        let containers = Store::new(paths::store(global.root.as_deref(), &paths::Surroundings::current())?);
        Ok(Self { volumes: VolumeStore::of(&containers), containers })
    }

    /// For what changes them: there is a store, and nothing in it that a killed command left.
    fn to_change(global: &Global) -> Result<Self> {
        let stores = Self::of(global)?;
        paths::create_store(stores.containers.root())?;
        stores.volumes.sweep();
        Ok(stores)
    }
}

/// `KEY=VALUE`s; a key alone has an empty value.
fn pairs(flag: &str, texts: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| match text.split_once('=').unwrap_or((text, "")) {
            ("", _) => Err(Error::new(format!("cannot use `{flag} {text}`")).hint("write KEY=VALUE")),
            (key, value) => Ok((key.to_owned(), value.to_owned())),
        })
        .collect()
}
