//! Room for what a build fetches: a directory whose name says which process made it, so that the next build removes what
//! a killed one left ([`crate::build::leftover`]).

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::build::leftover;
use crate::container::store::no_room;
use crate::error::Result;
use crate::host::paths;
use crate::layers::remove;

/// Below the store.
pub const DIRECTORY: &str = "build/work";

/// A directory of this process, mode 0700, which is removed when nobody needs it any more.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// There is no room.
    pub fn new(store: &Path) -> Result<Self> {
        paths::create_store(store)?;
        let path = store.join(DIRECTORY).join(leftover::name()?);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| no_room(error, format!("cannot make `{}`", path.display())))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A new directory in it.
    ///
    /// # Errors
    /// There is no room, or the name is taken.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path).map_err(|error| no_room(error, format!("cannot make `{}`", path.display())))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove::own(&self.0) {
            log::debug!("cannot remove `{}`: {error}", self.0.display());
        }
    }
}
