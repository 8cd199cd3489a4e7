//! `sbx builder`, which is `sbx buildx`, too

mod instances;
mod usage;

use std::path::Path;
use std::time::SystemTime;

use clap::Subcommand;

use crate::build::cache::Cache;
use crate::build::caches;
use crate::build::fetch::download;
use crate::cli::failures::Failures;
use crate::cli::{Global, build, confirm};
use crate::container::{duration, size};
use crate::error::{Error, Result};
use crate::host::paths;
use crate::identity::{self, Caller, Host};
use crate::image::store::{Extent, ImageStore};
use crate::output::print;

/// Work with what builds leave for the next ones
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  sbx builder prune -f\n  sbx buildx build -t site ."
)]
pub struct BuilderArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(alias = "b")]
    Build(Box<build::BuildArgs>),
    Prune(PruneArgs),
    #[command(name = "du")]
    Usage(usage::UsageArgs),
    Version(instances::VersionArgs),
    #[command(name = "ls")]
    List(instances::ListArgs),
    Inspect(instances::InspectArgs),
    Use(instances::UseArgs),
    #[command(hide = true)]
    Create(instances::OtherArgs),
    #[command(name = "rm", hide = true)]
    Remove(instances::OtherArgs),
    #[command(hide = true)]
    Stop(instances::OtherArgs),
    #[command(hide = true)]
    Bake(instances::OtherArgs),
    #[command(name = "imagetools", hide = true)]
    ImageTools(instances::OtherArgs),
}

/// Forget what builds have made, but for images
///
/// The next builds carry out all steps again. Caches of `RUN --mount=type=cache` that no build uses are removed, too. Layers that no image
/// and no container has are removed with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx builder prune\n  sbx builder prune -f --filter until=24h")]
pub struct PruneArgs {
    /// Accepted for the sake of scripts: all of the cache goes always
    #[arg(short, long, hide = true)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Forget what was made longer ago alone: `until=24h`; caches of commands stay
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Show what is forgotten
    #[arg(long)]
    verbose: bool,
}

pub fn execute(args: &BuilderArgs, global: &Global) -> Result<u8> {
    match &args.verb {
        Verb::Build(args) => build::execute(args, global),
        Verb::Prune(args) => prune(args, global),
        Verb::Usage(args) => usage::execute(args, global),
        Verb::Version(args) => instances::version(args),
        Verb::List(args) => instances::list(args),
        Verb::Inspect(args) => instances::inspect(args),
        Verb::Use(args) => instances::choose(args),
        Verb::Create(args) => instances::refuse("create", args),
        Verb::Remove(args) => instances::refuse("rm", args),
        Verb::Stop(args) => instances::refuse("stop", args),
        Verb::Bake(args) => instances::refuse("bake", args),
        Verb::ImageTools(args) => instances::refuse("imagetools", args),
    }
}

fn prune(args: &PruneArgs, global: &Global) -> Result<u8> {
    let _ = args.all;
    let before = args.filter.as_deref().map(until).transpose()?;
    let question = "WARNING! This will remove all that builds have left for the next ones.";
    if !args.force && !confirm::ask(question)? {
        return Ok(0);
    }
    let root = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
    if args.verbose {
        usage::show(&root, before, true)?;
    }
    let mut failures = Failures::default();
    forget(&root, before, &mut failures);
    if let Some(collected) = failures.note(ImageStore::new(&root).collect(Extent::Unnamed)) {
        print::line(&format!("Total reclaimed space: {}", size::decimal(collected.reclaimed)))?;
    }
    failures.finish()
}

/// Forgets what builds have left, or what they left before a time. Layers that nothing names then are the collector's.
/// What cannot be removed is noted, and no reason to keep the rest.
pub(super) fn forget(store: &Path, before: Option<SystemTime>, failures: &mut Failures) {
    failures.note(Cache::new(store).prune(before));
    if before.is_none() {
        failures.note(download::prune(store));
        // Their files belong to users of containers.
        failures.note(caches::remove_unused(store, || {
            let host = Host::system();
            identity::plan_on(&host, &identity::Request::default(), &Caller::current(&host)?)
        }));
    }
}

/// `until=SPAN`: before that.
fn until(text: &str) -> Result<SystemTime> {
    let Some(span) = text.strip_prefix("until=") else {
        return Err(
            Error::new(format!("cannot use `--filter {}`", text.escape_debug())).hint("there is: until=SPAN")
        );
    };
    let span = duration::parse("--filter until", span)?;
    Ok(SystemTime::now().checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH))
}
