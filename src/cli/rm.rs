//! `sbx rm`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::Global;
use crate::cli::container::selection::{Named, all};
use crate::cli::container::{Place, stop};
use crate::container::life;
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
    /// Pass over containers that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// With `--force`: seconds between the stop signal and SIGKILL, -1: never
    #[arg(
        short,
        long = "time",
        visible_alias = "timeout",
        value_name = "SECONDS",
        default_value = "0",
        allow_hyphen_values = true
    )]
    time: String,
    /// The container that was made last
    #[arg(short, long, conflicts_with_all = ["containers", "all"])]
    latest: bool,
    /// Take the container's ID from this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Containers that fit: `KEY=VALUE`, as `sbx ps --filter` takes it; without `--force` those that do not run
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["containers", "all", "latest"])]
    filter: Vec<String>,
    /// Remove all containers; without `--force` those that do not run
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
    /// Remove their anonymous volumes, too
    #[arg(short, long)]
    volumes: bool,
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest", "cidfile", "filter"])]
    containers: Vec<String>,
}

pub fn execute(args: RmArgs, global: &Global) -> Result<u8> {
    let surroundings = paths::Surroundings::current();
    let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
    let runtime = paths::runtime(&surroundings)?.path;
    sweep::sweep(&store, &runtime);
    let volumes = if args.volumes { Volumes::Go } else { Volumes::Stay };
    let force = args.force.then(|| stop::seconds("--time", &args.time)).transpose()?;
    let place = Place { store, runtime };
    let every = args.all || !args.filter.is_empty();
    let words: Vec<String> = if every {
        let chosen = all(&place, &args.filter, |found| args.force || !found.status.is_up())?;
        chosen.into_iter().map(|one| one.word).collect()
    } else {
        let (latest, cidfile, containers) = (args.latest, args.cidfile, args.containers);
        let chosen = Named { latest, cidfile, containers }.resolve(&place)?;
        chosen.into_iter().map(|one| one.word).collect()
    };
    let Place { store, runtime } = place;
    // Of all that there are, others may have removed one meanwhile.
    let may_be_gone = args.force || every || args.ignore;
    let mut worst: Option<Error> = None;
    for word in words {
        match remove(&store, &runtime, &word, (force, may_be_gone), volumes) {
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

/// Removes one that is down.
///
/// # Errors
/// It runs (with the exit code [`RUNNING`]), or something of it cannot be removed.
pub fn remove_down(store: &Store, runtime: &Path, id: &str, volumes: Volumes) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let Err(error) = sweep::remove_stopped_and(store, id, runtime, volumes) else { return Ok(()) };
        let record = store.record_of(id).unwrap_or_default();
        // A lock without a monitor is that of another command that removes it, or has just made it.
        let held = record.monitor.is_some() && !record.visit;
        if error.code() != RUNNING || held || Instant::now() > until {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Makes way for a new container of the same name: `--replace`.
///
/// # Errors
/// As [`remove`].
pub(crate) fn remove_for_another(store: &Store, runtime: &Path, name: &str) -> Result<()> {
    match store.find(name).and_then(|id| store.read_spec(&id)) {
        // The beginning of an ID is no name.
        Ok(spec) if spec.name != name => Ok(()),
        Err(_) => Ok(()),
        Ok(spec) => remove(store, runtime, name, (Some(spec.stop_timeout), true), Volumes::Stay).map(drop),
    }
}

/// False for one that does not exist.
///
/// # Errors
/// It runs, or does not exist and has to (`may_be_gone`), or something of it cannot be removed.
pub fn remove(
    store: &Store,
    runtime: &Path,
    word: &str,
    (force, may_be_gone): (Option<u64>, bool),
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
        let Err(error) = remove_down(store, runtime, &id, volumes) else { return Ok(true) };
        if error.code() != RUNNING {
            return Err(error.while_doing(failed()).exit_code(EXIT_SBX));
        }
        let Some(time) = force else {
            return Err(error.while_doing(failed()).hint(format!("remove it by force: `sbx rm -f {word}`")));
        };
        let record = store.record_of(&id).unwrap_or_default();
        if !record.boot_id.is_empty() && record.boot_id != boot_id() {
            return Err(error
                .while_doing(failed())
                .because("on another machine that has this store, too")
                .hint(format!("remove it there: `sbx rm -f {word}`")));
        }
        if Instant::now() > until {
            return Err(error.while_doing(failed()).because("it does not end").exit_code(EXIT_SBX));
        }
        life::stop(store, runtime, &id, Some(time), None)
            .map_err(|error| error.while_doing(failed()).exit_code(EXIT_SBX))?;
        if !store.directory(&id).path().exists() {
            // It had `--rm`.
            return Ok(true);
        }
    }
}
