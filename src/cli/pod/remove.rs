//! `sbx pod rm` and `sbx pod prune`

use crate::cli::container::Place;
use crate::cli::container::stop::seconds;
use crate::cli::failures::{Failures, MISSING};
use crate::cli::{Global, confirm, rm};
use crate::container::sweep::{self, RUNNING, Volumes};
use crate::error::{Error, Result};
use crate::events::Action;
use crate::output::print;
use crate::pod::{self, Pod};

/// Remove pods with their containers
///
/// The ID of each is printed once it is gone. The exit code is 1 where one does not exist, 2 where a container runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod rm site
  sbx pod rm -f --all")]
pub struct RemoveArgs {
    /// Remove all pods
    #[arg(short, long, conflicts_with = "pods")]
    all: bool,
    /// Stop containers that run; pass over pods that do not exist
    #[arg(short, long)]
    force: bool,
    /// Pass over pods that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// With `--force`: seconds between the stop signal and SIGKILL, -1: never
    #[arg(
        short,
        long = "time",
        visible_alias = "timeout",
        value_name = "SECONDS",
        default_value = "10",
        allow_hyphen_values = true
    )]
    time: String,
    /// Names or IDs
    #[arg(value_name = "POD", required_unless_present = "all")]
    pods: Vec<String>,
}

/// Remove pods of which no container runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod prune -f")]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub fn execute(args: &RemoveArgs, global: &Global) -> Result<u8> {
    let time = seconds("--time", &args.time)?;
    let place = Place::of(global)?;
    sweep::sweep(&place.store, &place.runtime);
    let pods = super::pods(&place);
    let words = match args.all {
        true => pods.list()?.into_iter().map(|pod| pod.id).collect(),
        false => args.pods.clone(),
    };
    let mut failures = Failures::default();
    for word in &words {
        match pods.find(word) {
            Ok(Some(found)) => match remove(&place, &found, args.force.then_some(time)) {
                Ok(()) => drop(print::line(&found.id)?),
                Err(error) => failures.add(error),
            },
            Ok(None) if args.ignore || args.force || args.all => {}
            Ok(None) => failures.add(pod::missing(word).exit_code(MISSING)),
            Err(error) => failures.add(error),
        }
    }
    failures.finish()
}

pub fn prune(args: &PruneArgs, global: &Global) -> Result<u8> {
    if !args.force && !confirm::ask("WARNING! This will remove all stopped/exited pods.")? {
        return Ok(0);
    }
    let place = Place::of(global)?;
    sweep::sweep(&place.store, &place.runtime);
    let mut failures = Failures::default();
    for found in super::pods(&place).list()? {
        if pod::members(&place.store, &found).iter().any(|member| member.status.is_up()) {
            continue;
        }
        match remove(&place, &found, None) {
            Ok(()) => drop(print::line(&found.id)?),
            Err(error) => failures.add(error),
        }
    }
    failures.finish()
}

/// Removes a pod with its containers; those that run with `force` alone, which are the seconds that they get to end.
///
/// # Errors
/// A container runs (exit code 2), or cannot be removed.
pub(super) fn remove(place: &Place, found: &Pod, force: Option<u64>) -> Result<()> {
    let failed = || format!("cannot remove the pod `{}`", found.name);
    let members = pod::members(&place.store, found);
    if force.is_none()
        && let Some(running) = members.iter().find(|member| member.status.is_up())
    {
        let name = running.spec.as_ref().map_or(running.id.as_str(), |spec| spec.name.as_str());
        return Err(Error::new(failed())
            .because(format!("its container `{name}` runs"))
            .hint(format!("remove it by force: `sbx pod rm -f {}`", found.name))
            .exit_code(RUNNING));
    }
    for member in members {
        rm::remove(&place.store, &place.runtime, &member.id, (force, true), Volumes::Go)
            .map_err(|error| error.while_doing(failed()))?;
    }
    super::pods(place).remove(found)?;
    super::record(place, Action::Remove, found);
    Ok(())
}
