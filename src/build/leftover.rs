//! Containers of builds that were killed: their names say whose they are, and the next build removes them.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::container::process::ProcessRef;
use crate::container::store::Store;
use crate::container::{name, sweep};
use crate::error::{Error, Result};

const PREFIX: &str = "build-";
/// How long the containers of a killed process may take to end.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);

/// A new name for a container of this process.
///
/// # Errors
/// The kernel gives no random bytes, or /proc is not to be read.
pub fn name() -> Result<String> {
    let own = ProcessRef::of(std::process::id().cast_signed())
        .ok_or_else(|| Error::new("cannot find this process in /proc"))?;
    let random = name::random_id()?;
    Ok(format!("{PREFIX}{}-{}-{}", own.pid, own.start, &random[..8]))
}

/// The process that a container is of.
fn builder_of(name: &str) -> Option<ProcessRef> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let pid = parts.next()?.parse().ok()?;
    let start = parts.next()?.parse().ok()?;
    let random = parts.next()?;
    let is_ours =
        parts.next().is_none() && random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit());
    is_ours.then_some(ProcessRef { pid, start })
}

/// As [`remove`], and waits until the containers of processes that have just been killed have ended.
pub fn remove_patiently(store: &Store, runtime: &Path) {
    let until = Instant::now() + PATIENCE;
    while remove(store, runtime) > 0 && Instant::now() < until {
        std::thread::sleep(PAUSE);
    }
}

/// Removes the containers of builds that are no more, and tells how many are still running.
pub fn remove(store: &Store, runtime: &Path) -> usize {
    let mut left = 0;
    let names = std::fs::read_dir(store.root().join("names")).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(builder) = builder_of(&name) else { continue };
        if builder.is_alive() {
            continue;
        }
        let removed = store.find(&name).and_then(|id| {
            sweep::put_in_order_if_abandoned(store, &id, runtime);
            sweep::remove_stopped(store, &id, runtime)
        });
        if let Err(error) = removed {
            log::debug!("cannot remove the container `{name}` of an earlier build: {error}");
            left += 1;
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_a_container_is() {
        let own = name().unwrap();
        assert!(builder_of(&own).unwrap().is_alive(), "{own}");
        for other in ["build-x", "build-1-2", "build-1-2-zzzzzzzz", "my-1-2-01234567", "build-1-2-01234567-x"]
        {
            assert!(builder_of(other).is_none(), "{other}");
        }
        assert!(!builder_of("build-1-1-01234567").unwrap().is_alive());
    }
}
