//! Where a root file system comes from. Today: the built-in image `host` and plain directories. An image
//! store resolves its references here into lowers and a configuration; nothing below this folder asks
//! where the lowers came from.

pub mod auth;
pub mod changes;
pub mod digest;
pub mod documents;
pub mod host;
pub mod platform;
pub mod reference;
pub mod registries;
pub mod store;
pub mod transfer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::documents::RunConfig;

/// What the command line names as the source of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Host,
    /// Directories from the lowest to the topmost.
    Directories(Vec<PathBuf>),
    WritableDirectory(PathBuf),
    Image(Unpacked),
}

/// An image whose layers are unpacked in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// As people write it: the familiar name, or what was typed of its ID.
    pub name: String,
    pub id: Digest,
    /// Whose the files are on disk.
    pub key: String,
    /// The diff IDs, the lowest first.
    pub layers: Vec<Digest>,
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
            Self::Image(image) => image.name.clone(),
        }
    }
}

/// What an image says of the command that it runs (OCI image specification, config.md). Directories say nothing.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub stop_signal: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Absolute.
    pub volumes: Vec<PathBuf>,
    /// `80/tcp` and the like.
    pub exposed_ports: Vec<String>,
}

impl From<&RunConfig> for Config {
    fn from(config: &RunConfig) -> Self {
        let unless_empty = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            entrypoint: config.entrypoint.clone().unwrap_or_default(),
            command: config.cmd.clone().unwrap_or_default(),
            env: config.env.clone(),
            // A relative one is below the root, as everything in an image is.
            working_dir: unless_empty(&config.working_dir)
                .map(|path| format!("/{}", path.trim_start_matches('/'))),
            user: unless_empty(&config.user),
            stop_signal: config.stop_signal.as_ref().and_then(unless_empty),
            labels: config.labels.clone(),
            volumes: config.volumes.keys().map(|path| Path::new("/").join(path)).collect(),
            exposed_ports: config.exposed_ports.keys().cloned().collect(),
        }
    }
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
