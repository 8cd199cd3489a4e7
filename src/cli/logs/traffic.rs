//! `sbx logs --network`: what containers with an allow-list have tried to reach.

use std::cmp::Ordering;

use crate::container::store::{Store, short};
use crate::error::{Error, Result};
use crate::logs::when::Bound;
use crate::network::bridge::allow::log;
use crate::output::{harmless, print};

/// Why not all records are shown.
enum Stop {
    /// Whoever reads has seen enough.
    Unread,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Shows the records of each container, the oldest first, between two bounds.
///
/// # Errors
/// A container has no list, or its log cannot be read.
pub(super) fn show(
    store: &Store,
    chosen: &[(String, String)],
    bounds: &(Option<Bound>, Option<Bound>),
    json: bool,
) -> Result<u8> {
    for (word, id) in chosen {
        let failed = || format!("cannot show what the container `{word}` has tried to reach");
        let spec = store.read_spec(id).map_err(|error| error.while_doing(failed()))?;
        if spec.network.allowed.is_none() {
            return Err(Error::new(failed())
                .because("that is recorded for containers with `--net-allow` alone")
                .hint("`sbx run --net-allow HOST:PORT …` makes one"));
        }
        let prefix = if chosen.len() > 1 { format!("{} ", short(id)) } else { String::new() };
        let path = store.directory_of(&spec).network_log();
        let read = log::read(&path, |record| {
            let time = record.time.to_string();
            let is = |bound: &Option<Bound>, side: Ordering| {
                bound.as_ref().is_some_and(|bound| bound.compare(time.as_bytes()) == Some(side))
            };
            if is(&bounds.0, Ordering::Less) || is(&bounds.1, Ordering::Greater) {
                return Ok(());
            }
            let line = match json {
                true => record.line(),
                // The names are what a container asked for.
                false => format!("{prefix}{}", harmless::line(&record.to_string())),
            };
            match print::line(&line)? {
                print::Reader::Listening => Ok(()),
                print::Reader::Gone => Err(Stop::Unread),
            }
        });
        match read {
            Ok(()) => {}
            Err(Stop::Unread) => return Ok(0),
            Err(Stop::Failed(error)) => return Err(error.while_doing(failed())),
        }
    }
    Ok(0)
}
