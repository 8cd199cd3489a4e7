//! Looking at every file of a tree that somebody else has filled and may be changing still, however deep it is.
//!
//! Every step down is taken from the descriptor of a directory and by one name, through no symlink. A few of the directories on the
//! way stay open; to one above them `..` leads, if it still is the one that was left.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Directories that are open at once.
const MOST_OPEN: usize = 64;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Hands every entry below `top` to `each`, a directory before what is in it; `each` says whether a directory is entered. What
/// vanishes meanwhile is left out.
///
/// # Errors
/// Those of `each`, a directory that cannot be read, or ESTALE where one was moved elsewhere while its files were looked at.
pub fn walk(
    top: BorrowedFd<'_>,
    mut each: impl FnMut(BorrowedFd<'_>, &CStr, FileType) -> Result<bool, Errno>,
) -> Result<(), Errno> {
    let top = rustix::fs::openat(top, c".", DIRECTORY, Mode::empty())?;
    let mut levels = vec![Level::read(top, &mut each)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.below.pop() else {
            leave(&mut levels)?;
            continue;
        };
        let Some(directory) = &level.directory else { return Err(Errno::STALE) };
        match rustix::fs::openat(directory, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            entered => {
                levels.push(Level::read(entered?, &mut each)?);
                if let Some(far) = levels.len().checked_sub(MOST_OPEN + 1) {
                    levels[far].directory = None;
                }
            }
        }
    }
    Ok(())
}

struct Level {
    /// None: it was closed, for want of descriptors.
    directory: Option<OwnedFd>,
    /// Its device and inode.
    is: (u64, u64),
    /// The directories that are still to be entered.
    below: Vec<CString>,
}

impl Level {
    fn read(
        directory: OwnedFd,
        each: &mut impl FnMut(BorrowedFd<'_>, &CStr, FileType) -> Result<bool, Errno>,
    ) -> Result<Self, Errno> {
        let mut below = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = match entry {
                // It was removed after it was opened.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            let (name, kind) = (entry.file_name(), entry.file_type());
            if name != c"."
                && name != c".."
                && each(directory.as_fd(), name, kind)?
                && matches!(kind, FileType::Directory | FileType::Unknown)
            {
                below.push(name.to_owned());
            }
        }
        Ok(Self { is: identity_of(&directory)?, directory: Some(directory), below })
    }
}

/// Leaves the lowest directory and opens the one above it again, where it was closed.
fn leave(levels: &mut Vec<Level>) -> Result<(), Errno> {
    let left = levels.pop().and_then(|level| level.directory);
    let Some(above) = levels.last_mut().filter(|above| above.directory.is_none()) else { return Ok(()) };
    let opened = rustix::fs::openat(left.ok_or(Errno::STALE)?, c"..", DIRECTORY, Mode::empty())?;
    if identity_of(&opened)? != above.is {
        return Err(Errno::STALE);
    }
    above.directory = Some(opened);
    Ok(())
}

fn identity_of(directory: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::layers::remove;
    use crate::layers::remove::tests::{chain, open};

    fn names_below(top: &OwnedFd) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        walk(top.as_fd(), |_, name, _| {
            names.push(name.to_string_lossy().into_owned());
            Ok(true)
        })?;
        Ok(names)
    }

    #[test]
    fn every_entry_is_seen_once_and_no_symlink_followed() {
        let place = tempfile::tempdir().unwrap();
        for directory in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(place.path().join(directory)).unwrap();
        }
        fs::write(place.path().join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", place.path().join("e/link")).unwrap();
        let names = names_below(&open(place.path())).unwrap();
        let all: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(all, ["a", "b", "c", "d", "e", "file", "link"].into());
        assert_eq!(names.len(), all.len(), "{names:?}");
    }

    #[test]
    fn a_tree_may_be_deeper_than_descriptors_go() {
        let place = tempfile::tempdir().unwrap();
        chain(place.path(), "one", 20_000);
        chain(place.path(), "other", 300);
        assert_eq!(names_below(&open(place.path())).unwrap().len(), 20_300);
        remove::own(&place.path().join("one")).unwrap();
    }

    #[test]
    fn what_is_moved_out_of_the_tree_leads_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("elsewhere")).unwrap();
        fs::write(place.path().join("elsewhere/secret"), "").unwrap();
        chain(&place.path().join("tree"), "d", 200);
        let from = place.path().join("tree").join("d/".repeat(50));
        let (mut depth, mut seen) = (0, Vec::new());
        let walked = walk(open(&place.path().join("tree")).as_fd(), |_, name, _| {
            depth += 1;
            seen.push(name.to_owned());
            if depth == 200 {
                fs::rename(&from, place.path().join("elsewhere/d")).unwrap();
            }
            Ok(true)
        });
        assert_eq!(walked, Err(Errno::STALE));
        assert!(seen.iter().all(|name| name.as_c_str() == c"d"), "{seen:?}");
    }
}
