//! Unpacking one layer: a tar archive becomes a directory that both drivers read.

mod apply;
pub mod archive;
mod attributes;
mod failures;
#[cfg(test)]
pub(crate) mod forge;
pub mod limits;
mod sparse;
pub mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
pub(crate) mod whiteouts;

use std::io::Read;
use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::image::digest::Digest;
use crate::layers::owners::Owners;

pub use attributes::is_of_drivers;
pub use limits::Limits;

/// How owners are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// In the inodes: every ID of an image is one of the user namespace's.
    Inodes,
    /// In an attribute of each file and directory, else in the index.
    Attributes,
    /// In the index alone.
    Index,
}

/// What a layer holds, as far as it is of interest without looking into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerFacts {
    /// Bytes of the content of its files, each hard-linked file once.
    pub size: u64,
    /// Entries of its archive.
    pub entries: u64,
    /// It hides everything below it (an opaque marker in its root).
    #[serde(default)]
    pub opaque: bool,
    /// Whiteouts are files `.wh.NAME`, because the file system or the kernel refused devices or attributes:
    /// only fuse-overlayfs understands them.
    #[serde(default)]
    pub whiteout_files: bool,
}

/// What came of one archive.
pub struct Unpacked {
    pub facts: LayerFacts,
    pub digest: Digest,
    /// Bytes of the archive.
    pub bytes: u64,
    pub owners: Owners,
}

/// Unpacks `archive` (uncompressed) into the empty directory `root`, reading it to its end.
///
/// # Errors
/// What is wrong with which entry; files may have been made.
pub fn unpack(
    root: OwnedFd,
    archive: &mut (dyn Read + Send),
    keep: Keep,
    limits: &Limits,
) -> Result<Unpacked> {
    let ((facts, owners), whole) = stream::read_ahead(archive, limits, |stream| {
        let mut apply = apply::Apply::new(root, keep, limits);
        while let Some(entry) = archive::next(stream).map_err(|error| stream::cannot_read(&error))? {
            apply.entry(&entry, stream)?;
        }
        apply.finish()
    })?;
    Ok(Unpacked { facts, digest: whole.digest, bytes: whole.bytes, owners })
}

/// Unpacks `archive` into the directory `root`, over what is there. It is no layer: nothing in it hides anything, and
/// owners are lost that neither inodes nor attributes keep.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_plain(
    root: OwnedFd,
    archive: &mut (dyn Read + Send),
    keep: Keep,
    limits: &Limits,
) -> Result<()> {
    stream::read_ahead(archive, limits, |stream| {
        let mut apply = apply::Apply::new(root, keep, limits).plain();
        while let Some(entry) = archive::next(stream).map_err(|error| stream::cannot_read(&error))? {
            apply.entry(&entry, stream)?;
        }
        apply.finish()
    })
    .map(drop)
}

/// Unpacks `archive` into the empty directory `root` so that this process can read all of it, whatever modes and owners it
/// has, and gives the bytes of its files and of the archive. As with [`unpack_plain`] it is no layer.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_for_reading(
    root: OwnedFd,
    archive: &mut (dyn Read + Send),
    limits: &Limits,
) -> Result<(u64, u64)> {
    let ((facts, _), whole) = stream::read_ahead(archive, limits, |stream| {
        let mut apply = apply::Apply::new(root, Keep::Index, limits).plain().readable();
        while let Some(entry) = archive::next(stream).map_err(|error| stream::cannot_read(&error))? {
            apply.entry(&entry, stream)?;
        }
        apply.finish()
    })?;
    Ok((facts.size, whole.bytes))
}
