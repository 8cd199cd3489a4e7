//! Moving whole images: between registries and the store, archives and the store.
//!
//! What makes layers runs in a child of its own ([`unpacker`]); what only reads the store does not.

mod ahead;
pub mod archive;
pub mod commit;
pub mod convert;
pub mod ensure;
pub mod import;
pub mod layer;
pub mod layout;
pub mod load;
pub mod made;
pub mod pull;
pub mod push;
pub mod save;
pub mod session;
pub mod unpacker;
mod workers;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::identity::{self, Caller, Host, Identity, Tier};
use crate::layers::store::MapKey;

pub use ensure::{Policy, ensure};

/// Where images go to: a store, and the way in which their owners are kept there.
#[derive(Debug, Clone)]
pub struct Place {
    pub store: PathBuf,
    pub identity: Identity,
    /// Decided before any namespace is entered: there some file systems would answer otherwise.
    key: MapKey,
}

impl Place {
    /// The store, with the canonical maps of the caller's best tier, or of `tier`.
    ///
    /// # Errors
    /// The tier is not to be had, or the store cannot be made.
    pub fn of(store: &Path, tier: Option<Tier>) -> Result<Self> {
        let request = identity::Request { tier, ..identity::Request::default() };
        let identity = identity::plan(&request, &Caller::current(&Host::system())?)?;
        crate::host::paths::create_store(store)?;
        Ok(Self::with(store, identity))
    }

    /// The store, which exists, with the maps of a container.
    pub fn with(store: &Path, identity: Identity) -> Self {
        let key = MapKey::of(&identity, store);
        Self { store: store.to_owned(), identity, key }
    }

    pub fn key(&self) -> &MapKey {
        &self.key
    }
}
