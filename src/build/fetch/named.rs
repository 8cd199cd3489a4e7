//! `--build-context NAME=…`: directories, images and sources on the network under names of their own, or in place of
//! stages and images.

use std::path::PathBuf;

use crate::build::context::Context;
use crate::build::fetch::context::{Fetched, Means, Remote, fetch, ignore_of};
use crate::build::tree::Tree;
use crate::error::{Error, Result, Step};
use crate::image::transfer::layout::Layout;

/// A registry's, or the store's; the last one is podman's.
const IMAGES: [&str; 3] = ["docker-image://", "docker://", "container-image://"];
/// A directory as oci-image-layout has it.
const LAYOUT: &str = "oci-layout://";

/// A context as it was named; nothing was fetched yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Directory(PathBuf),
    /// The reference of an image.
    Image(String),
    /// As it was written, and what that means.
    Layout(String, Layout),
    Remote(Remote),
}

/// A context that is there.
#[derive(Debug)]
pub enum Available {
    Files(Context),
    /// A name of the build's images.
    Image(String),
}

impl Named {
    /// # Errors
    /// It is no directory, image or address.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        let failed = || format!("cannot use the context `{name}={}`", text.escape_debug());
        if let Some(image) = IMAGES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            return match image.is_empty() {
                true => Err(Error::new(failed()).because("it names no image")),
                false => Ok(Self::Image(image.to_owned())),
            };
        }
        if let Some(layout) = text.strip_prefix(LAYOUT) {
            let layout = Layout::read(layout).map_err(|error| error.while_doing(failed()))?;
            return Ok(Self::Layout(text.to_owned(), layout));
        }
        let path = std::path::Path::new(text);
        if !path.exists()
            && let Some(remote) = Remote::read(text).map_err(|error| error.while_doing(failed()))?
        {
            return Ok(Self::Remote(remote));
        }
        if text.contains("://") {
            return Err(Error::new(failed()).because("there are no such contexts").hint(
                "there are: a directory, `docker-image://IMAGE`, `oci-layout://DIRECTORY:TAG`, a git repository, the URL of an archive",
            ));
        }
        let directory = path.canonicalize().step(failed)?;
        match directory.is_dir() {
            true => Ok(Self::Directory(directory)),
            false => Err(Error::new(failed()).because("it is no directory")),
        }
    }

    /// The name by which the build knows its image.
    pub fn image(&self) -> Option<&str> {
        match self {
            Self::Image(name) | Self::Layout(name, _) => Some(name),
            _ => None,
        }
    }

    pub fn layout(&self) -> Option<&Layout> {
        match self {
            Self::Layout(_, layout) => Some(layout),
            _ => None,
        }
    }

    /// Fetches what is to be fetched.
    ///
    /// # Errors
    /// It is not to be had, or holds no files.
    pub fn fetch(&self, name: &str, means: &Means<'_>) -> Result<Available> {
        let failed = || format!("cannot use the context `{name}`");
        let (directory, scratch) = match self {
            Self::Image(name) | Self::Layout(name, _) => return Ok(Available::Image(name.clone())),
            Self::Directory(directory) => (directory.clone(), None),
            Self::Remote(remote) => {
                match fetch(remote, means).map_err(|error| error.while_doing(failed()))? {
                    Fetched::Directory(directory, scratch) => (directory, Some(scratch)),
                    Fetched::File(_) => {
                        return Err(Error::new(failed()).because("what its URL names is no archive"));
                    }
                }
            }
        };
        let ignore = ignore_of(&Tree::of_directory(&directory)?, None)?;
        Ok(Available::Files(Context { directory: Some(directory), ignore, scratch }))
    }
}
