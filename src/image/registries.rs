//! Which registries there are and how they are reached (containers-registries.conf(5), version 2).

use crate::error::Result;
use crate::image::reference::Reference;

/// All files of the configuration, as one.
#[derive(Debug, Clone, Default)]
pub struct Registries {}

impl Registries {
    /// The system's and the caller's files.
    ///
    /// # Errors
    /// One cannot be read or understood; file and line are named.
    pub fn load() -> Result<Self> {
        Ok(Self::default())
    }

    /// What a name may stand for, in the order in which it is to be tried. One that names its registry stands for
    /// itself.
    ///
    /// # Errors
    /// The text is no name, or is ambiguous where `short-name-mode` wants it to be clear.
    pub fn resolve_short(&self, text: &str) -> Result<Vec<Reference>> {
        Ok(vec![Reference::parse(text)?.or_latest()])
    }
}
