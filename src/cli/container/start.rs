//! `sbx start`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Named, all, each};
use crate::client;
use crate::client::keys::DetachKeys;
use crate::container::life::{self, Started};
use crate::container::list::{self, Listed, Status};
use crate::container::restart::Restart;
use crate::container::store::short;
use crate::container::{requires, sweep};
use crate::error::{Error, Result};
use crate::monitor::Caller;

/// Start containers that are down
///
/// Each is printed as it was typed once its command runs; one that runs already is left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx start web db
  sbx start --attach --interactive build
  sbx start --all --filter restart-policy=always")]
pub struct StartArgs {
    #[command(flatten)]
    named: Named,
    /// All containers that are down
    #[arg(long, conflicts_with_all = ["containers", "latest"])]
    all: bool,
    /// Containers that are down and fit: `KEY=VALUE`, as `sbx ps --filter` takes it
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["containers", "latest"])]
    filter: Vec<String>,
    /// Connect the output, and forward signals; the exit code is the container's
    #[arg(short, long)]
    attach: bool,
    /// Connect standard input, too
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running; an empty text: there are none
    #[arg(long, value_name = "KEYS", default_value = client::keys::DEFAULT)]
    detach_keys: DetachKeys,
    /// Forward signals to the command; with `--attach`
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

pub fn execute(args: &StartArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    sweep::sweep(&place.store, &place.runtime);
    let chosen = match args.all || !args.filter.is_empty() {
        true => all(&place, &args.filter, |found| is_meant(found, &args.filter))?,
        false => args.named.resolve(&place)?,
    };
    if !args.attach && !args.interactive {
        return each(&chosen, &place, "start", |id, _| start(&place, id));
    }
    let [one] = chosen.as_slice() else {
        return Err(Error::new("cannot start several containers with `--attach` or `--interactive`")
            .because("one terminal shows one of them")
            .hint("start them without, and attach to one"));
    };
    let id = one.id(&place)?;
    attach(&place, &id, args)
}

/// Of those that are down. Who chooses by restart policy does what the policies say, and that of `unless-stopped` says
/// that one which a command has stopped stays down.
fn is_meant(found: &Listed, filters: &[String]) -> bool {
    let Some(spec) = found.spec.as_ref().filter(|_| !found.status.is_up()) else { return false };
    let by_policy = filters.iter().any(|filter| filter.starts_with("restart-policy="));
    let stopped = found.state.as_ref().is_some_and(|state| state.stopped_by_user);
    !(by_policy && stopped && spec.restart == Restart::UnlessStopped)
}

fn start(place: &Place, id: &str) -> Result<()> {
    let required = place.store.read_spec(id);
    let started = required
        .and_then(|spec| requires::start_first(&place.store, &place.runtime, &spec))
        .and_then(|()| life::start(&place.store, &place.runtime, id, Caller::Starter, client::caller_size()))
        .and_then(|started| match started {
            Started::Now(connection) => client::until_started(&connection.control),
            Started::Before => not_paused(place, id),
        });
    started.map_err(|error| explain(place, id, error))
}

/// Of one that runs already nothing more is wanted, unless it is frozen.
fn not_paused(place: &Place, id: &str) -> Result<()> {
    let found = list::one(&place.store, id);
    if !found.is_some_and(|found| matches!(found.status, Status::Paused { .. })) {
        return Ok(());
    }
    Err(Error::new("it is paused").hint(format!("let it go on: `sbx unpause {}`", short(id))))
}

fn explain(place: &Place, id: &str, error: Error) -> Error {
    match place.store.read_spec(id) {
        Ok(spec) => life::explain_start(error, &spec),
        Err(_) => error,
    }
}

fn attach(place: &Place, id: &str, args: &StartArgs) -> Result<u8> {
    let spec = place.store.read_spec(id)?;
    let options = client::Options {
        brought_in: false,
        stdin: args.interactive && spec.process.stdin,
        terminal: spec.process.terminal,
        signal_proxy: args.sig_proxy,
        detach_keys: args.detach_keys.clone(),
    };
    requires::start_first(&place.store, &place.runtime, &spec)?;
    let caller = Caller::Guest { stdin: options.stdin };
    match life::start(&place.store, &place.runtime, id, caller, client::caller_size())? {
        Started::Now(connection) => {
            client::serve(connection, &options, || {}).map_err(|error| explain(place, id, error))
        }
        Started::Before => {
            let request =
                crate::monitor::message::Request::Attach { stdin: options.stdin, stdout: true, stderr: true };
            match life::ask(&place.store, &place.runtime, id, &request)? {
                Some(control) => client::attach(control, &options),
                None => Err(life::not_running(id)),
            }
        }
    }
}
