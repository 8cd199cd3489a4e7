//! `sbx image`, and the verbs that stand for themselves, too.

pub mod diff;
pub mod exists;
pub mod history;
pub mod inspect;
pub mod list;
pub mod prune;
pub mod remove;
pub mod tag;
pub mod tree;
pub mod untag;

use clap::Subcommand;

use crate::cli::{Global, build, transfer};
use crate::container::store::Store;
use crate::error::{Error, Result};
use crate::host::paths;
use crate::image::store::ImageStore;

/// Work with images
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx image ls
  sbx image inspect debian:12
  sbx image prune -a"
)]
pub struct ImageArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Build(Box<build::BuildArgs>),
    Diff(diff::DiffArgs),
    Exists(exists::ExistsArgs),
    History(history::HistoryArgs),
    Import(transfer::import::ImportArgs),
    Inspect(inspect::ImageInspectArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    Load(transfer::load::LoadArgs),
    Prune(prune::PruneArgs),
    Pull(transfer::pull::PullArgs),
    Push(transfer::push::PushArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
    Save(transfer::save::SaveArgs),
    Tag(tag::TagArgs),
    Tree(tree::TreeArgs),
    Untag(untag::UntagArgs),
}

pub fn execute(args: ImageArgs, global: &Global) -> Result<u8> {
    match args.verb {
        Verb::Build(args) => build::execute(&args, global),
        Verb::Diff(args) => diff::execute(&args, global),
        Verb::Exists(args) => exists::execute(&args, global),
        Verb::History(args) => history::execute(&args, global),
        Verb::Import(args) => transfer::import::execute(args, global),
        Verb::Inspect(args) => inspect::execute_image(&args, global),
        Verb::List(args) => list::execute(&args, global),
        Verb::Load(args) => transfer::load::execute(&args, global),
        Verb::Pull(args) => transfer::pull::execute(&args, global),
        Verb::Push(args) => transfer::push::execute(&args, global),
        Verb::Save(args) => transfer::save::execute(&args, global),
        Verb::Prune(args) => prune::execute(&args, global),
        Verb::Remove(args) => remove::execute(args, global),
        Verb::Tag(args) => tag::execute(&args, global),
        Verb::Tree(args) => tree::execute(&args, global),
        Verb::Untag(args) => untag::execute(&args, global),
    }
}

/// The images and containers of the store that the command line names.
pub(crate) struct Stores {
    pub(crate) images: ImageStore,
    pub(crate) containers: Store,
}

impl Stores {
    pub(crate) fn of(global: &Global) -> Result<Self> {
        let root = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
        Ok(Self { images: ImageStore::new(&root), containers: Store::new(root) })
    }
}

/// There is no such image in the store.
pub(crate) fn missing(word: &str) -> Error {
    Error::new(format!("there is no image `{}`", word.escape_debug()))
        .hint("`sbx images -a` lists the images; `sbx pull` fetches one")
}
