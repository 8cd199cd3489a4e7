//! `sbx start`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Named, all, each};
use crate::client;
use crate::container::life::{self, Started};
use crate::container::sweep;
use crate::error::{Error, Result};
use crate::monitor::Caller;

/// Start containers that are down
///
/// Each is printed as it was typed once its command runs; one that runs already is left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx start web db
  sbx start --attach --interactive build
  sbx start --all")]
pub struct StartArgs {
    #[command(flatten)]
    named: Named,
    /// All containers that are down
    #[arg(long, conflicts_with_all = ["containers", "latest"])]
    all: bool,
    /// Connect the output, and forward signals; the exit code is the container's
    #[arg(short, long)]
    attach: bool,
    /// Connect standard input, too
    #[arg(short, long)]
    interactive: bool,
    /// Forward signals to the command; with `--attach`
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

pub fn execute(args: &StartArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    sweep::sweep(&place.store, &place.runtime);
    let chosen = match args.all {
        true => all(&place, |found| !found.status.is_up() && found.spec.is_some()),
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

fn start(place: &Place, id: &str) -> Result<()> {
    let started = life::start(&place.store, &place.runtime, id, Caller::Starter, client::caller_size())
        .and_then(|started| match started {
            Started::Now(connection) => client::until_started(&connection.control),
            Started::Before => Ok(()),
        });
    started.map_err(|error| explain(place, id, error))
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
        stdin: args.interactive && spec.process.stdin,
        terminal: spec.process.terminal,
        signal_proxy: args.sig_proxy,
    };
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
