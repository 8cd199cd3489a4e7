//! `index.json`: which images there are, and under which names.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::files;
use crate::error::{Error, Result};
use crate::image::documents::{Descriptor, Index, media_type};

/// The largest index that is read, in bytes: some ten thousand images.
pub const LARGEST_INDEX: u64 = 16 << 20;
/// Other tools write the index in place: for a moment there is half of it.
const ATTEMPTS: u32 = 6;

/// Annotations of the index's descriptors. Those of sbx save reading the blobs, and are hints only.
pub mod annotation {
    /// The name (OCI image specification, annotations.md).
    pub const NAME: &str = "org.opencontainers.image.ref.name";
    /// The whole name, where containerd and docker wrote the layout and the one above is a mere tag.
    pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
    /// The digest of the configuration.
    pub const ID: &str = "dev.sbx.image.id";
    /// RFC 3339.
    pub const CREATED: &str = "dev.sbx.image.created";
    /// Bytes unpacked.
    pub const SIZE: &str = "dev.sbx.image.size";
    /// Where it came from or went to: `repository@sha256:…`, separated by spaces.
    pub const REPO_DIGESTS: &str = "dev.sbx.image.digests";
    /// The digest of the index that the manifest was chosen from.
    pub const INDEX: &str = "dev.sbx.index";
}

/// An empty index.
pub(super) fn empty() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
        other: serde_json::Map::new(),
    }
}

/// Reads the index; one that is not there is empty.
///
/// # Errors
/// It is damaged, too large, not a file, or in the hands of others.
pub(super) fn read(path: &Path) -> Result<Index> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match read_once(path) {
            Err(Unread::Damaged(_)) if attempt < ATTEMPTS => std::thread::sleep(Duration::from_millis(10)),
            Err(Unread::Damaged(cause) | Unread::Refused(cause)) => {
                return Err(Error::new(format!("cannot read the list of images `{}`", path.display()))
                    .because(cause)
                    .hint(format!(
                        "move it away with `mv {0} {0}.damaged`, then pull or load the images again: what is in the store already is not fetched twice",
                        path.display()
                    )));
            }
            Ok(index) => return Ok(index),
        }
    }
}

enum Unread {
    /// It may be in the making.
    Damaged(String),
    Refused(String),
}

fn read_once(path: &Path) -> Result<Index, Unread> {
    let refused = |error: io::Error| Unread::Refused(crate::error::plain(&error.to_string()));
    let Some(file) = files::open(path).map_err(refused)? else { return Ok(empty()) };
    let owner = file.metadata().map_err(refused)?.uid();
    let caller = rustix::process::geteuid().as_raw();
    if owner != caller && owner != 0 {
        return Err(Unread::Refused(format!("it belongs to user {owner}")));
    }
    let bytes = files::read(file, LARGEST_INDEX).map_err(refused)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| Unread::Damaged(error.to_string()))?;
    match index.schema_version {
        2 => Ok(index),
        other => Err(Unread::Refused(format!("its schemaVersion is {other}, and 2 is known"))),
    }
}

/// What others (skopeo, which knows no lock of ours) have changed since `base` was read, applied to `ours`.
pub(super) fn merge(base: &[Descriptor], ours: Vec<Descriptor>, theirs: Vec<Descriptor>) -> Vec<Descriptor> {
    let mut merged: Vec<Descriptor> =
        ours.into_iter().filter(|entry| !base.contains(entry) || theirs.contains(entry)).collect();
    for entry in theirs {
        if !base.contains(&entry) && !merged.contains(&entry) {
            let name = entry.annotations.get(annotation::NAME);
            // A name that both gave: the later one has it.
            merged.retain(|other| name.is_none() || other.annotations.get(annotation::NAME) != name);
            merged.push(entry);
        }
    }
    merged
}
