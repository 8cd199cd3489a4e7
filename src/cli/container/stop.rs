//! `sbx stop`

use std::time::Duration;

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Chosen, Selection, each};
use crate::container::{life, signal, sweep};
use crate::error::{Error, Result};

/// Stop containers
///
/// Each gets its stop signal, and SIGKILL when the time is over; it is printed as it was typed once it is down. One
/// that is down already is no error. A container that was stopped is not started again by its restart policy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx stop web
  sbx stop -t 0 web db
  sbx stop --all")]
pub struct StopArgs {
    #[command(flatten)]
    selection: Selection,
    /// Seconds until SIGKILL, -1: never; default: as the container was made
    #[arg(
        short,
        long = "time",
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<String>,
    /// Signal to send instead of the container's own
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Pass over containers that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// As when the machine goes down: `--restart unless-stopped` does not take it for a wish that they stay down
    #[arg(long, conflicts_with_all = ["time", "signal"])]
    shutdown: bool,
}

pub fn execute(args: &StopArgs, global: &Global) -> Result<u8> {
    let timeout = args.time.as_deref().map(|text| seconds("--time", text)).transpose()?;
    let signal = args.signal.as_deref().map(|text| signal::parse("--signal", text)).transpose()?;
    let place = Place::of(global)?;
    let mut chosen = args.selection.resolve(&place, |found| found.status.is_up())?;
    if args.ignore {
        chosen.retain(|one| one.id(&place).is_ok());
    }
    if args.shutdown {
        return shut_down(&chosen, &place);
    }
    each(&chosen, &place, "stop", |id, _| {
        life::stop(&place.store, &place.runtime, id, timeout, signal).map(|_| ())
    })
}

/// All at once, since there may be little time.
fn shut_down(chosen: &[Chosen], place: &Place) -> Result<u8> {
    let monitors: Vec<_> = chosen
        .iter()
        .filter_map(|one| life::monitor_of(&place.store, &one.id(place).ok()?))
        .filter(|monitor| monitor.signal(libc::SIGTERM).is_ok())
        .collect();
    for monitor in monitors {
        while !monitor.ends_within(Duration::from_secs(60)) {}
    }
    each(chosen, place, "stop", |id, _| {
        sweep::put_in_order_if_abandoned(&place.store, id, &place.runtime);
        Ok(())
    })
}

/// Seconds to wait; -1 is for ever.
///
/// # Errors
/// It is no number.
pub fn seconds(flag: &str, text: &str) -> Result<u64> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(u64::MAX),
        Ok(seconds @ 0..) => Ok(seconds.cast_unsigned()),
        _ => Err(Error::new(format!("cannot use `{flag} {text}`"))
            .hint("write seconds, such as `10`, or -1 to wait without end")),
    }
}
