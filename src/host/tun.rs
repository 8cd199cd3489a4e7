//! What a private network with a way out needs: /dev/net/tun and a userspace helper.

use std::io;
use std::path::{Path, PathBuf};

pub const DEVICE: &str = "/dev/net/tun";

/// Whether the caller may make tap interfaces in a network namespace of their own.
///
/// # Errors
/// Those of [`super::openable`].
pub fn device() -> io::Result<()> {
    super::openable(Path::new(DEVICE))
}

pub fn slirp4netns() -> Option<PathBuf> {
    super::programs::find("slirp4netns")
}

pub fn pasta() -> Option<PathBuf> {
    super::programs::find("pasta")
}
