//! Whole trees that somebody else may be changing: a volume that another container has, too. Every step is taken
//! from the descriptor of a directory and by one name, so that a directory swapped for a symlink leads nowhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Stat, Uid};
use rustix::io::Errno;

use crate::layers::walk::walk;

/// Gives what is open as `place`, and all below it, to `uid` and `gid`.
///
/// # Errors
/// Those of fchownat(2), and ESTALE where somebody moves directories elsewhere meanwhile.
pub fn give(place: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(place, "", uid, gid, AtFlags::EMPTY_PATH)?;
    if kind(&rustix::fs::fstat(place)?) != FileType::Directory {
        return Ok(());
    }
    walk(place.as_fd(), |directory, name, _| {
        match rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => Ok(true),
            // It was removed meanwhile.
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    })?;
    Ok(())
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
