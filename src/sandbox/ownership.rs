//! Whole trees that somebody else may be changing: a volume that another container has, too. Every step is taken
//! from the descriptor of a directory and by one name, so that a directory swapped for a symlink leads nowhere.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Gives what is open as `place`, and all below it, to `uid` and `gid`.
///
/// # Errors
/// Those of fchownat(2), and EMFILE in a tree deeper than descriptors are to be had.
pub fn give(place: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(place, "", uid, gid, AtFlags::EMPTY_PATH)?;
    if kind(&rustix::fs::fstat(place)?) != FileType::Directory {
        return Ok(());
    }
    let mut open = vec![read(rustix::fs::openat(place, ".", DIRECTORY, Mode::empty())?)?];
    while let Some((directory, entries)) = open.last_mut() {
        let Some(entry) = entries.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name.to_bytes()) {
            continue;
        }
        let below = match rustix::fs::chownat(&*directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => rustix::fs::openat(&*directory, name, DIRECTORY, Mode::empty()),
            Err(error) => Err(error),
        };
        match below {
            Ok(below) => open.push(read(below)?),
            // No directory, or removed meanwhile.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The directory itself and its entries.
fn read(directory: OwnedFd) -> io::Result<(OwnedFd, Dir)> {
    let entries = Dir::read_from(&directory)?;
    Ok((directory, entries))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}
