//! Where a root file system comes from. Today: the built-in image `host` and plain directories. An image
//! store resolves its references here into lowers and a configuration; nothing below this folder asks
//! where the lowers came from.

pub mod changes;
pub mod digest;
pub mod disk;
pub mod document;
pub mod documents;
pub mod filter;
pub mod history;
pub mod host;
pub mod pattern;
pub mod reference;
pub mod removal;
pub mod store;
pub mod usage;

use std::path::PathBuf;

use crate::error::{Error, Result};

/// What the command line names as the source of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Host,
    /// Directories from the lowest to the topmost.
    Directories(Vec<PathBuf>),
    WritableDirectory(PathBuf),
}

impl Source {
    /// As `sbx ps` shows it.
    pub fn word(&self) -> String {
        match self {
            Self::Host => "host".to_owned(),
            Self::Directories(paths) => {
                paths.last().map(|path| path.display().to_string()).unwrap_or_default()
            }
            Self::WritableDirectory(path) => path.display().to_string(),
        }
    }
}

/// What an image says of the command that it runs (OCI image specification, config.md). The sources of
/// today say nothing.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub stop_signal: Option<String>,
}

/// The source of the root, what it says of its command, and the words of the command.
///
/// # Errors
/// No image and no root, or an image that is not to be had.
pub fn source(
    rootfs: &[PathBuf],
    writable: Option<&PathBuf>,
    mut words: Vec<String>,
) -> Result<(Source, Config, Vec<String>)> {
    if let Some(path) = writable {
        return Ok((Source::WritableDirectory(path.clone()), Config::default(), words));
    }
    if !rootfs.is_empty() {
        return Ok((Source::Directories(rootfs.to_vec()), Config::default(), words));
    }
    if words.is_empty() {
        return Err(Error::new("cannot run a container without an image")
            .hint("`sbx run host COMMAND` takes the system of this machine, `--rootfs DIR` a directory"));
    }
    let name = words.remove(0);
    let (source, config) = resolve(&name)?;
    Ok((source, config, words))
}

/// Resolves an image name.
///
/// # Errors
/// Every name but `host`: there is no image store yet.
fn resolve(name: &str) -> Result<(Source, Config)> {
    if name == "host" {
        return Ok((Source::Host, host::config()));
    }
    Err(Error::new(format!("cannot run the image `{name}`"))
        .because("images from registries and archives are not supported yet")
        .hint(
            "use the built-in image `host`, or `--rootfs DIR` with a directory that holds a root file system",
        ))
}
