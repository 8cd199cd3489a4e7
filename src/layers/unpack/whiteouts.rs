//! Whiteouts and opaque directories, in the ways that both drivers read: devices and attributes; files where
//! the kernel or the file system refuses those, which only fuse-overlayfs knows.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::layers::unpack::LayerFacts;
use crate::layers::unpack::failures::{check, explain};

/// OCI image specification, layer.md, Whiteouts.
pub const WHITEOUT: &[u8] = b".wh.";
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs kept its own files under such names.
pub const AUFS: &[u8] = b".wh..wh.";
/// Both drivers look for their own (fuse-overlayfs for both).
pub const OPAQUE_MARKS: [&str; 2] = ["user.overlay.opaque", "user.fuseoverlayfs.opaque"];

/// A character device 0:0 (Linux's overlayfs.rst, "whiteouts and opaque directories"). No entry makes one of
/// its own: devices of an archive are recorded, not made.
pub fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

/// Hides `name` of the layers below; what this layer has there stays (layer.md, Whiteouts).
pub fn hide(here: BorrowedFd<'_>, name: &[u8], facts: &mut LayerFacts) -> Result<()> {
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Error::new("it is a whiteout of nothing"));
    }
    let made = if facts.whiteout_files {
        Err(Errno::PERM)
    } else {
        rustix::fs::mknodat(here, name, FileType::CharacterDevice, Mode::empty(), 0)
    };
    match made {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => hide_below(here, name, facts),
        // fuse-overlayfs, as the file system below, says ENOENT.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::ACCESS | Errno::NOENT) => {
            facts.whiteout_files = true;
            match rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => hide_below(here, name, facts),
                Err(_) => empty_file(here, &[WHITEOUT, name].concat()),
            }
        }
        Err(error) => Err(explain(error, "make a whiteout")),
    }
}

/// What the layer itself has: a directory lets through what is below, a file does not.
fn hide_below(here: BorrowedFd<'_>, name: &[u8], facts: &mut LayerFacts) -> Result<()> {
    match open_directory(here, name) {
        Ok(directory) => mark_opaque(directory.as_fd(), facts),
        Err(_) => Ok(()),
    }
}

/// Hides what the layers below have in a directory.
pub fn mark_opaque(directory: BorrowedFd<'_>, facts: &mut LayerFacts) -> Result<()> {
    for mark in OPAQUE_MARKS {
        match rustix::fs::fsetxattr(directory, mark, b"y", XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) => {
                facts.whiteout_files = true;
                return empty_file(directory, OPAQUE);
            }
            Err(error) => return Err(explain(error, "mark a directory as opaque")),
        }
    }
    Ok(())
}

/// Where whiteouts are files: removes that of `name`, which something of the layer itself now hides.
pub fn take_whiteout_file(here: BorrowedFd<'_>, name: &[u8], facts: &LayerFacts) -> bool {
    facts.whiteout_files && rustix::fs::unlinkat(here, [WHITEOUT, name].concat(), AtFlags::empty()).is_ok()
}

fn empty_file(here: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    check(rustix::fs::openat(here, name, flags, Mode::from_raw_mode(0o644)), "make a whiteout").map(drop)
}

pub fn open_directory(here: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    check(rustix::fs::openat(here, name, flags, Mode::empty()), "open a directory")
}
