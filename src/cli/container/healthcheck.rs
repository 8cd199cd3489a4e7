//! `sbx healthcheck`

use clap::Subcommand;

use crate::cli::Global;
use crate::cli::container::Place;
use crate::container::life;
use crate::error::{Error, Result};
use crate::monitor::message::{Request, ToClient};
use crate::output::print;

/// Make health checks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx healthcheck run web
  sbx ps --filter health=unhealthy")]
pub struct HealthcheckArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(RunArgs),
}

/// Make a container's health check now
///
/// The exit code is 0 where the check succeeds, 1 where it does not: then `unhealthy` is printed, too. It counts like
/// those that are made at intervals; `sbx inspect` shows the last ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx healthcheck run web
  sbx run -d --name web --health-cmd 'wget -q -O /dev/null localhost' --health-interval 10s nginx
  sbx inspect -f '{{.State.Health.Status}}' web")]
pub struct RunArgs {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Exit with 0 whatever comes of the check
    #[arg(long)]
    ignore_result: bool,
}

pub fn execute(args: &HealthcheckArgs, global: &Global) -> Result<u8> {
    match &args.verb {
        Verb::Run(args) => run(args, global),
    }
}

fn run(args: &RunArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let id = place.store.find(&args.container)?;
    if place.store.read_spec(&id)?.health.is_none() {
        return Err(Error::new(format!("cannot check container `{}`", args.container))
            .because("it has no health check")
            .hint("`sbx run --health-cmd COMMAND` makes containers that have one"));
    }
    let asked = life::ask(&place.store, &place.runtime, &id, &Request::Health)?;
    let channel = asked.ok_or_else(|| life::not_running(&id))?;
    loop {
        match channel.receive() {
            Ok(Some((ToClient::Exited { code: 0, .. }, _))) => return Ok(0),
            Ok(Some((ToClient::Exited { .. }, _))) => {
                print::line("unhealthy")?;
                return Ok(u8::from(!args.ignore_result));
            }
            Ok(Some((ToClient::Failed(error), _))) => return Err(error),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err(life::not_running(&id)),
        }
    }
}
