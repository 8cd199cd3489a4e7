//! mount_setattr(2), which neither nix nor rustix has.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

pub const ATTR_RDONLY: u64 = 0x1;
pub const ATTR_NOSUID: u64 = 0x2;
pub const ATTR_NODEV: u64 = 0x4;
pub const ATTR_NOEXEC: u64 = 0x8;
/// All bits of what is told of accesses; none of them: relatime.
pub const ATTR_ATIME: u64 = 0x70;
pub const ATTR_NOATIME: u64 = 0x10;
pub const ATTR_STRICTATIME: u64 = 0x20;
pub const ATTR_NODIRATIME: u64 = 0x80;
pub const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;
pub const ATTR_IDMAP: u64 = 0x0010_0000;

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds mount attributes to the mount at `path` below `directory` (empty: the mount of `directory` itself),
/// with `recursive` to all mounts below it. Only adds: attributes that a more privileged namespace locked
/// stay. Linux 5.12.
///
/// # Errors
/// ENOSYS on older kernels; EPERM without CAP_SYS_ADMIN; EINVAL if it is no mount.
pub fn add_attributes(
    directory: BorrowedFd<'_>,
    path: &CStr,
    attributes: u64,
    recursive: bool,
) -> io::Result<()> {
    set(directory, path, recursive, &MountAttr { attr_set: attributes, ..MountAttr::default() })
}

/// Sets how mounts and unmounts travel to and from the mount of `directory` (mount_namespaces(7), SHARED SUBTREES):
/// `propagation` is one of MS_SHARED, MS_SLAVE, MS_PRIVATE and MS_UNBINDABLE. Linux 5.12.
///
/// # Errors
/// As [`add_attributes`].
pub fn set_propagation(directory: BorrowedFd<'_>, propagation: u64, recursive: bool) -> io::Result<()> {
    set(directory, c"", recursive, &MountAttr { propagation, ..MountAttr::default() })
}

/// Takes attributes away from the mount of `directory` that were added in this mount namespace.
///
/// # Errors
/// As [`add_attributes`]; EPERM also where a more privileged namespace locked the attribute.
pub fn remove_attributes(directory: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    set(directory, c"", false, &MountAttr { attr_clr: attributes, ..MountAttr::default() })
}

/// Sets and clears attributes of the mount of `directory`, with `recursive` of all mounts below it, too.
///
/// # Errors
/// As [`add_attributes`] and [`remove_attributes`].
pub fn change_attributes(
    directory: BorrowedFd<'_>,
    set_: u64,
    clear: u64,
    recursive: bool,
) -> io::Result<()> {
    let attributes = MountAttr { attr_set: set_, attr_clr: clear, ..MountAttr::default() };
    set(directory, c"", recursive, &attributes)
}

/// Makes a detached mount an ID-mapped one by the user namespace `userns` (mount_setattr(2), MOUNT_ATTR_IDMAP).
///
/// # Errors
/// EPERM where the caller has no CAP_SYS_ADMIN over the file system, EINVAL where that has no support for it.
pub fn map_ids(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    let attributes =
        MountAttr { attr_set: ATTR_IDMAP, userns_fd: userns.as_raw_fd() as u64, ..MountAttr::default() };
    set(mount, c"", recursive, &attributes)
}

fn set(directory: BorrowedFd<'_>, path: &CStr, recursive: bool, attributes: &MountAttr) -> io::Result<()> {
    let mut flags = libc::AT_SYMLINK_NOFOLLOW;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the descriptor is borrowed, the path is NUL-terminated and the struct has the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
