//! `volume.json`: what is known of a volume. Written once, before the volume appears.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sys::time::Utc;

/// The only driver there is: a directory of the store.
pub const DRIVER: &str = "local";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub name: String,
    pub driver: String,
    /// RFC 3339.
    pub created: String,
    pub labels: BTreeMap<String, String>,
    /// `volume create -o KEY=VALUE`.
    pub options: BTreeMap<String, String>,
    /// Made for a container that gave it no name, and removed with the last container that has it.
    pub anonymous: bool,
    /// The container that an anonymous volume was made for: its spec may never have been written.
    pub made_for: Option<String>,
}

impl Record {
    /// Of a volume that is made now.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            driver: DRIVER.to_owned(),
            created: Utc::now().to_string(),
            ..Self::default()
        }
    }

    /// The moment of [`Self::created`], where that is one.
    pub fn created_at(&self) -> Option<jiff::Timestamp> {
        self.created.parse().ok()
    }
}
