//! What builds leave that were killed, containers and directories with secrets and with what was fetched: the names say whose they are, and the
//! next build removes them.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::build::fetch::scratch;
use crate::cli::rm;
use crate::container::name;
use crate::container::process::ProcessRef;
use crate::container::store::Store;
use crate::container::sweep::{self, Volumes};
use crate::error::{Error, Result};
use crate::layers::remove;

const PREFIX: &str = "build-";
/// How long the containers of a killed process may take to end.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);

/// A new name for a container or a directory of this process.
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

/// Removes a container whose command has ended. Other commands look at what does not run, and hold its lock meanwhile.
///
/// # Errors
/// As of [`sweep::remove_stopped`].
pub fn remove_own(store: &Store, id: &str, runtime: &Path) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match sweep::remove_stopped(store, id, runtime) {
            Err(error) if error.code() == sweep::RUNNING && Instant::now() < until => {
                std::thread::sleep(PAUSE);
            }
            removed => return removed,
        }
    }
}

/// Whether a container of this name is a step of a build that goes on: it needs the container's files when the command
/// has ended.
pub fn is_in_use(name: &str) -> bool {
    builder_of(name).is_some_and(ProcessRef::is_alive)
}

/// Ends and removes the containers of builds that are no more.
pub fn remove(store: &Store, runtime: &Path) {
    // Who was killed while it made or removed one may have left it without its name.
    sweep::sweep(store, runtime);
    // The monitor of one that was killed a moment ago may not be done with it.
    let until = Instant::now() + PATIENCE;
    while !remove_of_dead(store, runtime) && Instant::now() < until {
        std::thread::sleep(PAUSE);
    }
}

/// False where one of their containers is still there that may be gone in a moment. The directories of their own go with
/// them.
fn remove_of_dead(store: &Store, runtime: &Path) -> bool {
    let mut all = true;
    let fetched = store.root().join(scratch::DIRECTORY);
    let directories = [runtime, &fetched].map(std::fs::read_dir);
    for entry in directories.into_iter().flatten().flatten().flatten() {
        let builder = entry.file_name().to_str().and_then(builder_of);
        if builder.is_some_and(|builder| !builder.is_alive())
            && let Err(error) = remove::own(&entry.path())
        {
            log::debug!("cannot remove `{}` of an earlier build: {error}", entry.path().display());
        }
    }
    let names = std::fs::read_dir(store.root().join("names")).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        if builder_of(&name).is_none_or(ProcessRef::is_alive) {
            continue;
        }
        if let Err(error) = rm::remove(store, runtime, &name, (Some(0), true), Volumes::Go) {
            log::debug!("cannot remove the container `{name}` of an earlier build: {error}");
            all &= error.is_lasting();
        }
    }
    all
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
