//! Why a registry did not give what was asked for.

use std::fmt;

use crate::error::Error;

/// What callers tell apart: another candidate for a short name is tried after [`Kind::NotFound`] and
/// [`Kind::Denied`], another mirror after anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The repository, or the tag, digest or upload in it, is not there.
    NotFound,
    /// The registry wants other credentials, or none suffice.
    Denied,
    RateLimited,
    /// No connection, or none that lasts: name, network, time-out, an error of the server.
    Unreachable,
    /// The connection cannot be trusted: certificate, or http where https is wanted.
    Untrusted,
    /// What came is not what was asked for: another digest, fewer or more bytes.
    Damaged,
    /// A document of a kind that sbx does not know.
    UnknownType,
    /// A configuration of this machine forbids it or cannot be read.
    Refused,
    Other,
}

/// An error of one of the kinds; `?` makes a plain [`Error`] of it.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub error: Error,
}

impl Failure {
    pub fn new(kind: Kind, error: Error) -> Self {
        Self { kind, error }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {}
