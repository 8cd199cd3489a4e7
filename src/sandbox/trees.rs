//! Whole trees that somebody else may be changing: a volume that another container has, too. Every step is taken
//! from the descriptor of a directory and by one name, so that a directory swapped for a symlink leads nowhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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

/// Copies the files, directories and symlinks below `from` into `to` with their modes and owners; what else
/// there is stays behind. Both are directories.
///
/// # Errors
/// What cannot be read or written; EMFILE as [`give`].
pub fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let here = |fd| rustix::fs::openat(fd, ".", DIRECTORY, Mode::empty());
    let mut open = vec![(read(here(from)?)?, here(to)?)];
    while let Some(((source, entries), target)) = open.last_mut() {
        let Some(entry) = entries.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name.to_bytes()) {
            continue;
        }
        let stat = match rustix::fs::statat(&*source, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        match kind(&stat) {
            FileType::Directory => {
                let source = rustix::fs::openat(&*source, name, DIRECTORY, Mode::empty())?;
                let stat = rustix::fs::fstat(&source)?;
                rustix::fs::mkdirat(&*target, name, Mode::RWXU)?;
                let target = rustix::fs::openat(&*target, name, DIRECTORY, Mode::empty())?;
                as_it_was(target.as_fd(), &stat)?;
                open.push((read(source)?, target));
            }
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(&*source, name, Vec::new())?;
                rustix::fs::symlinkat(text, &*target, name)?;
                let (uid, gid) = owner(&stat);
                let _ = rustix::fs::chownat(&*target, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
            }
            FileType::RegularFile => {
                // O_NONBLOCK: it may be a FIFO by now.
                let flags =
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let source = rustix::fs::openat(&*source, name, flags, Mode::empty())?;
                let stat = rustix::fs::fstat(&source)?;
                if kind(&stat) != FileType::RegularFile {
                    continue;
                }
                let create =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let target = rustix::fs::openat(&*target, name, create, Mode::RUSR | Mode::WUSR)?;
                let mut target = File::from(target);
                io::copy(&mut File::from(source), &mut target)?;
                as_it_was(target.as_fd(), &stat)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The directory itself and its entries.
fn read(directory: OwnedFd) -> io::Result<(OwnedFd, Dir)> {
    let entries = Dir::read_from(&directory)?;
    Ok((directory, entries))
}

/// Owners outside the map cannot be given; the copy then is the container's root's.
fn as_it_was(copy: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    let _ = rustix::fs::fchown(copy, uid, gid);
    rustix::fs::fchmod(copy, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(())
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}
