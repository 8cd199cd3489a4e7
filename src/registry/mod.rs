//! Everything between sbx and a registry (OCI distribution specification 1.1, docker's registry API version 2):
//! connections, authorization, retries, and the requests of pull, push, login and search. Blocking, so that the
//! caller decides about threads, and none are started here.

mod client;
mod failure;

pub use client::{BlobReader, Client, Endpoint, Fetched, Options, Upload};
pub use failure::{Failure, Kind};

/// What a request to a registry gives.
pub type Outcome<T> = std::result::Result<T, Failure>;
