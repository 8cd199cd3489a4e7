//! The verbs that have to do with registries and no image.

pub mod login;
pub mod logout;
mod prompt;
pub mod search;

use crate::error::Result;
use crate::image::auth;
use crate::image::registries::Registries;

/// The registry that was named, or where names are looked for first; with the namespace, if there is one, as
/// credentials are kept under it.
fn key_of(named: Option<&str>, registries: &Registries) -> Result<String> {
    match named {
        Some(text) => auth::key(text),
        None => Ok(registries.search().first().map_or("docker.io", |registry| *registry).to_owned()),
    }
}
