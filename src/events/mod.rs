//! What happens to containers, images, volumes, secrets and pods, for `sbx events`.
//!
//! Who does something appends one line to a file in the runtime directory; who wants to know reads it. There is no
//! daemon that would tell, and what a reboot loses nobody asks for: the records of containers say how they are.

pub mod document;
mod event;
mod file;
pub mod filter;
pub mod watch;

use std::path::Path;

pub use event::{Action, Event, Kind};
pub use file::Follower;

use crate::host::paths;

/// Appends an event of the store `store` to the file of the user's runtime directory `runtime`: one stat, one open, one
/// write. It never fails what it tells of: what cannot be written is told at `--log-level debug` alone.
#[allow(clippy::needless_pass_by_value, reason = "an event is told once")]
pub fn record(store: &Path, runtime: &Path, event: Event) {
    if let Err(error) = file::append(store, runtime, &event) {
        log::debug!("cannot record the event `{} {}`: {error}", event.kind.word(), event.action.podman());
    }
}

/// The same where the runtime directory is not at hand.
pub fn record_here(store: &Path, event: Event) {
    match paths::runtime(&paths::Surroundings::current()) {
        Ok(runtime) => record(store, &runtime.path, event),
        Err(error) => log::debug!("cannot record an event: {error}"),
    }
}
