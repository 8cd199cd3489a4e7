//! Everything between sbx and a registry (OCI distribution specification 1.1, docker's registry API version 2):
//! connections, authorization, retries, and the requests of pull, push, login and search. Blocking, so that the
//! caller decides about threads, and none are started here.

mod agents;
mod authorizer;
mod blobs;
pub mod challenge;
mod client;
mod connector;
pub mod download;
mod endpoint;
mod exchange;
mod failure;
mod listings;
mod manifests;
mod ping;
mod proxy;
mod resolve;
mod retry;
mod tls;
mod uploads;
mod url;

pub use blobs::BlobReader;
pub use client::{Client, Options};
pub use endpoint::Endpoint;
pub use failure::{Failure, Kind};
pub use listings::Hit;
pub use manifests::{Fetched, kind_of};
pub use uploads::Upload;

/// What a request to a registry gives.
pub type Outcome<T> = std::result::Result<T, Failure>;
