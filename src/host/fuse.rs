//! Whether fuse-overlayfs can serve layers: its program and the kernel's /dev/fuse.

use std::io;
use std::path::{Path, PathBuf};

pub const DEVICE: &str = "/dev/fuse";

/// Whether the caller may use FUSE.
///
/// # Errors
/// Those of [`super::openable`].
pub fn device() -> io::Result<()> {
    super::openable(Path::new(DEVICE))
}

/// Where fuse-overlayfs is.
pub fn fuse_overlayfs() -> Option<PathBuf> {
    super::programs::find("fuse-overlayfs")
}

/// Both are there: the driver `fuse-overlayfs` can be chosen.
pub fn usable() -> bool {
    device().is_ok() && fuse_overlayfs().is_some()
}
