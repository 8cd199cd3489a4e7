//! What a container has changed of its root: read from its upper layer, beside the layers below.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{Driver, Root, Spec};
use crate::container::store::Store;
use crate::error::{Error, Result, Step};
use crate::image::difference::Change;
use crate::image::host;
use crate::image::transfer::unpacker;
use crate::layers::owners::Recorded;
use crate::layers::stack::{self, Merged, Stack};
use crate::layers::unpack::archive::shown;
use crate::layers::unpack::tree::DEEPEST;

/// Changes are handed over in pieces of so many bytes of paths.
const PIECE: usize = 8 << 10;
/// The marks of tar layers, which fuse-overlayfs makes where it can make no others.
const WHITEOUT: &[u8] = b".wh.";
/// What the kernel's file systems cover.
const COVERED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// What was found in an upper layer.
#[derive(Debug, Default)]
pub struct Found {
    /// By path, which begins with `/`.
    pub changes: Vec<(Change, Vec<u8>)>,
    /// Paths without the slash that are there for the container alone, or are directories in which nothing was
    /// changed.
    pub unchanged: BTreeSet<Vec<u8>>,
}

/// The changes of a container, sorted by path. What is mounted in it and the files that sbx generates are left out.
///
/// # Errors
/// There is nothing to compare its root with, or it cannot be read.
pub fn changes(store: &Store, id: &str) -> Result<Vec<(Change, Vec<u8>)>> {
    let spec = store.read_spec(id)?;
    let directory = store.directory_of(&spec);
    let spec = spec.located(store.root(), &directory)?.into_owned();
    let failed = || format!("cannot tell what the container `{}` has changed", spec.name);
    if let Root::WritableDirectory { path } = &spec.root {
        return Err(Error::new(failed()).because(format!(
            "its changes are in `{}` itself, and nothing is left to compare",
            path.display()
        )));
    }
    let mut all = Vec::new();
    unpacker::run(
        &spec.identity,
        |results| {
            let found = find(&spec, &directory)?;
            let mut piece: Vec<(Change, Vec<u8>)> = Vec::new();
            let mut length = 0;
            for change in found.changes {
                length += change.1.len() + 16;
                piece.push(change);
                if length > PIECE {
                    results.hand_over(&std::mem::take(&mut piece))?;
                    length = 0;
                }
            }
            results.hand_over(&piece)
        },
        |piece: Vec<(Change, Vec<u8>)>| {
            all.extend(piece);
            Ok(())
        },
    )
    .map_err(|error| error.while_doing(failed()))?;
    Ok(all)
}

/// Looks through the upper of a located spec, as root of the canonical user namespace. A process does so once: for the
/// image `host` it goes into a mount namespace of its own.
///
/// # Errors
/// A directory cannot be read.
pub fn find(spec: &Spec, directory: &ContainerDirectory) -> Result<Found> {
    let upper = directory.upper();
    let (lowers, driver) = match &spec.root {
        Root::Host { driver: Driver::FuseOverlayfs } if upper.is_dir() => {
            stage(&directory.stage())?;
            (vec![directory.stage()], Driver::FuseOverlayfs)
        }
        Root::Directories { lowers, driver } if *driver != Driver::Bind && upper.is_dir() => {
            (lowers.clone(), *driver)
        }
        // Nothing could be changed.
        _ => return Ok(Found::default()),
    };
    let below = Stack::open(&lowers)?;
    let leave_out = leave_out(spec, directory, &lowers)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(&upper, flags, Mode::empty())
        .step(|| format!("cannot open `{}`", upper.display()))?;
    // A container that never ran has an empty upper, which as a copy would have lost everything.
    let complete = driver == Driver::Copy && directory.work().join("copied").exists();
    let mut look = Look { driver, complete, leave_out, found: Found::default() };
    look.directory(&top, below.root().as_ref(), stack::is_opaque(&top), b"")?;
    let Look { mut found, leave_out, .. } = look;
    found.changes.sort_by(|one, other| one.1.cmp(&other.1));
    found.unchanged.extend(leave_out);
    Ok(found)
}

/// The files of the image `host`, in a mount namespace of this process's own.
fn stage(place: &Path) -> Result<()> {
    let failed = || "cannot lay out the image `host`";
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).step(failed)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).step(failed)?;
    host::stage(place, true)
}

/// Where something is mounted in the container, by what the paths lead to.
fn leave_out(spec: &Spec, directory: &ContainerDirectory, lowers: &[PathBuf]) -> Result<BTreeSet<Vec<u8>>> {
    let all: Vec<PathBuf> = lowers.iter().cloned().chain([directory.upper()]).collect();
    let stack = Stack::open(&all)?;
    let generated = directory.generated_files().into_iter().filter(|(file, _)| file.exists());
    let targets = COVERED
        .iter()
        .map(|path| Path::new(*path).to_owned())
        .chain(generated.map(|(_, target)| PathBuf::from(target)))
        .chain(spec.mounts.iter().map(|mount| mount.target.clone()));
    let resolved = targets.map(|target| stack.real_path(&target).into_os_string().into_vec());
    Ok(resolved.filter(|path| !path.is_empty()).collect())
}

struct Look {
    driver: Driver,
    /// The upper has everything: what is not in it was removed.
    complete: bool,
    leave_out: BTreeSet<Vec<u8>>,
    found: Found,
}

impl Look {
    fn add(&mut self, change: Change, path: &[u8]) {
        self.found.changes.push((change, [b"/", path].concat()));
    }

    /// Looks at what is in a directory of the upper. `opaque`: it hides what the layers below have there.
    fn directory(
        &mut self,
        upper: &OwnedFd,
        lower: Option<&Merged>,
        opaque: bool,
        path: &[u8],
    ) -> Result<()> {
        let failed = || format!("cannot read the directory `{}`", shown(path));
        if path.iter().filter(|byte| **byte == b'/').count() >= DEEPEST {
            return Err(Error::new(failed()).because(format!("it lies more than {DEEPEST} directories deep")));
        }
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(upper).step(failed)? {
            let entry = match entry {
                Err(Errno::NOENT) => break,
                entry => entry.step(failed)?,
            };
            names.insert(entry.file_name().to_bytes().to_vec());
        }
        names.remove(&b"."[..]);
        names.remove(&b".."[..]);
        for name in &names {
            let below = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
            if !self.leave_out.contains(&below) {
                self.entry(upper, lower, name, &below)?;
            }
        }
        if let Some(lower) = lower.filter(|_| opaque || self.complete) {
            for name in stack::names_in(lower) {
                let name = name.as_bytes();
                let below = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
                if !names.contains(name) && !self.leave_out.contains(&below) {
                    self.add(Change::Deleted, &below);
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, upper: &OwnedFd, lower: Option<&Merged>, name: &[u8], path: &[u8]) -> Result<()> {
        let stat = match rustix::fs::statat(upper, name, AtFlags::SYMLINK_NOFOLLOW) {
            // A running container removes files.
            Err(Errno::NOENT) => return Ok(()),
            found => found.step(|| format!("cannot look at `{}`", shown(path)))?,
        };
        let before = |name: &[u8]| lower.and_then(|lower| stack::entry(lower, OsStr::from_bytes(name)));
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            if before(name).is_some() {
                self.add(Change::Deleted, path);
            }
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT)
            && self.driver == Driver::FuseOverlayfs
        {
            let there = rustix::fs::statat(upper, hidden, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            let at = path.len() - name.len();
            let hidden_path = [&path[..at], hidden].concat();
            if !there && !self.leave_out.contains(&hidden_path) && before(hidden).is_some() {
                self.add(Change::Deleted, &hidden_path);
            }
            return Ok(());
        }
        let Some(before) = before(name) else {
            let count = self.found.changes.len();
            self.add(Change::Added, path);
            self.below(upper, None, name, path)?;
            // A directory that had to be there for a mount, and nothing else.
            let prefix = [path, b"/"].concat();
            let holds_a_mount = || self.leave_out.iter().any(|left| left.starts_with(&prefix));
            if self.found.changes.len() == count + 1 && kind == FileType::Directory && holds_a_mount() {
                self.found.changes.pop();
                self.found.unchanged.insert(path.to_vec());
            }
            return Ok(());
        };
        if kind != FileType::Directory {
            let parent = lower.and_then(|lower| before.directory_of(lower)).unwrap_or(upper);
            if !self.complete || differ(upper.as_fd(), parent.as_fd(), name, &stat, &before.stat) {
                self.add(Change::Changed, path);
            } else {
                self.found.unchanged.insert(path.to_vec());
            }
            return Ok(());
        }
        let parent = lower.and_then(|lower| before.directory_of(lower)).unwrap_or(upper);
        let was_directory = before.directory.is_some();
        let itself =
            !was_directory || looks(upper.as_fd(), name, &stat) != looks(parent.as_fd(), name, &before.stat);
        let count = self.found.changes.len();
        let opaque = self.below(upper, before.directory.as_ref(), name, path)?;
        if itself || opaque || self.found.changes.len() > count {
            self.add(Change::Changed, path);
        } else {
            self.found.unchanged.insert(path.to_vec());
        }
        Ok(())
    }

    /// Looks at what is below `name`, if it is a directory; says whether it hides what was there.
    fn below(&mut self, upper: &OwnedFd, lower: Option<&Merged>, name: &[u8], path: &[u8]) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(upper, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(false),
            opened => {
                let opened = opened.step(|| format!("cannot open `{}`", shown(path)))?;
                let removed = [WHITEOUT, name].concat();
                let marked = self.driver == Driver::FuseOverlayfs
                    && rustix::fs::statat(upper, removed, AtFlags::SYMLINK_NOFOLLOW).is_ok();
                let opaque = lower.is_some() && (marked || stack::is_opaque(&opened));
                self.directory(&opened, lower, opaque, path)?;
                Ok(opaque)
            }
        }
    }
}

/// Mode and owner, as they are recorded or as the inode has them.
fn looks(parent: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> (u32, u32, u32) {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
    match opened.ok().and_then(|opened| Recorded::of(opened.as_fd())) {
        Some(recorded) => (stat.st_mode & 0o7777, recorded.uid, recorded.gid),
        None => (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid),
    }
}

/// Whether a file is another than the one that it was copied from.
fn differ(upper: BorrowedFd<'_>, lower: BorrowedFd<'_>, name: &[u8], stat: &Stat, before: &Stat) -> bool {
    let own = |stat: &Stat| (stat.st_mode & libc::S_IFMT, stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    let link = |parent: BorrowedFd<'_>| {
        let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
        std::fs::read_link(OsStr::from_bytes(&path)).ok()
    };
    own(stat) != own(before)
        || looks(upper, name, stat) != looks(lower, name, before)
        || FileType::from_raw_mode(stat.st_mode) == FileType::Symlink && link(upper) != link(lower)
}
