//! What a container has changed of its root: read from its upper layer, beside the layers below.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
use crate::layers::owners::Owners;
use crate::layers::pack;
use crate::layers::stack::{self, Merged, Stack};
use crate::layers::unpack::archive::shown;
use crate::layers::unpack::tree::{DEEPEST, too_deep};

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
    /// Paths without the slash that are there for the container alone, hide nothing, or were copied up and are as
    /// they were before.
    pub unchanged: BTreeSet<Vec<u8>>,
    /// Directories, by paths without the slash, that hide what the layers below have there.
    pub opaque: BTreeSet<Vec<u8>>,
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
    let owners = Owners::load(directory.path())?;
    let mut look = Look { driver, complete, owners, leave_out, found: Found::default() };
    let opaque = look.is_marked(&top);
    look.directory(&top, below.root().as_ref(), opaque, b"")?;
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
    /// What the container has recorded of its files.
    owners: Owners,
    leave_out: BTreeSet<Vec<u8>>,
    found: Found,
}

impl Look {
    fn add(&mut self, change: Change, path: &[u8]) {
        self.found.changes.push((change, [b"/", path].concat()));
    }

    /// Looks at what is in a directory of the upper. `opaque`: it, or one above it, hides what the layers below have
    /// there.
    fn directory(
        &mut self,
        upper: &OwnedFd,
        lower: Option<&Merged>,
        opaque: bool,
        path: &[u8],
    ) -> Result<()> {
        let failed = || format!("cannot read the directory `{}`", shown(path));
        if path.iter().filter(|byte| **byte == b'/').count() >= DEEPEST {
            return Err(too_deep(Error::new(failed())));
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
                self.entry(upper, (lower, opaque), name, &below)?;
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

    /// Looks at one name. `hidden`: what `lower` has is not to be seen any more.
    fn entry(
        &mut self,
        upper: &OwnedFd,
        (lower, hidden): (Option<&Merged>, bool),
        name: &[u8],
        path: &[u8],
    ) -> Result<()> {
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
            } else {
                self.found.unchanged.insert(path.to_vec());
            }
            return Ok(());
        }
        if let Some(removed) = name.strip_prefix(WHITEOUT)
            && self.driver == Driver::FuseOverlayfs
        {
            let there = rustix::fs::statat(upper, removed, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            let at = path.len() - name.len();
            let removed_path = [&path[..at], removed].concat();
            if self.leave_out.contains(&removed_path) || before(removed).is_none() {
                self.found.unchanged.insert(path.to_vec());
            } else if !there {
                self.add(Change::Deleted, &removed_path);
            }
            return Ok(());
        }
        let Some(before) = before(name) else {
            let count = self.found.changes.len();
            self.add(Change::Added, path);
            self.below(upper, (None, false), name, path)?;
            // A directory that had to be there for a mount, and nothing else.
            let prefix = [path, b"/"].concat();
            let holds_a_mount = || self.leave_out.iter().any(|left| left.starts_with(&prefix));
            if self.found.changes.len() == count + 1 && kind == FileType::Directory && holds_a_mount() {
                self.found.changes.pop();
                self.found.unchanged.insert(path.to_vec());
            }
            return Ok(());
        };
        let parent = lower.and_then(|lower| before.directory_of(lower)).unwrap_or(upper);
        let recorded = self.owners.get(path).is_some();
        let sides = [(upper.as_fd(), &stat), (parent.as_fd(), &before.stat)];
        if kind != FileType::Directory {
            if hidden || recorded && !self.complete || !self.is_same(sides, name) {
                self.add(Change::Changed, path);
            } else {
                self.found.unchanged.insert(path.to_vec());
            }
            return Ok(());
        }
        let itself = hidden || recorded || before.directory.is_none() || !self.is_same(sides, name);
        let count = self.found.changes.len();
        let opaque = self.below(upper, (before.directory.as_ref(), hidden), name, path)?;
        if itself || opaque || self.found.changes.len() > count {
            self.add(Change::Changed, path);
        } else {
            self.found.unchanged.insert(path.to_vec());
        }
        Ok(())
    }

    /// Looks at what is below `name`, if it is a directory; says whether it hides what was there.
    fn below(
        &mut self,
        upper: &OwnedFd,
        (lower, hidden): (Option<&Merged>, bool),
        name: &[u8],
        path: &[u8],
    ) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(upper, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(false),
            opened => {
                let opened = opened.step(|| format!("cannot open `{}`", shown(path)))?;
                let removed = [WHITEOUT, name].concat();
                let marked = self.driver == Driver::FuseOverlayfs
                    && rustix::fs::statat(upper, removed, AtFlags::SYMLINK_NOFOLLOW).is_ok();
                let opaque = lower.is_some() && (marked || self.is_marked(&opened));
                // fuse-overlayfs marks every new directory.
                let hides = opaque && lower.is_some_and(|lower| !stack::names_in(lower).is_empty());
                if hides && !hidden {
                    self.found.opaque.insert(path.to_vec());
                }
                self.directory(&opened, lower, opaque || hidden, path)?;
                Ok(hides)
            }
        }
    }

    /// Whether a directory of the upper hides what is below it. The kernel's overlay copies fuse-overlayfs' marks up
    /// with a directory, and knows nothing of them.
    fn is_marked(&self, directory: &OwnedFd) -> bool {
        match self.driver {
            Driver::Overlay => stack::is_opaque_for_kernel(directory),
            Driver::FuseOverlayfs => stack::is_opaque(directory),
            Driver::Bind | Driver::Copy => false,
        }
    }

    /// Whether a name is in the upper what it is in the layers below: opening a file for writing copies it, and so does
    /// changing it back. The time of a directory is that of its last entry and counts for nothing, as does that of a
    /// symlink, which fuse-overlayfs does not keep.
    fn is_same(&self, [upper, lower]: [(BorrowedFd<'_>, &Stat); 2], name: &[u8]) -> bool {
        let found = |(parent, stat)| pack::Found { parent, name, stat, line: None };
        let (upper, lower) = (found(upper), found(lower));
        // A further name makes it the other's, and both are to be in one layer.
        if !self.complete && upper.stat.st_nlink > 1 && !upper.is_directory() {
            return false;
        }
        let (Ok(mut now), Ok(before)) = (upper.describe(name), lower.describe(name)) else { return false };
        if upper.is_directory() || now.kind == tar::EntryType::Symlink {
            now.modified = before.modified;
        }
        // Where everything was copied, reading all of it would take too long.
        now == before && (self.complete || upper.has_content_of(&lower))
    }
}
