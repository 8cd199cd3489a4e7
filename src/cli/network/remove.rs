//! `sbx network rm` and `sbx network prune`

use super::filter::Filters;
use super::{Shown, missing, networks, record};
use crate::cli::container::Place;
use crate::cli::container::stop::seconds;
use crate::cli::failures::{Failures, MISSING};
use crate::cli::{Global, confirm, rm};
use crate::container::sweep::{self, Volumes};
use crate::error::{Error, Result};
use crate::events::Action;
use crate::network::named::{self, IN_USE, NamedNetwork};
use crate::output::print;

/// Remove networks
///
/// Each is printed as it was typed once it is gone. The exit code is 1 where one does not exist, 2 where a container,
/// also one that ended, is in it. Those that are always there cannot be removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network rm shop
  sbx network rm -f shop old")]
pub struct RemoveArgs {
    /// Remove the containers in it, too, also those that run; pass over one that does not exist
    #[arg(short, long)]
    force: bool,
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
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

/// Remove networks that no container is in
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters (`--filter KEY=VALUE`, again for more): label, label!, until.

Examples:
  sbx network prune -f
  sbx network prune -f --filter label=app=shop")]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove only networks that fit
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

pub fn execute(args: &RemoveArgs, global: &Global) -> Result<u8> {
    let time = seconds("--time", &args.time)?;
    let place = Place::of(global)?;
    sweep::sweep(&place.store, &place.runtime);
    let mut failures = Failures::default();
    for word in &args.networks {
        match remove(&place, word, args.force.then_some(time)) {
            Ok(true) => drop(print::line(word)?),
            Ok(false) if args.force => {}
            Ok(false) => failures.add(missing(word).exit_code(MISSING)),
            Err(error) => failures.add(error),
        }
    }
    failures.finish()
}

/// False: there is none. `force`: with its containers, which are given so many seconds.
fn remove(place: &Place, word: &str, force: Option<u64>) -> Result<bool> {
    if let Some(network) = Shown::always_there().into_iter().find(|network| network.name == word) {
        return Err(
            Error::new(format!("cannot remove the network `{}`", network.name)).because("it is always there")
        );
    }
    let Some(network) = networks(place).find(word)? else { return Ok(false) };
    if let Some(time) = force {
        for member in named::members(&place.store, &network)? {
            rm::remove(&place.store, &place.runtime, &member.id, (Some(time), true), Volumes::Go).map_err(
                |error| error.while_doing(format!("cannot remove the network `{}`", network.name)),
            )?;
        }
    }
    go(place, &network)
}

fn go(place: &Place, network: &NamedNetwork) -> Result<bool> {
    let gone = named::remove(&place.store, network)?;
    if gone {
        record(place, Action::Remove, network);
    }
    Ok(gone)
}

pub fn prune(args: &PruneArgs, global: &Global) -> Result<u8> {
    let filters = Filters::parse_for_prune(&args.filter)?;
    let warning = "WARNING! This will remove all networks not used by at least one container.";
    if !args.force && !confirm::ask(warning)? {
        return Ok(0);
    }
    let place = Place::of(global)?;
    sweep::sweep(&place.store, &place.runtime);
    let mut failures = Failures::default();
    for network in networks(&place).list()? {
        if !filters.fit(&Shown::from(&network)) {
            continue;
        }
        match go(&place, &network) {
            Ok(true) => drop(print::line(&network.name)?),
            Ok(false) => {}
            Err(error) if error.code() == IN_USE => {}
            Err(error) => failures.add(error),
        }
    }
    failures.finish()
}
