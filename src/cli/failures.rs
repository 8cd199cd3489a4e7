//! What failed of a command that acts on many things: each failure is told, and one exit code stands for all.

use crate::error::{Error, Result};

/// podman's exit code where what was named does not exist, and nothing else failed (podman-rmi(1)).
pub(crate) const MISSING: u8 = 1;

#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<Error>);

impl Failures {
    pub(crate) fn add(&mut self, error: Error) {
        self.0.push(error);
    }

    /// What was got, or none where that failed.
    pub(crate) fn note<T>(&mut self, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|error| self.add(error)).ok()
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// # Errors
    /// The gravest failure, once the others have been told.
    pub(crate) fn finish(mut self) -> Result<u8> {
        // The codes 1, 2 and 125 are in this order.
        let Some(gravest) = self.0.iter().map(Error::code).max() else { return Ok(0) };
        let at = self.0.iter().rposition(|error| error.code() == gravest).unwrap_or(0);
        let last = self.0.remove(at);
        for other in self.0 {
            eprint!("{}", super::report(&other));
        }
        Err(last)
    }
}
