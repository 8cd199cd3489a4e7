//! `sbx wait`

use std::time::Duration;

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::Named;
use crate::cli::failures::Failures;
use crate::container::list::{self, Status};
use crate::container::{duration, life};
use crate::error::{Error, Result};
use crate::output::print;

/// What a condition without an exit code prints (podman-wait(1)).
const NO_CODE: i32 = -1;

/// Wait until containers are down
///
/// Prints the exit code of each. With `--condition` the command waits for that state instead, and prints -1 where there
/// is no exit code.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Conditions: created, configured, running, paused, restarting, exited, stopped, removed, \
                        dead, healthy, unhealthy.

Examples:
  sbx wait web
  sbx wait --condition running web"
)]
pub struct WaitArgs {
    #[command(flatten)]
    named: Named,
    /// State to wait for; given again: any of them
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    condition: Vec<String>,
    /// Time between two looks at the state, such as `100ms`
    #[arg(short, long, value_name = "TIME", default_value = "250ms")]
    interval: String,
    /// Print -1 for containers that do not exist
    #[arg(long)]
    ignore: bool,
}

/// States, and what podman and docker call them besides.
const CONDITIONS: &[(&str, &[&str])] = &[
    ("created", &["created", "configured", "initialized"]),
    ("running", &["running"]),
    ("paused", &["paused"]),
    ("restarting", &["restarting"]),
    ("exited", &["exited", "stopped", "not-running", "next-exit", "stopping"]),
    ("removed", &["removed", "removing"]),
    ("dead", &["dead"]),
    ("healthy", &["healthy"]),
    ("unhealthy", &["unhealthy"]),
];

pub fn execute(args: &WaitArgs, global: &Global) -> Result<u8> {
    let conditions = args.condition.iter().map(|word| condition(word)).collect::<Result<Vec<_>>>()?;
    let interval = interval(&args.interval)?;
    let place = Place::of(global)?;
    let mut failures = Failures::default();
    for one in args.named.resolve(&place)? {
        let waited = match one.id(&place) {
            Ok(id) if conditions.is_empty() => down(&place, &id),
            Ok(id) => reach(&place, &id, &conditions, interval),
            Err(_) if args.ignore => Ok(NO_CODE),
            Err(error) => Err(error),
        };
        match waited {
            Ok(code) => {
                print::line(&code.to_string())?;
            }
            Err(error) => {
                failures.add(error.while_doing(format!("cannot wait for container `{}`", one.word)));
            }
        }
    }
    failures.finish()
}

fn condition(word: &str) -> Result<&'static str> {
    let found = CONDITIONS.iter().find(|(_, names)| names.contains(&word));
    found.map(|(name, _)| *name).ok_or_else(|| {
        let names: Vec<&str> = CONDITIONS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        Error::new(format!("cannot wait for the condition `{word}`"))
            .hint(format!("there are: {}", names.join(", ")))
    })
}

/// A bare number is milliseconds (podman-wait(1), --interval).
fn interval(text: &str) -> Result<Duration> {
    match text.parse::<u64>() {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => duration::parse("--interval", text),
    }
}

/// The exit code of the life that goes on now, or of the last.
fn down(place: &Place, id: &str) -> Result<i32> {
    loop {
        if let Some(code) = life::wait(&place.store, &place.runtime, id)? {
            return Ok(code);
        }
        match list::one(&place.store, id).map(|found| found.status) {
            Some(Status::Exited { code, .. } | Status::Restarting { code, .. }) => return Ok(code),
            Some(Status::Created) => return reach(place, id, &["exited"], Duration::from_millis(250)),
            // Its monitor takes no requests any more, and has not yet written how it ended.
            Some(Status::Running { .. } | Status::Paused { .. }) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Some(Status::Removing | Status::Dead) | None => return Ok(NO_CODE),
        }
    }
}

fn reach(place: &Place, id: &str, conditions: &[&str], interval: Duration) -> Result<i32> {
    loop {
        let Some(found) = list::one(&place.store, id) else {
            return match conditions.contains(&"removed") || conditions.contains(&"exited") {
                true => Ok(NO_CODE),
                false => Err(Error::new("it is not there any more")),
            };
        };
        let health =
            found.health.as_ref().filter(|_| found.status.is_up()).map(|health| health.status.name());
        if health.is_some_and(|health| conditions.contains(&health)) {
            return Ok(NO_CODE);
        }
        if conditions.contains(&found.status.name()) {
            return Ok(match found.status {
                Status::Exited { code, .. } => code,
                _ => NO_CODE,
            });
        }
        std::thread::sleep(interval);
    }
}
