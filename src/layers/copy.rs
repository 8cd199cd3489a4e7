//! Copies of whole trees. They are the last way to put layers together, where neither overlay nor fuse-overlayfs
//! is to be had: the files are copied into the container's own directory, by sharing blocks where the file system
//! can (FICLONE). Never by hard links: what the container writes would reach the layer.
//!
//! Somebody else may be changing what is copied, or where it goes: a volume that another container has, too. Every
//! step is taken from the descriptor of a directory and by one name, so that a directory swapped for a symlink
//! leads nowhere.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::layers::remove;
use crate::layers::unpack::archive::shown;
use crate::layers::unpack::tree::{DEEPEST, SHALLOWER};
use crate::sys::open_files::Room;

/// The mark of a directory that hides what lies below it, by the kernel and by fuse-overlayfs.
const OPAQUE: [&CStr; 2] = [c"user.overlay.opaque", c"user.fuseoverlayfs.opaque"];
/// Directories that are open at each level, to be read and to be written.
const OPEN_AT_A_LEVEL: u64 = 3;
/// Bytes asked for in one copy_file_range(2).
const PIECE: usize = 1 << 30;
/// How often a name is looked at anew that is something else each time.
const MOST_ATTEMPTS: u32 = 16;
/// The longest value of an extended attribute (xattr(7)).
const LONGEST_VALUE: usize = 64 << 10;

/// Copies the layers, lowest first, into `target`, an empty directory, with owners, modes, times and extended
/// attributes. Run as root of the namespace whose IDs the files have.
///
/// # Errors
/// The first file that could not be copied; what was copied before stays.
pub fn merge(lowers: &[PathBuf], target: &Path) -> Result<()> {
    for lower in lowers {
        let open = |path: &Path| {
            open_directory(rustix::fs::CWD, path).map_err(|error| Failure { path: path.to_owned(), error })
        };
        let copied = open(lower).and_then(|from| {
            let into = open(target)?;
            tree(&from, &into)?;
            finish(from.as_fd(), into.as_fd()).map_err(|error| Failure::new(lower, error))
        });
        copied.map_err(|failure| {
            let (no_room, too_deep) = (failure.is_no_room(), failure.is_too_deep());
            let error = Error::new(format!("cannot copy the layer `{}`", lower.display())).because(failure);
            if too_deep {
                return error.hint(SHALLOWER);
            }
            if !no_room {
                return error;
            }
            error.hint(
                "without overlay and fuse-overlayfs each container is a whole copy: make room, install \
                 fuse-overlayfs, or use `--root DIR` on another file system",
            )
        })?;
    }
    Ok(())
}

/// Copies what is below the directory `from` into the directory `into`, as [`merge`] does; `into` itself stays
/// as it is.
///
/// # Errors
/// The first file that could not be copied; one in a tree deeper than layers may be, EMFILE in one deeper than
/// descriptors are to be had.
pub fn tree(from: &OwnedFd, into: &OwnedFd) -> Result<(), Failure> {
    let from = open_directory(from.as_fd(), c".").map_err(|error| Failure::new(Path::new("/"), error))?;
    let into = open_directory(into.as_fd(), c".").map_err(|error| Failure::new(Path::new("/"), error))?;
    let _room = Room::make(DEEPEST as u64 * OPEN_AT_A_LEVEL);
    let mut layer = Layer { target: into.as_fd(), links: HashMap::new() };
    layer.directory(from.as_fd(), into.as_fd(), Path::new(""))
}

/// The same, and makes `into` what `from` is: its owner, mode, times and attributes.
///
/// # Errors
/// As [`tree`].
pub fn directory(from: &OwnedFd, into: &OwnedFd) -> Result<(), Failure> {
    tree(from, into)?;
    let root = |error| Failure::new(Path::new("/"), error);
    let from = open_directory(from.as_fd(), c".").map_err(root)?;
    let into = open_directory(into.as_fd(), c".").map_err(root)?;
    finish(from.as_fd(), into.as_fd()).map_err(root)
}

/// What could not be copied, by its path in the tree.
#[derive(Debug)]
pub struct Failure {
    path: PathBuf,
    error: Errno,
}

impl Failure {
    fn new(path: &Path, error: Errno) -> Self {
        Self { path: path.to_owned(), error }
    }

    /// What lies deeper than layers do.
    fn is_too_deep(&self) -> bool {
        self.error == Errno::NAMETOOLONG && depth(&self.path) >= DEEPEST
    }

    /// Space has run out.
    pub fn is_no_room(&self) -> bool {
        matches!(self.error, Errno::NOSPC | Errno::DQUOT)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown(self.path.as_os_str().as_bytes());
        if self.is_too_deep() {
            return write!(f, "`{path}`: it lies more than {DEEPEST} directories deep");
        }
        write!(f, "`{path}`: {}", std::io::Error::from(self.error))
    }
}

fn depth(path: &Path) -> usize {
    path.as_os_str().as_bytes().iter().filter(|byte| **byte == b'/').count()
}

struct Layer<'a> {
    target: BorrowedFd<'a>,
    /// The first name, below the target, of each file of this layer that has several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Layer<'_> {
    fn directory(&mut self, from: BorrowedFd<'_>, into: BorrowedFd<'_>, path: &Path) -> Result<(), Failure> {
        let failed = |error| Failure::new(path, error);
        // What runs in a container makes them as deep as it likes, and the stack is not.
        if depth(path) >= DEEPEST {
            return Err(failed(Errno::NAMETOOLONG));
        }
        if OPAQUE.iter().any(|mark| has_mark(from, mark)) {
            clear(into).map_err(failed)?;
        }
        for entry in Dir::read_from(from).map_err(failed)? {
            let entry = match entry {
                // It was removed after it was opened.
                Err(Errno::NOENT) => break,
                entry => entry.map_err(failed)?,
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            self.changing(from, into, name, &path)?;
        }
        Ok(())
    }

    /// Copies what a running container may remove, or put something else in the place of, at any time.
    fn changing(
        &mut self,
        from: BorrowedFd<'_>,
        into: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
    ) -> Result<(), Failure> {
        let look = || rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW);
        let mut attempts = 0;
        let mut stat = match look() {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(|error| Failure::new(path, error))?,
        };
        loop {
            let Err(failure) = self.entry(from, into, name, path, &stat) else { return Ok(()) };
            attempts += 1;
            let now = match look() {
                Err(Errno::NOENT) => return Ok(()),
                Err(_) => return Err(failure),
                Ok(now) => now,
            };
            let same = (now.st_dev, now.st_ino, now.st_mode) == (stat.st_dev, stat.st_ino, stat.st_mode);
            if same || attempts == MOST_ATTEMPTS {
                return Err(failure);
            }
            stat = now;
        }
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        into: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        stat: &Stat,
    ) -> Result<(), Failure> {
        let failed = |error| Failure::new(path, error);
        let kind = FileType::from_raw_mode(stat.st_mode);
        let there = rustix::fs::statat(into, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let merged = kind == FileType::Directory
            && there.is_some_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Directory);
        if there.is_some() && !merged {
            remove::entry(into, name).map_err(failed)?;
        }
        if kind == FileType::Directory {
            if !merged {
                rustix::fs::mkdirat(into, name, Mode::RWXU).map_err(failed)?;
            }
            let from = open_directory(from, name).map_err(failed)?;
            let into = open_directory(into, name).map_err(failed)?;
            self.directory(from.as_fd(), into.as_fd(), path)?;
            return finish(from.as_fd(), into.as_fd()).map_err(failed);
        }
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            // A whiteout: what it hides is gone by now.
            return Ok(());
        }
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino))
        {
            return rustix::fs::linkat(self.target, first, into, name, AtFlags::empty()).map_err(failed);
        }
        match kind {
            FileType::RegularFile => file(from, into, name, stat).map_err(failed)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new()).map_err(failed)?;
                rustix::fs::symlinkat(&target, into, name).map_err(failed)?;
                own(into, name, stat, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                rustix::fs::utimensat(into, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            }
            _ => match rustix::fs::mknodat(into, name, kind, mode(stat), stat.st_rdev) {
                // A user namespace makes no devices; the container has those of its own /dev.
                Err(Errno::PERM) if kind != FileType::Fifo && kind != FileType::Socket => return Ok(()),
                made => {
                    made.map_err(failed)?;
                    own(into, name, stat, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                    set_mode(into, name, stat).map_err(failed)?;
                    rustix::fs::utimensat(into, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(failed)?;
                }
            },
        }
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        Ok(())
    }
}

/// What a directory is, set when it is full: filling it changes its times.
fn finish(from: BorrowedFd<'_>, into: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(from)?;
    own(into, c"", &stat, AtFlags::EMPTY_PATH)?;
    attributes(from, into)?;
    rustix::fs::fchmod(into, mode(&stat))?;
    rustix::fs::futimens(into, &times(&stat))
}

fn file(from: BorrowedFd<'_>, into: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    // O_NONBLOCK: it may be a FIFO by now.
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, read, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(into, name, create, Mode::RUSR | Mode::WUSR)?;
    if rustix::fs::ioctl_ficlone(&copy, &source).is_err() {
        contents(&source, &copy)?;
    }
    own(copy.as_fd(), c"", stat, AtFlags::EMPTY_PATH)?;
    // After the owner, whose change drops the setuid bit and file capabilities.
    attributes(source.as_fd(), copy.as_fd())?;
    rustix::fs::fchmod(&copy, mode(stat))?;
    rustix::fs::futimens(&copy, &times(stat))
}

fn contents(source: &OwnedFd, copy: &OwnedFd) -> Result<(), Errno> {
    loop {
        match rustix::fs::copy_file_range(source, None, copy, None, PIECE) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = rustix::io::retry_on_intr(|| rustix::io::read(source, &mut buffer))?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(copy, rest))?;
            rest = &rest[written..];
        }
    }
}

/// The mode of what cannot be opened, which was made with the process's umask. No symlink is followed.
fn set_mode(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&made)?.st_mode) != FileType::from_raw_mode(stat.st_mode) {
        return Ok(());
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), mode(stat))
}

/// An owner that is not mapped stays the caller's, as everything is in the single tier.
fn own(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat, flags: AtFlags) -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match rustix::fs::chownat(directory, name, Some(user), Some(group), flags) {
        Err(Errno::INVAL | Errno::PERM) => Ok(()),
        result => result,
    }
}

fn attributes(from: BorrowedFd<'_>, into: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut names = [0_u8; LONGEST_VALUE];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        found => found?,
    };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if OPAQUE.contains(&name) {
            continue;
        }
        let mut value = vec![0; LONGEST_VALUE];
        let length = rustix::fs::fgetxattr(from, name, &mut value)?;
        match rustix::fs::fsetxattr(into, name, &value[..length], XattrFlags::empty()) {
            // Those of a security module or of a more privileged namespace.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {}
            result => result?,
        }
    }
    Ok(())
}

fn has_mark(directory: BorrowedFd<'_>, mark: &CStr) -> bool {
    let mut value = [0_u8; 1];
    rustix::fs::fgetxattr(directory, mark, &mut value) == Ok(1) && value == *b"y"
}

fn clear(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            remove::entry(directory, entry.file_name())?;
        }
    }
    Ok(())
}

fn open_directory<P: rustix::path::Arg>(at: BorrowedFd<'_>, name: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn time(seconds: i64, nanoseconds: impl TryInto<i64>) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.try_into().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn layer(make: impl FnOnce(&Path)) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        make(directory.path());
        directory
    }

    fn merged(layers: &[&tempfile::TempDir]) -> tempfile::TempDir {
        let target = tempfile::tempdir().unwrap();
        let lowers: Vec<PathBuf> = layers.iter().map(|layer| layer.path().to_owned()).collect();
        merge(&lowers, target.path()).unwrap();
        target
    }

    #[test]
    fn files_keep_what_they_are() {
        let lower = layer(|at| {
            fs::create_dir(at.join("d")).unwrap();
            fs::write(at.join("d/program"), "x").unwrap();
            fs::set_permissions(at.join("d/program"), fs::Permissions::from_mode(0o4751)).unwrap();
            fs::hard_link(at.join("d/program"), at.join("second")).unwrap();
            symlink("/nowhere", at.join("link")).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, at.join("pipe"), FileType::Fifo, Mode::empty(), 0).unwrap();
            fs::set_permissions(at.join("pipe"), fs::Permissions::from_mode(0o622)).unwrap();
            fs::set_permissions(at.join("d"), fs::Permissions::from_mode(0o1555)).unwrap();
        });
        let target = merged(&[&lower]);
        let of = |name: &str| target.path().join(name).symlink_metadata().unwrap();
        assert_eq!(of("d").mode() & 0o7777, 0o1555);
        assert_eq!(of("d/program").mode() & 0o7777, 0o4751);
        assert_eq!(of("pipe").mode() & 0o7777, 0o622);
        assert_eq!((of("second").ino(), of("second").nlink()), (of("d/program").ino(), 2));
        assert_eq!(fs::read_link(target.path().join("link")).unwrap(), Path::new("/nowhere"));
        let original = lower.path().join("second").metadata().unwrap();
        assert_eq!((original.nlink(), original.mtime_nsec()), (2, of("second").mtime_nsec()));
    }

    #[test]
    fn upper_layers_hide_and_replace() {
        let lower = layer(|at| {
            fs::create_dir_all(at.join("kept/below")).unwrap();
            fs::create_dir_all(at.join("opaque/below")).unwrap();
            fs::create_dir_all(at.join("becomes-file/below")).unwrap();
            fs::write(at.join("hidden"), "").unwrap();
            fs::write(at.join("becomes-directory"), "").unwrap();
        });
        let upper = layer(|at| {
            let device = FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, at.join("hidden"), device, Mode::empty(), 0).unwrap();
            fs::create_dir(at.join("kept")).unwrap();
            fs::write(at.join("kept/added"), "").unwrap();
            fs::create_dir(at.join("opaque")).unwrap();
            rustix::fs::setxattr(at.join("opaque"), OPAQUE[0], b"y", XattrFlags::empty()).unwrap();
            fs::write(at.join("becomes-file"), "now").unwrap();
            fs::create_dir(at.join("becomes-directory")).unwrap();
        });
        let target = merged(&[&lower, &upper]);
        let is = |name: &str| target.path().join(name).exists();
        assert!(is("kept/below") && is("kept/added") && is("opaque"));
        assert!(!is("hidden") && !is("opaque/below"));
        assert_eq!(fs::read_to_string(target.path().join("becomes-file")).unwrap(), "now");
        assert!(target.path().join("becomes-directory").is_dir());
    }

    #[test]
    fn a_tree_deeper_than_layers_may_be_is_refused() {
        let refused = || {
            let lower = layer(|at| fs::create_dir_all(at.join("d/".repeat(1000))).unwrap());
            let target = tempfile::tempdir().unwrap();
            merge(&[lower.path().to_owned()], target.path()).unwrap_err().to_string()
        };
        // As the stack of a process.
        let thread = std::thread::Builder::new().stack_size(8 << 20).spawn(refused).unwrap();
        let error = thread.join().unwrap();
        assert!(error.ends_with("it lies more than 500 directories deep"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let target = tempfile::tempdir().unwrap();
        let error = merge(&[PathBuf::from("/nonexistent")], target.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot copy the layer `/nonexistent`: `/nonexistent`: No such file or directory"
        );
    }
}
