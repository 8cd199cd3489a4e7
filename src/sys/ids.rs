//! Questions to a namespace file (ioctl_ns(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `_IO(0xb7, 3)` of linux/nsfs.h; the same number on every architecture that uses the generic ioctl layout.
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_USERNS: u32 = 0xb701;

/// The CLONE_NEW* flag of the namespace that a file of nsfs stands for (Linux 4.11).
///
/// # Errors
/// ENOTTY if the file is no namespace.
pub fn namespace_type(file: impl AsFd) -> io::Result<i32> {
    // SAFETY: the descriptor is borrowed for the call, and this request takes no argument.
    let kind = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}

/// The user namespace that a namespace belongs to (Linux 4.9).
///
/// # Errors
/// EPERM where that is neither the caller's own nor below it.
pub fn owning_user_namespace(file: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is borrowed for the call, and this request takes no argument.
    let owner = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), NS_GET_USERNS as _) };
    if owner < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made the descriptor, close-on-exec, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}
