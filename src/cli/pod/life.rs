//! `sbx pod start`, `stop`, `restart` and `kill`: the same with each container of a pod.

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::stop::seconds;
use crate::cli::failures::{Failures, MISSING};
use crate::client;
use crate::container::life::{self, Started};
use crate::container::list::Listed;
use crate::container::{requires, signal, sweep};
use crate::error::{Error, Result};
use crate::events::Action;
use crate::monitor::Caller;
use crate::output::print;
use crate::pod::{self, Pod};

/// Pods by name, or all.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// All pods
    #[arg(short, long, conflicts_with = "pods")]
    all: bool,
    /// Names or IDs
    #[arg(value_name = "POD", required_unless_present = "all")]
    pods: Vec<String>,
}

/// Start the containers of pods
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod start site")]
pub struct StartArgs {
    #[command(flatten)]
    chosen: Chosen,
}

/// Stop the containers of pods
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod stop -t 0 site")]
pub struct StopArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Seconds until SIGKILL, -1: never; default: as each container was made
    #[arg(
        short,
        long = "time",
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<String>,
    /// Pass over pods that do not exist
    #[arg(short, long)]
    ignore: bool,
}

/// Stop and start the containers of pods
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod restart site")]
pub struct RestartArgs {
    #[command(flatten)]
    chosen: Chosen,
}

/// Send a signal to the containers of pods
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod kill -s HUP site")]
pub struct KillArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Name or number of the signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

pub fn start(args: &StartArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    sweep::sweep(&place.store, &place.runtime);
    each(&place, &args.chosen, false, Action::Start, |member| {
        let Some(spec) = &member.spec else { return Ok(()) };
        requires::start_first(&place.store, &place.runtime, spec)?;
        match life::start(&place.store, &place.runtime, &member.id, Caller::Starter, None)? {
            Started::Now(connection) => client::until_started(&connection.control),
            Started::Before => Ok(()),
        }
    })
}

pub fn stop(args: &StopArgs, global: &Global) -> Result<u8> {
    let timeout = args.time.as_deref().map(|text| seconds("--time", text)).transpose()?;
    let place = Place::of(global)?;
    each(&place, &args.chosen, args.ignore, Action::Stop, |member| {
        life::stop(&place.store, &place.runtime, &member.id, timeout, None).map(|_| ())
    })
}

pub fn restart(args: &RestartArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    each(&place, &args.chosen, false, Action::Restart, |member| {
        life::restart(&place.store, &place.runtime, &member.id, None, None)
    })
}

pub fn kill(args: &KillArgs, global: &Global) -> Result<u8> {
    let signal = signal::parse("--signal", &args.signal)?;
    let place = Place::of(global)?;
    each(&place, &args.chosen, false, Action::Kill, |member| match member.status.is_up() {
        true => life::kill(&place.store, &place.runtime, &member.id, signal),
        false => Ok(()),
    })
}

/// Does the same to each container of each pod, and prints the ID of the pod.
fn each(
    place: &Place,
    chosen: &Chosen,
    may_be_gone: bool,
    action: Action,
    act: impl Fn(&Listed) -> Result<()>,
) -> Result<u8> {
    let mut failures = Failures::default();
    for pod in resolve(place, chosen, may_be_gone, &mut failures)? {
        let mut failed = false;
        for member in pod::members(&place.store, &pod) {
            if let Err(error) = act(&member) {
                let name = member.spec.as_ref().map_or(member.id.as_str(), |spec| spec.name.as_str());
                failures.add(error.while_doing(format!("pod `{}`, container `{name}`", pod.name)));
                failed = true;
            }
        }
        if !failed {
            super::record(place, action, &pod);
            print::line(&pod.id)?;
        }
    }
    failures.finish()
}

/// What the words mean; those that mean nothing are failures.
fn resolve(place: &Place, chosen: &Chosen, may_be_gone: bool, failures: &mut Failures) -> Result<Vec<Pod>> {
    let pods = super::pods(place);
    if chosen.all {
        return pods.list();
    }
    let mut found = Vec::new();
    for word in &chosen.pods {
        match pods.find(word) {
            Ok(Some(pod)) => found.push(pod),
            Ok(None) if may_be_gone => {}
            Ok(None) => failures.add(missing(word)),
            Err(error) => failures.add(error),
        }
    }
    Ok(found)
}

fn missing(word: &str) -> Error {
    pod::missing(word).exit_code(MISSING)
}
