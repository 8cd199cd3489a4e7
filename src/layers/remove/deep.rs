//! Removing a tree that somebody else has filled and may be changing still, however deep it is.
//!
//! Every step is taken from the descriptor of a directory and by one name, through no symlink and never by `..`: whoever
//! moves directories about meanwhile leads nowhere else. What lies deeper than [`MOST_OPEN`] is moved up to the top and
//! removed from there, so that neither descriptors nor stack grow with the depth. std::fs::remove_dir_all, and the crates
//! remove_dir_all and cap-primitives, recurse and keep a descriptor for each level.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Directories that are open at once.
const MOST_OPEN: usize = 64;
/// How often a directory is read anew in which something is left: some file systems pass over entries while others are
/// removed, and somebody may be making new ones.
const MOST_READINGS: u32 = 16;
/// Entries of a directory that are read at once. They are removed in the order of their inodes, which takes ext4 a fifth of the
/// time that its own order takes.
const AT_ONCE: usize = 16 << 10;
/// Names at the top that are tried for a directory that is moved there.
const MOST_NAMES: u32 = 1000;
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes `name` of `parent` and everything below it, if it is there. What the caller owns and has no permission for is
/// opened. Nothing that is mounted is entered.
///
/// # Errors
/// The first that cannot be removed: EBUSY where something is mounted, ENOTEMPTY where somebody makes new files all the time.
pub fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    if take(parent, name, FileType::Directory)? == Taken::Gone {
        return Ok(());
    }
    let Some(top) = Level::enter(parent, name, 1)? else { return Ok(()) };
    let mut descent = Descent { parent, levels: vec![top], lifted: Vec::new(), names: 0 };
    while !descent.levels.is_empty() {
        descent.step()?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Taken {
    Gone,
    /// It is a directory in which something is.
    Holds,
}

/// A directory that is being emptied.
struct Level {
    /// Its name in the directory above it, where it was entered.
    name: CString,
    entries: Dir,
    /// What was read last and is still there, the lowest inode at the end.
    read: Vec<Entry>,
    readings: u32,
}

struct Entry {
    inode: u64,
    name: CString,
    kind: FileType,
}

impl Level {
    /// None: it was moved or removed meanwhile.
    fn enter(parent: BorrowedFd<'_>, name: &CStr, readings: u32) -> Result<Option<Self>, Errno> {
        let open = || rustix::fs::openat(parent, name, OFlags::RDONLY | DIRECTORY, Mode::empty());
        let opened = match open() {
            Err(Errno::ACCESS) if unlock(parent, name) => open(),
            opened => opened,
        };
        match opened {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            opened => {
                let (name, entries) = (name.to_owned(), Dir::new(opened?)?);
                Ok(Some(Self { name, entries, read: Vec::new(), readings }))
            }
        }
    }

    fn directory(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.entries.fd()
    }

    /// The next of its entries.
    fn next(&mut self) -> Result<Option<(CString, FileType)>, Errno> {
        if self.read.is_empty() {
            self.read_on()?;
        }
        Ok(self.read.pop().map(|entry| (entry.name, entry.kind)))
    }

    fn read_on(&mut self) -> Result<(), Errno> {
        while self.read.len() < AT_ONCE
            && let Some(entry) = self.entries.read()
        {
            let entry = match entry {
                // It was removed after it was opened.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            let (inode, kind, name) = (entry.ino(), entry.file_type(), entry.file_name());
            if name != c"." && name != c".." {
                self.read.push(Entry { inode, name: name.to_owned(), kind });
            }
        }
        self.read.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.inode));
        Ok(())
    }
}

struct Descent<'p> {
    parent: BorrowedFd<'p>,
    /// From the top to where the work is.
    levels: Vec<Level>,
    /// Names at the top of what was moved there.
    lifted: Vec<CString>,
    /// How many names were thought of.
    names: u64,
}

impl Descent<'_> {
    /// Removes one entry of the lowest directory, enters it, or leaves the directory.
    fn step(&mut self) -> Result<(), Errno> {
        let at_top = self.levels.len() == 1;
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let found = match self.lifted.pop_if(|_| at_top) {
            Some(name) => Some((name, FileType::Directory)),
            None => level.next()?,
        };
        let Some((name, kind)) = found else { return self.leave() };
        if take(level.directory()?, &name, kind)? == Taken::Gone || self.lift(&name)? {
            return Ok(());
        }
        let level = self.levels.last().map_or(Ok(self.parent), Level::directory)?;
        let entered = Level::enter(level, &name, 1)?;
        self.levels.extend(entered);
        Ok(())
    }

    /// Removes the lowest directory, which is empty now, unless somebody has put something into it.
    fn leave(&mut self) -> Result<(), Errno> {
        let Some(Level { name, readings, .. }) = self.levels.pop() else { return Ok(()) };
        let above = self.levels.last().map_or(Ok(self.parent), Level::directory)?;
        if take(above, &name, FileType::Directory)? == Taken::Gone {
            return Ok(());
        }
        if readings >= MOST_READINGS {
            return Err(Errno::NOTEMPTY);
        }
        let again = Level::enter(above, &name, readings + 1)?;
        self.levels.extend(again);
        Ok(())
    }

    /// Moves a directory of the lowest one up to the top, where that lies too deep. False: it did not, or cannot be
    /// moved; then it is entered, for as long as there are descriptors.
    fn lift(&mut self, name: &CStr) -> Result<bool, Errno> {
        let [top, .., lowest] = self.levels.as_slice() else { return Ok(false) };
        if self.levels.len() < MOST_OPEN {
            return Ok(false);
        }
        let (top, lowest) = (top.directory()?, lowest.directory()?);
        let mut unlocked = false;
        for _ in 0..MOST_NAMES {
            let Ok(new) = CString::new(format!(".removed-{}", self.names)) else { return Ok(false) };
            self.names += 1;
            match rustix::fs::renameat(lowest, name, top, &new) {
                Ok(()) => {
                    self.lifted.push(new);
                    return Ok(true);
                }
                // Its `..` changes, for which it has to be writable (rename(2)).
                Err(Errno::ACCESS) if !unlocked && unlock(lowest, name) => {
                    unlocked = true;
                    continue;
                }
                Err(Errno::NOENT) => return Ok(true),
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {}
                // What is in it cannot be removed either.
                Err(error @ (Errno::ACCESS | Errno::PERM)) => return Err(error),
                // A full disk, a file system that moves no directories: EXDEV.
                Err(_) => return Ok(false),
            }
        }
        Ok(false)
    }
}

/// Removes a file or an empty directory, or finds that it is a directory in which something is.
fn take(parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<Taken, Errno> {
    let remove = |flags| match rustix::fs::unlinkat(parent, name, flags) {
        Err(Errno::ACCESS) if unlock_open(parent) => rustix::fs::unlinkat(parent, name, flags),
        removed => removed,
    };
    let mut refused = None;
    if kind != FileType::Directory {
        match remove(AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(Taken::Gone),
            Err(Errno::ISDIR) => {}
            // As POSIX has it for directories.
            Err(Errno::PERM) => refused = Some(Errno::PERM),
            Err(error) => return Err(error),
        }
    }
    // Asked before it is entered: the answer for what is mounted is EBUSY.
    match remove(AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(Taken::Gone),
        Err(Errno::NOTDIR) => match refused.map_or_else(|| remove(AtFlags::empty()), Err) {
            // Something else has the name by now: the next reading finds it.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(Taken::Gone),
            Err(error) => Err(error),
        },
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Taken::Holds),
        Err(error) => Err(error),
    }
}

/// Gives the owner of a directory every permission for it; true: there was one missing.
fn unlock(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    let Ok(directory) = rustix::fs::openat(parent, name, OFlags::PATH | DIRECTORY, Mode::empty()) else {
        return false;
    };
    // fchmod(2) takes no such descriptor, and fchmodat(2) would follow a symlink.
    add_permissions(&directory, |mode| {
        rustix::fs::chmod(format!("/proc/self/fd/{}", directory.as_raw_fd()), mode)
    })
}

fn unlock_open(directory: BorrowedFd<'_>) -> bool {
    add_permissions(directory, |mode| rustix::fs::fchmod(directory, mode))
}

fn add_permissions(directory: impl AsFd, set: impl FnOnce(Mode) -> Result<(), Errno>) -> bool {
    let Ok(stat) = rustix::fs::fstat(directory) else { return false };
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    !mode.contains(Mode::RWXU) && set(mode | Mode::RWXU).is_ok()
}

/// Opens a directory to remove what is in it, without any permission for it.
pub fn open_parent(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}
