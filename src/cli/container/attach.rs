//! `sbx attach`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::Named;
use crate::client;
use crate::client::keys::DetachKeys;
use crate::container::life;
use crate::container::list::{self, Status};
use crate::error::{Error, Result};
use crate::monitor::message::Request;

/// Connect to a container that runs
///
/// What it writes from now on is shown, what is typed goes to it where it was made with `-i`, and signals go to its first
/// process. Several may be connected at once. On a terminal the detach keys leave it running; the exit code is the
/// container's otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx attach web
  sbx attach --no-stdin --sig-proxy=false web
  sbx attach --detach-keys ctrl-x,x shell")]
pub struct AttachArgs {
    #[command(flatten)]
    named: Named,
    /// Leave standard input alone
    #[arg(long)]
    no_stdin: bool,
    /// Keys that leave the container running; an empty text: there are none
    #[arg(long, value_name = "KEYS", default_value = client::keys::DEFAULT)]
    detach_keys: DetachKeys,
    /// Forward signals to the command
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

pub fn execute(args: &AttachArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let chosen = args.named.resolve(&place)?;
    let [one] = chosen.as_slice() else {
        return Err(
            Error::new("cannot attach to several containers").because("one terminal shows one of them")
        );
    };
    let failed = || format!("cannot attach to the container `{}`", one.word);
    let id = one.id(&place).map_err(|error| error.while_doing(failed()))?;
    let spec = place.store.read_spec(&id)?;
    let stopped = || {
        Error::new(failed())
            .because("it is not running")
            .hint(format!("start it first: `sbx start --attach {}`", one.word))
    };
    match list::one(&place.store, &id).map(|found| found.status) {
        Some(Status::Running { .. }) => {}
        Some(Status::Paused { .. }) => {
            return Err(Error::new(failed())
                .because("it is paused")
                .hint(format!("let it go on first: `sbx unpause {}`", one.word)));
        }
        Some(Status::Restarting { .. }) => {
            return Err(Error::new(failed())
                .because("it is restarting")
                .hint(format!("wait until it runs: `sbx wait --condition=running {}`", one.word)));
        }
        _ => return Err(stopped()),
    }
    let options = client::Options {
        stdin: spec.process.stdin && !args.no_stdin,
        terminal: spec.process.terminal,
        signal_proxy: args.sig_proxy,
        detach_keys: args.detach_keys.clone(),
        brought_in: false,
    };
    let request = Request::Attach { stdin: options.stdin, stdout: true, stderr: true };
    let control = life::ask(&place.store, &place.runtime, &id, &request)?.ok_or_else(stopped)?;
    client::attach(control, &options)
}
