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
use crate::network::named::{self, BUILT_IN, IN_USE, NamedNetwork};
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
    let always = |name: &str| {
        Err(Error::new(format!("cannot remove the network `{name}`")).because("it is always there"))
    };
    if Shown::is_always_there(word) {
        return always(word);
    }
    let Some(network) = networks(place).find(word)? else { return Ok(false) };
    if network.name == BUILT_IN {
        return always(BUILT_IN);
    }
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
    let fits = |network: &NamedNetwork| filters.fit(&Shown::from(network));
    remove_unused(&place, fits, |name| drop(print::line(name)))?.finish()
}

/// Removes the networks that fit and that no container is in, and names each to `gone`.
pub(crate) fn remove_unused(
    place: &Place,
    fits: impl Fn(&NamedNetwork) -> bool,
    mut gone: impl FnMut(&str),
) -> Result<Failures> {
    let mut failures = Failures::default();
    let made = networks(place).list()?;
    for network in made.iter().filter(|network| network.name != BUILT_IN && fits(network)) {
        match go(place, network) {
            Ok(true) => gone(&network.name),
            Ok(false) => {}
            Err(error) if error.code() == IN_USE => {}
            Err(error) => failures.add(error),
        }
    }
    Ok(failures)
}
