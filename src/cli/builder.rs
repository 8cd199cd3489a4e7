//! `sbx builder`, which is `sbx buildx`, too

use std::path::Path;

use clap::Subcommand;

use crate::build::cache::Cache;
use crate::cli::{Global, build, confirm};
use crate::container::size;
use crate::error::Result;
use crate::host::paths;
use crate::identity::{self, Caller, Host};
use crate::image::store::{Extent, ImageStore};
use crate::layers::remove;
use crate::output::print;

/// Work with what builds leave for the next ones
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, after_help = "Examples:\n  sbx builder prune -f")]
pub struct BuilderArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Build(Box<build::BuildArgs>),
    Prune(PruneArgs),
}

/// Forget what builds have made, but for images
///
/// The next builds carry out all steps again. Caches of `RUN --mount=type=cache` are removed, too. Layers that no image
/// and no container has are removed with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx builder prune\n  sbx builder prune -f")]
pub struct PruneArgs {
    /// Accepted for the sake of scripts: all of the cache goes always
    #[arg(short, long, hide = true)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub fn execute(args: &BuilderArgs, global: &Global) -> Result<u8> {
    match &args.verb {
        Verb::Build(args) => build::execute(args, global),
        Verb::Prune(args) => prune(args, global),
    }
}

fn prune(args: &PruneArgs, global: &Global) -> Result<u8> {
    let _ = args.all;
    let question = "WARNING! This will remove all that builds have left for the next ones.";
    if !args.force && !confirm::ask(question)? {
        return Ok(0);
    }
    let root = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
    Cache::new(&root).prune()?;
    remove_caches(&root)?;
    let collected = ImageStore::new(&root).collect(Extent::Unnamed)?;
    print::line(&format!("Total reclaimed space: {}", size::decimal(collected.reclaimed)))?;
    Ok(0)
}

/// The directories of `RUN --mount=type=cache`, whose files belong to users of containers.
fn remove_caches(store: &Path) -> Result<()> {
    let caches = store.join("build/caches");
    if !caches.exists() {
        return Ok(());
    }
    let host = Host::system();
    let identity = identity::plan_on(&host, &identity::Request::default(), &Caller::current(&host)?)?;
    remove::tree(&caches, &identity, None)
}
