//! One entry after another becomes a file of the layer.

mod kinds;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::layers::owners::{self, Line, Owners, Recorded};
use crate::layers::remove;
use crate::layers::unpack::archive::{self, Entry, Kind, Time, shown};
use crate::layers::unpack::attributes::{self, Outcome};
use crate::layers::unpack::failures::{attribute_error, check, explain, explain_owner};
use crate::layers::unpack::stream::{Stream, cannot_read};
use crate::layers::unpack::tree::{Missing, Tree, components};
use crate::layers::unpack::whiteouts::{
    self, AUFS, OPAQUE, WHITEOUT, mark_opaque, open_directory, take_whiteout_file,
};
use crate::layers::unpack::{Keep, LayerFacts, Limits};
use crate::sandbox::inroot::descriptor_path;

pub struct Apply<'l> {
    tree: Tree,
    keep: Keep,
    limits: &'l Limits,
    facts: LayerFacts,
    owners: Owners,
    /// Directories get their times when nothing changes in them any more.
    directories: Vec<Directory>,
    names: u64,
    /// Whose files this process makes.
    own: (u32, u32),
    umask: u32,
    /// Bits that files, and that directories have on disk whatever the archive says.
    floor: (u32, u32),
    /// Something was removed, so that a directory may not be where it was.
    replaced: bool,
    /// It is no layer: `.wh.` is a name like any other, and there is no index for what files cannot say themselves.
    plain: bool,
}

struct Directory {
    path: Vec<u8>,
    mode: Option<u32>,
    modified: Time,
}

impl<'l> Apply<'l> {
    pub fn new(root: OwnedFd, keep: Keep, limits: &'l Limits) -> Self {
        // What a user sets for new files of his own is not the image's.
        for acl in ["system.posix_acl_default", "system.posix_acl_access"] {
            let _ = rustix::fs::removexattr(format!("/proc/self/fd/{}", root.as_raw_fd()), acl);
        }
        // Root of a user namespace is nobody special to a server: it cannot read its own files of mode 000, nor
        // record the owners of those that it may not write. fuse-overlayfs wants a record of all or none.
        let place = descriptor_path(&root);
        let served = crate::host::filesystem::of(place.as_ref()).is_ok_and(|found| found.is_served());
        Self {
            floor: match keep {
                Keep::Attributes if served => (0o600, 0o700),
                Keep::Index if served => (0o400, 0o700),
                _ => (0, 0),
            },
            tree: Tree::new(root),
            keep,
            limits,
            facts: LayerFacts::default(),
            owners: Owners::default(),
            directories: Vec::new(),
            names: 0,
            own: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            umask: umask(),
            replaced: false,
            plain: false,
        }
    }

    /// For an archive that is no layer.
    pub fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    /// Files that their owner can read, and directories in which he can work, whatever the archive says.
    pub fn readable(self) -> Self {
        Self { floor: (0o400, 0o700), ..self }
    }

    /// Makes one entry; the stream is then at the next header.
    pub fn entry(&mut self, entry: &Entry, stream: &mut Stream) -> Result<()> {
        self.facts.entries += 1;
        if self.facts.entries > self.limits.entries {
            return Err(Error::new("cannot unpack the layer")
                .because(format!("it has more than {} entries", self.limits.entries)));
        }
        let name = &entry.name;
        let path = components(name)?;
        let mut left = entry.stored;
        self.place(entry, &path, stream, &mut left)
            .map_err(|error| error.while_doing(format!("cannot unpack the entry `{}`", shown(name))))?;
        archive::finish(stream, entry, left).map_err(|error| {
            cannot_read(&error).while_doing(format!("cannot unpack the entry `{}`", shown(name)))
        })
    }

    fn place(&mut self, entry: &Entry, path: &[&[u8]], stream: &mut Stream, left: &mut u64) -> Result<()> {
        let Some((base, parent)) = path.split_last() else { return self.root_entry(entry) };
        if self.plain {
            self.enter(parent)?;
            return self.make(entry, base, parent, stream, left);
        }
        if path[0].starts_with(AUFS) && path[0] != OPAQUE || base.starts_with(AUFS) && *base != OPAQUE {
            return Ok(());
        }
        self.enter(parent)?;
        if *base == OPAQUE {
            return self.opaque();
        }
        if let Some(hidden) = base.strip_prefix(WHITEOUT) {
            return whiteouts::hide(self.tree.here(), hidden, &mut self.facts);
        }
        self.make(entry, base, parent, stream, left)
    }

    fn make(
        &mut self,
        entry: &Entry,
        base: &[u8],
        parent: &[&[u8]],
        stream: &mut Stream,
        left: &mut u64,
    ) -> Result<()> {
        match entry.kind {
            Kind::File => self.file(entry, base, stream, left),
            Kind::HardLink => self.hard_link(entry, base, parent),
            Kind::Symlink => self.symlink(entry, base),
            Kind::Directory => self.directory(entry, base),
            Kind::Fifo => self.fifo(entry, base),
            Kind::Character | Kind::Block if self.plain => {
                log::warn!("the device `{}` is left out: no user namespace may make one", shown(&entry.name));
                Ok(())
            }
            Kind::Character | Kind::Block => self.device(entry, base),
        }
    }

    /// Enters a parent, making what no entry has made yet.
    fn enter(&mut self, path: &[&[u8]]) -> Result<()> {
        let facts = &mut self.facts;
        let (keep, plain) = (self.keep, self.plain);
        let mut make = |tree: &Tree, name: &[u8], missing: Missing| {
            if name.starts_with(WHITEOUT) && !plain {
                return Err(Error::new("a directory may not have the name of a whiteout"));
            }
            let hides = match missing {
                Missing::Whiteout => {
                    check(rustix::fs::unlinkat(tree.here(), name, AtFlags::empty()), "remove a whiteout")?;
                    true
                }
                Missing::Nothing => take_whiteout_file(tree.here(), name, facts),
            };
            let mode = Mode::from_raw_mode(0o755);
            check(rustix::fs::mkdirat(tree.here(), name, mode), "make a directory")?;
            let directory = open_directory(tree.here(), name)?;
            check(rustix::fs::fchmod(&directory, mode), "set the mode of a directory")?;
            if keep == Keep::Attributes {
                let recorded = Recorded { uid: 0, gid: 0, mode: libc::S_IFDIR | 0o755, device: (0, 0) };
                record(directory.as_fd(), recorded)?;
            }
            if hides { mark_opaque(directory.as_fd(), facts) } else { Ok(()) }
        };
        self.tree.enter(path, Some(&mut make))
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::new("the root of a layer is a directory"));
        }
        self.tree.enter(&[], None)?;
        let root = open_directory(self.tree.root(), b".")?;
        self.attributes(entry, root.as_fd(), Vec::new(), libc::S_IFDIR)?;
        self.own_directory(entry, root.as_fd())?;
        self.later(Vec::new(), Some(self.on_disk(entry)), entry.modified)
    }

    /// A directory that was there may belong to somebody else than who makes files here.
    fn own_directory(&self, entry: &Entry, directory: BorrowedFd<'_>) -> Result<()> {
        if self.keep != Keep::Inodes {
            return Ok(());
        }
        let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        rustix::fs::fchown(directory, uid, gid).map_err(|error| explain_owner(error, entry))
    }

    /// Gives a new file to its owner, if it is not whose files are made here; says whether it did.
    fn own(
        &self,
        entry: &Entry,
        chown: impl FnOnce(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    ) -> Result<bool> {
        if self.keep != Keep::Inodes || (entry.uid, entry.gid) == self.own {
            return Ok(false);
        }
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        chown(Some(uid), Some(gid)).map_err(|error| explain_owner(error, entry))?;
        Ok(true)
    }

    /// Attributes and, where it is kept so, the owner of an open file.
    fn attributes(&mut self, entry: &Entry, file: BorrowedFd<'_>, path: Vec<u8>, kind: u32) -> Result<()> {
        let mut refused = Vec::new();
        for (name, value) in &entry.xattrs {
            match attributes::set(file, name, value) {
                Ok(Outcome::Refused) => {
                    if name == b"security.capability" {
                        log::warn!(
                            "`{}` has no file capabilities here: the file system takes none",
                            shown(&entry.name)
                        );
                    }
                    refused.push((name.clone(), value.clone()));
                }
                Ok(_) => {}
                Err(error) => return Err(attribute_error(name, error)),
            }
        }
        let is_device = matches!(kind, libc::S_IFCHR | libc::S_IFBLK);
        let recorded = recorded(entry, kind);
        let in_index = match self.keep {
            Keep::Attributes => !record(file, recorded)?,
            Keep::Inodes if is_device => !record(file, recorded)?,
            Keep::Index => is_device || (entry.uid, entry.gid) != (0, 0) || self.on_disk(entry) != entry.mode,
            Keep::Inodes => false,
        };
        if in_index || !refused.is_empty() {
            self.put(path, Line { recorded, xattrs: refused })?;
        }
        Ok(())
    }

    /// The mode of a file or directory as it is stored; that of the archive is recorded where it is another.
    fn on_disk(&self, entry: &Entry) -> u32 {
        let (file, directory) = self.floor;
        entry.mode | if entry.kind == Kind::Directory { directory } else { file }
    }

    fn put(&mut self, path: Vec<u8>, line: Line) -> Result<()> {
        let attributes = line.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64);
        self.count(path.len() + attributes.sum::<usize>())?;
        self.owners.put(path, line);
        Ok(())
    }

    fn later(&mut self, path: Vec<u8>, mode: Option<u32>, modified: Time) -> Result<()> {
        self.count(path.len())?;
        self.directories.push(Directory { path, mode, modified });
        Ok(())
    }

    fn count(&mut self, length: usize) -> Result<()> {
        self.names += length as u64 + 64;
        if self.names > self.limits.names {
            return Err(Error::new("the names and attributes of its files need too much memory")
                .because(format!("more than {} bytes", self.limits.names)));
        }
        Ok(())
    }

    fn opaque(&mut self) -> Result<()> {
        let directory = open_directory(self.tree.here(), b".")?;
        if self.tree.path_of(b"").is_empty() {
            self.facts.opaque = true;
        }
        mark_opaque(directory.as_fd(), &mut self.facts)
    }

    /// Does `make` in the current directory; what already has the name goes first. The last entry wins.
    fn over<T>(
        &mut self,
        name: &[u8],
        what: &str,
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T> {
        match make(self.tree.here()) {
            Err(Errno::EXIST) => {
                self.remove(name)?;
                make(self.tree.here()).map_err(|error| explain(error, what))
            }
            Ok(made) => {
                take_whiteout_file(self.tree.here(), name, &self.facts);
                Ok(made)
            }
            Err(error) => Err(explain(error, what)),
        }
    }

    /// Removes what an earlier entry of the layer made under `name`.
    fn remove(&mut self, name: &[u8]) -> Result<()> {
        self.replaced = true;
        self.tree.forget();
        if !self.owners.is_empty() {
            self.owners.forget(&self.tree.path_of(name));
        }
        match rustix::fs::unlinkat(self.tree.here(), name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {
                use std::os::unix::ffi::OsStrExt;
                remove::below(self.tree.here(), std::ffi::OsStr::from_bytes(name)).map_err(|error| {
                    Error::new("cannot remove the directory that an earlier entry made").because(error)
                })
            }
            result => check(result, "remove what an earlier entry made"),
        }
    }

    /// Sets what has to wait for the end.
    pub fn finish(mut self) -> Result<(LayerFacts, Owners)> {
        if self.keep == Keep::Attributes {
            // fuse-overlayfs looks for the record in the root, to see whether a layer keeps owners so.
            let root = open_directory(self.tree.root(), b".")?;
            if Recorded::of(root.as_fd()).is_none() {
                let stat = check(rustix::fs::fstat(&root), "look at the root")?;
                record(root.as_fd(), Recorded { uid: 0, gid: 0, mode: stat.st_mode, device: (0, 0) })?;
            }
        }
        // From below, so that a mode that shuts a directory does not shut out those in it; of one that came
        // several times the last entry counts.
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_by(|one, other| one.path.cmp(&other.path));
        let mut done: Option<Vec<u8>> = None;
        while let Some(directory) = directories.pop() {
            if done.as_ref() == Some(&directory.path) {
                continue;
            }
            self.finish_directory(&directory).map_err(|error| {
                error.while_doing(format!("cannot unpack the entry `{}/`", shown(&directory.path)))
            })?;
            done = Some(directory.path);
        }
        Ok((self.facts, self.owners))
    }

    fn finish_directory(&mut self, directory: &Directory) -> Result<()> {
        let path = components(&directory.path)?;
        let (name, parent): (&[u8], &[&[u8]]) = match path.split_last() {
            Some((name, parent)) => (name, parent),
            None => (b".", &[]),
        };
        if self.replaced {
            // A later entry may have put something else there.
            if self.tree.enter(parent, None).is_err() {
                return Ok(());
            }
            let there = rustix::fs::statat(self.tree.here(), name, AtFlags::SYMLINK_NOFOLLOW);
            if !there.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                return Ok(());
            }
        } else {
            self.tree.enter(parent, None)?;
        }
        let here = self.tree.here();
        if let Some(mode) = directory.mode {
            let mode = Mode::from_raw_mode(mode);
            check(rustix::fs::chmodat(here, name, mode, AtFlags::empty()), "set its mode")?;
        }
        let times = times(directory.modified);
        check(rustix::fs::utimensat(here, name, &times, AtFlags::SYMLINK_NOFOLLOW), "set its time")
    }
}

fn recorded(entry: &Entry, kind: u32) -> Recorded {
    Recorded { uid: entry.uid, gid: entry.gid, mode: entry.mode | kind, device: entry.device }
}

/// Whether the file took the record.
fn record(file: BorrowedFd<'_>, recorded: Recorded) -> Result<bool> {
    let text = recorded.text();
    match rustix::fs::fsetxattr(file, owners::XATTR, text.as_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) => Ok(false),
        Err(error) => Err(explain(error, "record its owner")),
    }
}

fn times(modified: Time) -> Timestamps {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// The mask of this process (proc_pid_status(5), Linux 4.7): asking umask(2) would set it for all threads.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    field.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o777)
}
