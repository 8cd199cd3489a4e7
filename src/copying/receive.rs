//! An archive becomes files in a directory, one after another.
//!
//! Neither the archive nor the directory is trusted. A container makes one out of what it likes, and may change the
//! other meanwhile, where it has it as a volume. So every step is one name in an open directory, and no symlink is
//! followed: not one that the archive brought, and not one that was there. Each file is whole when it gets its name.

use std::cell::Cell;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::container::store::no_room;
use crate::copying::find::Target;
use crate::copying::new_file::{NewFile, temporary_name};
use crate::error::{Error, Result, Step};
use crate::layers::owners::{OWN_XATTR, Recorded, XATTR};
use crate::layers::remove;
use crate::layers::unpack::archive::{self, Entry, Kind, Time, shown};
use crate::layers::unpack::stream::{self, Stream};
use crate::layers::unpack::tree::{DEEPEST, components};
use crate::layers::unpack::{Limits, is_of_drivers};

/// How the files are made.
#[derive(Debug, Clone)]
pub struct Manner {
    pub owner: Owner,
    /// Setuid, setgid and sticky bits are those of the archive; else files have none.
    pub special_bits: bool,
    /// File capabilities and access lists, not `user.` attributes alone.
    pub all_attributes: bool,
    /// A file takes the place of a directory, and the other way round.
    pub overwrite: bool,
    /// Owners that the kernel refuses are recorded for emulated root.
    pub record: bool,
}

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whoever makes them.
    Maker,
    /// This user and group.
    One(u32, u32),
    /// Those that the archive names.
    Archive,
}

/// Unpacks the archive, which is not compressed. Where the target has a name, it is the first component of all names
/// in the archive that is replaced by it; else that is left out, unless `whole` says that the names are to be taken as
/// they are.
///
/// # Errors
/// What is wrong with which entry. The files before it are there.
pub fn receive(archive: &mut (dyn Read + Send), target: Target, whole: bool, manner: &Manner) -> Result<()> {
    let limits = Limits::default();
    let work = |stream: &mut Stream| {
        let mut receiver = Receiver::new(target, whole, manner);
        let mut entries = 0;
        while let Some(entry) = archive::next(stream).map_err(|error| cannot_read(&error))? {
            entries += 1;
            if entries > limits.entries {
                return Err(Error::new("cannot copy").because("there are too many files"));
            }
            let mut left = entry.stored;
            receiver
                .entry(&entry, stream, &mut left)
                .map_err(|error| error.while_doing(format!("cannot copy `{}`", shown(&receiver.last))))?;
            archive::finish(stream, &entry, left).map_err(|error| cannot_read(&error))?;
        }
        receiver.finish()
    };
    stream::read_ahead(archive, &limits, work).map(|_| ())
}

fn cannot_read(error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::new("the archive ends early"),
        _ => Error::new("cannot read the archive").because(error),
    }
}

struct Receiver<'m> {
    root: OwnedFd,
    /// What the first component becomes; none: it is left out.
    name: Option<Vec<u8>>,
    whole: bool,
    manner: &'m Manner,
    /// The directories that were entered last.
    way: Vec<Level>,
    /// They get their modes and times when nothing changes in them any more.
    made: Vec<Made>,
    names: u64,
    /// The path of the last entry, for messages.
    last: Vec<u8>,
    told: Cell<bool>,
    /// The directory that was last cleared of what killed copies left.
    cleared: Cell<Option<(u64, u64)>>,
}

struct Level {
    name: Vec<u8>,
    directory: OwnedFd,
}

/// A directory that was made here.
struct Made {
    path: Vec<Vec<u8>>,
    file: (u64, u64),
    mode: u32,
    modified: Time,
}

impl<'m> Receiver<'m> {
    fn new(target: Target, whole: bool, manner: &'m Manner) -> Self {
        Self {
            root: target.directory,
            name: target.name,
            whole,
            manner,
            way: Vec::new(),
            made: Vec::new(),
            names: 0,
            last: Vec::new(),
            told: Cell::new(false),
            cleared: Cell::new(None),
        }
    }

    /// Where an entry goes.
    fn placed(&self, name: &[u8]) -> Result<Vec<Vec<u8>>> {
        let named = components(name)?;
        let mut path: Vec<Vec<u8>> = Vec::with_capacity(named.len());
        if self.whole {
            path.extend(named.into_iter().map(<[u8]>::to_vec));
        } else {
            // The contents of a directory are packed with `.` before their names.
            let rest = if name.starts_with(b"./") || name == b"." {
                &named[..]
            } else {
                named.get(1..).unwrap_or_default()
            };
            path.extend(self.name.clone());
            path.extend(rest.iter().map(|part| part.to_vec()));
        }
        if path.len() > DEEPEST {
            return Err(Error::new(format!("it lies more than {DEEPEST} directories deep")));
        }
        Ok(path)
    }

    fn entry(&mut self, entry: &Entry, stream: &mut Stream, left: &mut u64) -> Result<()> {
        self.last.clone_from(&entry.name);
        let path = self.placed(&entry.name)?;
        self.last = path.join(&b'/');
        let Some((name, parent)) = path.split_last() else {
            if entry.kind == Kind::Directory {
                return Ok(());
            }
            return Err(Error::new("a file cannot replace the directory"));
        };
        if matches!(entry.kind, Kind::Character | Kind::Block) {
            log::warn!("`{}` is left out: devices are not copied", shown(&self.last));
            return Ok(());
        }
        self.enter(parent)?;
        match entry.kind {
            Kind::Directory => self.directory(entry, name, &path),
            Kind::File => self.file(entry, name, stream, left),
            Kind::HardLink => self.hard_link(entry, name, parent),
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(Error::new("it is a symlink to nothing"));
                }
                self.special(entry, name, |here, name| {
                    rustix::fs::symlinkat(entry.link.as_slice(), here, name)
                })
            }
            Kind::Fifo => self.special(entry, name, |here, name| {
                rustix::fs::mknodat(here, name, FileType::Fifo, Mode::from_raw_mode(entry.mode & 0o777), 0)
            }),
            Kind::Character | Kind::Block => Ok(()),
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.way.last().map_or(self.root.as_fd(), |level| level.directory.as_fd())
    }

    /// Enters a directory that is there or was made; an archive of the user's may leave out some.
    fn enter(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let known = path.iter().zip(&self.way).take_while(|(name, level)| **name == level.name).count();
        self.way.truncate(known);
        for name in &path[known..] {
            let directory = match open_directory(self.here(), name, OFlags::PATH) {
                Err(Errno::NOENT) => {
                    made(rustix::fs::mkdirat(self.here(), name, Mode::from_raw_mode(0o755)))?;
                    open_directory(self.here(), name, OFlags::PATH)
                }
                opened => opened,
            };
            let directory = directory.map_err(|error| {
                let failed = Error::new(format!("cannot enter the directory `{}`", shown(name)));
                match error {
                    Errno::NOTDIR | Errno::LOOP => failed.because("a file or symlink is in the way"),
                    error => failed.because(error),
                }
            })?;
            self.way.push(Level { name: name.clone(), directory });
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, name: &[u8], path: &[Vec<u8>]) -> Result<()> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777 | 0o700);
        match rustix::fs::mkdirat(self.here(), name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = self.look(name)?;
                if there.is_some_and(|there| is(&there, FileType::Directory)) {
                    // What was there keeps its owner, mode and times.
                    return Ok(());
                }
                self.make_way(name)?;
                made(rustix::fs::mkdirat(self.here(), name, mode))?;
            }
            Err(error) => return Err(explain(error, "make it")),
        }
        let opened = open_directory(self.here(), name, OFlags::RDONLY).step(|| "cannot open it")?;
        let stat = rustix::fs::fstat(&opened).step(|| "cannot look at it")?;
        self.own(entry, opened.as_fd(), b"", stat.st_mode)?;
        self.attributes(entry, opened.as_fd())?;
        self.names += path.iter().map(|name| name.len() as u64 + 64).sum::<u64>();
        if self.names > Limits::default().names {
            return Err(Error::new("there are too many directories"));
        }
        let mode = if self.manner.special_bits { entry.mode } else { entry.mode & 0o1777 };
        self.made.push(Made {
            path: path.to_vec(),
            file: (stat.st_dev, stat.st_ino),
            mode,
            modified: entry.modified,
        });
        Ok(())
    }

    fn file(&mut self, entry: &Entry, name: &[u8], stream: &mut Stream, left: &mut u64) -> Result<()> {
        if self.is_mounted(name)? {
            return self.over_mounted(entry, name, stream, left);
        }
        let new = NewFile::create(self.here(), &self.cleared)?;
        fill(&new.file, entry, stream, left)?;
        self.own(entry, new.file.as_fd(), b"", libc::S_IFREG)?;
        // A change of owner and every write take setuid and capabilities away.
        self.attributes(entry, new.file.as_fd())?;
        let mode = if self.manner.special_bits { entry.mode } else { entry.mode & 0o777 };
        rustix::fs::fchmod(&new.file, Mode::from_raw_mode(mode)).step(|| "cannot set its mode")?;
        rustix::fs::futimens(&new.file, &times(entry.modified)).step(|| "cannot set its time")?;
        self.make_way_for_a_file(name)?;
        new.publish(self.here(), name)
    }

    /// A file on which another is mounted is written to: its name cannot be given to a new one.
    fn over_mounted(&self, entry: &Entry, name: &[u8], stream: &mut Stream, left: &mut u64) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.here(), name, flags, Mode::empty()).step(|| "cannot open it")?;
        let stat = rustix::fs::fstat(&file).step(|| "cannot look at it")?;
        if !is(&stat, FileType::RegularFile) {
            return Err(Error::new("something is mounted on it"));
        }
        rustix::fs::ftruncate(&file, 0).map_err(|error| explain(error, "empty it"))?;
        fill(&file, entry, stream, left)
    }

    fn hard_link(&mut self, entry: &Entry, name: &[u8], parent: &[Vec<u8>]) -> Result<()> {
        let from = |error: Error| error.while_doing(format!("it is a hard link to `{}`", shown(&entry.link)));
        let target = self.placed(&entry.link).map_err(from)?;
        let (target_name, target_parent) =
            target.split_last().ok_or_else(|| from(Error::new("that is a directory")))?;
        self.enter(target_parent).map_err(from)?;
        let directory = self.here().try_clone_to_owned().step(|| "cannot hold its directory")?;
        let source = self.look(target_name)?.ok_or_else(|| from(Error::new("there is no such file")))?;
        if is(&source, FileType::Directory) {
            return Err(from(Error::new("that is a directory")));
        }
        self.enter(parent)?;
        if self.look(name)?.is_some_and(|there| same(&there, &source)) {
            return Ok(());
        }
        self.special_without_attributes(name, |here, name| {
            rustix::fs::linkat(&directory, target_name.as_slice(), here, name, AtFlags::empty())
        })
    }

    /// Makes what cannot be opened.
    fn special(
        &mut self,
        entry: &Entry,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<(), Errno>,
    ) -> Result<()> {
        self.special_without_attributes(name, make)?;
        let stat = self.look(name)?;
        let kind = if entry.kind == Kind::Symlink { FileType::Symlink } else { FileType::Fifo };
        if !stat.is_some_and(|stat| is(&stat, kind)) {
            // Somebody has put something else there.
            return Ok(());
        }
        self.own(
            entry,
            self.here().try_clone_to_owned().step(|| "cannot hold its directory")?.as_fd(),
            name,
            0,
        )?;
        let times = times(entry.modified);
        rustix::fs::utimensat(self.here(), name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .step(|| "cannot set its time")
    }

    fn special_without_attributes(
        &mut self,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<(), Errno>,
    ) -> Result<()> {
        match make(self.here(), name) {
            Err(Errno::EXIST) => {}
            done => return made(done),
        }
        if self.is_mounted(name)? {
            return Err(Error::new("something is mounted there"));
        }
        self.make_way_for_a_file(name)?;
        let temporary = temporary_name()?;
        made(make(self.here(), &temporary))?;
        let renamed = rustix::fs::renameat(self.here(), &temporary, self.here(), name);
        // After a rename to another name of the same file both are there.
        let _ = rustix::fs::unlinkat(self.here(), &temporary, AtFlags::empty());
        made(renamed)
    }

    fn look(&self, name: &[u8]) -> Result<Option<Stat>> {
        match rustix::fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            found => found.map(Some).step(|| "cannot look at what is there"),
        }
    }

    fn is_mounted(&self, name: &[u8]) -> Result<bool> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(self.here(), name, flags, Mode::empty(), within) {
            Err(Errno::XDEV) => Ok(true),
            Ok(_) | Err(Errno::NOENT | Errno::LOOP) => Ok(false),
            Err(error) => Err(error).step(|| "cannot look at what is there"),
        }
    }

    /// Before a file gets the name: a directory of that name goes, if it may.
    fn make_way_for_a_file(&self, name: &[u8]) -> Result<()> {
        match self.look(name)? {
            Some(there) if is(&there, FileType::Directory) => self.make_way(name),
            _ => Ok(()),
        }
    }

    /// Removes what is of another kind than what comes.
    fn make_way(&self, name: &[u8]) -> Result<()> {
        if !self.manner.overwrite {
            return Err(Error::new("something of another kind is in the way")
                .hint("`--overwrite` replaces files by directories and directories by files"));
        }
        if self.is_mounted(name)? {
            return Err(Error::new("something is mounted there"));
        }
        match rustix::fs::unlinkat(self.here(), name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {
                use std::os::unix::ffi::OsStrExt;
                remove::below(self.here(), std::ffi::OsStr::from_bytes(name))
                    .step(|| "cannot remove what is there")
            }
            removed => removed.step(|| "cannot remove what is there"),
        }
    }

    /// Gives the file to its owner; `name` is empty for the open file itself.
    fn own(&self, entry: &Entry, file: BorrowedFd<'_>, name: &[u8], kind: u32) -> Result<()> {
        let (uid, gid) = match self.manner.owner {
            Owner::Maker => return Ok(()),
            Owner::One(uid, gid) => (uid, gid),
            Owner::Archive => (entry.uid, entry.gid),
        };
        let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
        match rustix::fs::chownat(file, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP | Errno::OVERFLOW) => {
                let recorded = Recorded { uid, gid, mode: entry.mode | kind & libc::S_IFMT, device: (0, 0) };
                let taken = self.manner.record && name.is_empty() && record(file, recorded);
                if !taken && !self.told.replace(true) {
                    log::warn!(
                        "`{}` keeps the owner that it was made with: the container cannot have user {uid} and group {gid}",
                        shown(&self.last)
                    );
                }
                Ok(())
            }
            Err(error) => Err(explain(error, &format!("give it to user {uid} and group {gid}"))),
        }
    }

    fn attributes(&self, entry: &Entry, file: BorrowedFd<'_>) -> Result<()> {
        for (name, value) in &entry.xattrs {
            let users = name.starts_with(b"user.") && !is_of_drivers(name);
            let others = name == b"security.capability" || name.starts_with(b"system.posix_acl_");
            let wanted = users || others && self.manner.all_attributes;
            if name.contains(&0) || !wanted {
                continue;
            }
            match rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS | Errno::INVAL) => {
                    log::debug!("the attribute `{}` of `{}` is left out", shown(name), shown(&self.last));
                }
                Err(error) => {
                    return Err(explain(error, &format!("set its extended attribute `{}`", shown(name))));
                }
            }
        }
        Ok(())
    }

    /// From below, so that a mode that shuts a directory does not shut out those in it.
    fn finish(mut self) -> Result<()> {
        let mut made = std::mem::take(&mut self.made);
        made.sort_by(|one, other| one.path.cmp(&other.path));
        while let Some(directory) = made.pop() {
            self.finish_directory(&directory).map_err(|error| {
                error.while_doing(format!("cannot copy `{}`", shown(&directory.path.join(&b'/'))))
            })?;
        }
        Ok(())
    }

    fn finish_directory(&mut self, directory: &Made) -> Result<()> {
        let Some((name, parent)) = directory.path.split_last() else { return Ok(()) };
        // What is there may be another by now: a later entry's, or a neighbour's.
        if self.enter(parent).is_err() {
            return Ok(());
        }
        let Ok(opened) = open_directory(self.here(), name, OFlags::RDONLY) else { return Ok(()) };
        let stat = rustix::fs::fstat(&opened).step(|| "cannot look at it")?;
        if (stat.st_dev, stat.st_ino) != directory.file {
            return Ok(());
        }
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(directory.mode)).step(|| "cannot set its mode")?;
        rustix::fs::futimens(&opened, &times(directory.modified)).step(|| "cannot set its time")
    }
}

/// Writes the content of the entry.
fn fill(file: &OwnedFd, entry: &Entry, stream: &mut Stream, left: &mut u64) -> Result<()> {
    let mut failure = None;
    let mut pass = |size: u64, mut at: u64| {
        let passed = stream.pass(size, |bytes| {
            *left -= bytes.len() as u64;
            let written = write_at(file, bytes, at);
            at += bytes.len() as u64;
            written.map_err(|error| {
                failure = Some(error);
                std::io::Error::from(error)
            })
        });
        passed.map_err(|error| match failure {
            Some(error) => explain(error, "write it"),
            None => cannot_read(&error),
        })
    };
    match &entry.sparse {
        None => pass(entry.stored, 0),
        Some(sparse) => {
            rustix::fs::ftruncate(file, sparse.size).map_err(|error| explain(error, "give it its size"))?;
            sparse.parts.iter().try_for_each(|(offset, size)| pass(*size, *offset))
        }
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                bytes = &bytes[count..];
                at += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the file took the record: fuse-overlayfs keeps the attribute of others to itself.
fn record(file: BorrowedFd<'_>, recorded: Recorded) -> bool {
    let text = recorded.text();
    [XATTR, OWN_XATTR]
        .iter()
        .any(|name| rustix::fs::fsetxattr(file, *name, text.as_bytes(), XattrFlags::empty()).is_ok())
}

pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

pub(super) fn made(result: Result<(), Errno>) -> Result<()> {
    result.map_err(|error| explain(error, "make it"))
}

pub(super) fn explain(error: Errno, what: &str) -> Error {
    match error {
        Errno::NOSPC | Errno::DQUOT => no_room(error.into(), format!("cannot {what}")),
        error => Error::new(format!("cannot {what}")).because(error),
    }
}

fn times(modified: Time) -> Timestamps {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests;
