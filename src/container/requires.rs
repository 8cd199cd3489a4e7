//! `--requires`: containers that have to run before another does.

use std::path::Path;

use crate::client;
use crate::container::life::{self, Started};
use crate::container::spec::Spec;
use crate::container::store::{Store, short};
use crate::error::{Error, Result};
use crate::monitor::Caller;

/// A chain of requirements cannot be circular, since each container requires those that were there before it.
const DEEPEST: usize = 100;

/// Starts what a container requires and what that requires in turn, the deepest first, and returns when all of it runs.
///
/// # Errors
/// One of them is gone, or does not start.
pub fn start_first(store: &Store, runtime: &Path, spec: &Spec) -> Result<()> {
    descend(store, runtime, spec, 0)
}

fn descend(store: &Store, runtime: &Path, spec: &Spec, depth: usize) -> Result<()> {
    for id in &spec.requires {
        let failed = |error: Error| {
            error.while_doing(format!("cannot start container {}, which is required", short(id)))
        };
        if depth == DEEPEST {
            return Err(failed(Error::new("too many containers require one another")));
        }
        let required = store.read_spec(id).map_err(failed)?;
        descend(store, runtime, &required, depth + 1)?;
        let started =
            life::start(store, runtime, id, Caller::Starter, None).and_then(|started| match started {
                Started::Now(connection) => client::until_started(&connection.control),
                Started::Before => Ok(()),
            });
        started.map_err(failed)?;
    }
    Ok(())
}
