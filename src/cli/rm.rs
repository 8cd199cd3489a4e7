//! `sbx rm`

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cli::Global;
use crate::container::list::{self, Status};
use crate::container::process::boot_id;
use crate::container::store::Store;
use crate::container::sweep::{self, RUNNING, Volumes};
use crate::error::{EXIT_SBX, Error, Result};
use crate::host::paths;
use crate::output::print;

/// The exit code of podman-rm(1) where a container does not exist.
const MISSING: u8 = 1;
/// How long a container that is killed may take to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Remove containers
///
/// Names, IDs and the beginnings of IDs are taken; each is printed as it was typed once its container is
/// gone. The exit code is 1 where one does not exist, 2 where one runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx rm web 3f2a
  sbx rm -f web
  sbx rm --all")]
pub struct RmArgs {
    /// Kill a container that runs; pass over one that does not exist
    #[arg(short, long)]
    force: bool,
    /// Remove all containers; without `--force` those that do not run
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
    /// Remove their anonymous volumes, too
    #[arg(short, long)]
    volumes: bool,
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    containers: Vec<String>,
}

pub fn execute(args: RmArgs, global: &Global) -> Result<u8> {
    let surroundings = paths::Surroundings::current();
    let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
    let runtime = paths::runtime(&surroundings)?.path;
    sweep::sweep(&store, &runtime);
    let volumes = if args.volumes { Volumes::Go } else { Volumes::Stay };
    let words = if args.all { every(&store, args.force) } else { args.containers };
    // Of all that there are, others may have removed one meanwhile.
    let may_be_gone = args.force || args.all;
    let mut worst: Option<Error> = None;
    for word in words {
        match remove(&store, &runtime, &word, (args.force, may_be_gone), volumes) {
            Ok(true) => {
                print::line(&word)?;
            }
            Ok(false) => {}
            Err(error) => {
                // `main` reports one of them, and its code is the command's.
                if let Some(error) = worst.replace(error) {
                    log::error!("{error}");
                }
            }
        }
    }
    worst.map_or(Ok(0), Err)
}

fn every(store: &Store, force: bool) -> Vec<String> {
    list::all(store)
        .into_iter()
        .filter(|found| force || matches!(found.status, Status::Exited { .. } | Status::Dead))
        .map(|found| found.id)
        .collect()
}

/// False for one that does not exist.
///
/// # Errors
/// It runs, or does not exist and has to (`may_be_gone`), or something of it cannot be removed.
fn remove(
    store: &Store,
    runtime: &Path,
    word: &str,
    (force, may_be_gone): (bool, bool),
    volumes: Volumes,
) -> Result<bool> {
    let failed = || format!("cannot remove the container `{word}`");
    let id = match store.find(word) {
        Ok(id) => id,
        Err(_) if may_be_gone && !store.ids().iter().any(|id| id.starts_with(word)) => return Ok(false),
        Err(error) => return Err(error.while_doing(failed()).exit_code(MISSING)),
    };
    let until = Instant::now() + PATIENCE;
    loop {
        let Err(error) = sweep::remove_stopped_and(store, &id, runtime, volumes) else { return Ok(true) };
        if error.code() != RUNNING {
            return Err(error.while_doing(failed()).exit_code(EXIT_SBX));
        }
        let record = store.record_of(&id).unwrap_or_default();
        // A lock without a monitor is that of another command that removes it, or has just made it.
        if !force && record.monitor.is_some() {
            return Err(error.while_doing(failed()).hint(format!("remove it by force: `sbx rm -f {word}`")));
        }
        if force && !record.boot_id.is_empty() && record.boot_id != boot_id() {
            return Err(error
                .while_doing(failed())
                .because("on another machine that has this store, too")
                .hint(format!("remove it there: `sbx rm -f {word}`")));
        }
        if Instant::now() > until {
            return Err(error.while_doing(failed()).because("it does not end").exit_code(EXIT_SBX));
        }
        // One that is still being set up is killed as soon as its command runs.
        if let Some(init) = record.init.filter(|_| force) {
            init.kill(Duration::from_millis(100));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
