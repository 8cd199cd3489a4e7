//! Where a root file system comes from. Today: the built-in image `host` and plain directories. An image
//! store resolves its references here into lowers and a configuration; nothing below this folder asks
//! where the lowers came from.

pub mod auth;
pub mod changes;
pub mod difference;
pub mod digest;
pub mod disk;
pub mod document;
pub mod documents;
pub mod filter;
pub mod history;
pub mod host;
pub mod pattern;
pub mod platform;
pub mod reference;
pub mod registries;
pub mod removal;
pub mod resolve;
pub mod store;
pub mod transfer;
pub mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container::health::plan::OfImage;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::documents::RunConfig;
use crate::image::store::SharedLock;
use crate::layers::store::{MapKey, Stacked};

/// The machine's own system.
pub const BUILT_IN: &str = "host";

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
    /// How the owners of files are kept on disk.
    pub key: MapKey,
    pub stacked: Stacked,
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

/// The source of a root, found.
pub struct Resolved {
    pub source: Source,
    pub config: Config,
    /// No collector takes the image away while this is held: until it stands in the record of a container.
    pub lock: Option<SharedLock>,
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
    pub health: Option<OfImage>,
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
            health: OfImage::read(config.other.get("Healthcheck")),
        }
    }
}

/// The source of the root and what it says of its command. Of `words`, the image's name is taken; `resolve` finds
/// the image.
///
/// # Errors
/// No image and no root, or an image that is not to be had.
pub fn source(
    rootfs: &[PathBuf],
    writable: Option<&PathBuf>,
    words: &mut Vec<String>,
    resolve: impl FnOnce(&str) -> Result<Resolved>,
) -> Result<Resolved> {
    let of_directories = |source| Ok(Resolved { source, config: Config::default(), lock: None });
    if let Some(path) = writable {
        return of_directories(Source::WritableDirectory(path.clone()));
    }
    if !rootfs.is_empty() {
        return of_directories(Source::Directories(rootfs.to_vec()));
    }
    if words.is_empty() {
        return Err(Error::new("cannot run a container without an image")
            .hint("`sbx run IMAGE` takes an image of a registry, `sbx run host COMMAND` the system of this machine, `--rootfs DIR` a directory"));
    }
    let name = words.remove(0);
    // An image of that name in a registry is `docker.io/library/host`.
    if name == BUILT_IN {
        return Ok(Resolved { source: Source::Host, config: host::config(), lock: None });
    }
    resolve(&name)
}
