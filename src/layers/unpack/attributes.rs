//! Extended attributes of an archive's entries.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::layers::owners::OWN_XATTR;
use crate::layers::unpack::archive::shown;

/// Names with which the drivers mark what is in a layer, and the record of owners. An archive that brings
/// them would change what its neighbours are.
const OURS: &[&[u8]] = &[b"user.overlay.", b"user.fuseoverlayfs.", b"user.containers.", b"trusted.overlay."];

/// What became of one attribute.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Set,
    /// Not for archives to set, or of no use in a user namespace.
    LeftOut,
    /// The file system takes none such; the layer's index keeps it.
    Refused,
}

/// Sets one attribute of an open file or directory.
///
/// # Errors
/// The kernel's, but for those that say that such an attribute cannot be.
pub fn set(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<Outcome, Errno> {
    if is_ours(name) {
        return Ok(Outcome::LeftOut);
    }
    judge(name, rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()))
}

/// Sets one attribute of `name` in `directory`, which may be a symlink or a fifo.
///
/// # Errors
/// As [`set`].
pub fn set_at(directory: BorrowedFd<'_>, file: &[u8], name: &[u8], value: &[u8]) -> Result<Outcome, Errno> {
    if is_ours(name) {
        return Ok(Outcome::LeftOut);
    }
    // Linux 6.13 has setxattrat(2); before, only paths reach what cannot be opened.
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(file);
    judge(name, rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()))
}

/// Whether the attribute says something to the drivers, or of the owner, and is no content of the file.
pub fn is_of_drivers(name: &[u8]) -> bool {
    OURS.iter().any(|prefix| name.starts_with(prefix)) || name == OWN_XATTR.as_bytes()
}

fn is_ours(name: &[u8]) -> bool {
    is_of_drivers(name) || name.contains(&0) || name.is_empty()
}

fn judge(name: &[u8], result: Result<(), Errno>) -> Result<Outcome, Errno> {
    match result {
        Ok(()) => Ok(Outcome::Set),
        Err(error @ (Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS | Errno::INVAL)) => {
            log::debug!("the extended attribute `{}` is left out: {error}", shown(name));
            // SELinux labels and `trusted.` are the host's affair, as for every engine.
            let kept = name == b"security.capability" || name.starts_with(b"user.");
            Ok(if kept { Outcome::Refused } else { Outcome::LeftOut })
        }
        Err(error) => Err(error),
    }
}
