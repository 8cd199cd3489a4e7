//! A mount namespace that is somebody else's (config-linux.md, Namespaces).
//!
//! There, pivot_root(2) would take the root away from everybody, and what is mounted is mounted for all. So the container's
//! tree is put together in a mount namespace of its own, over a copy of the directory that the other one has at the place of
//! the root, and goes there as a whole when it is complete: on that directory, which the process makes its root by
//! chroot(2). Nothing else of the other namespace is touched, nothing in it is believed (its /proc may be anything), and
//! what came to it goes again with the container ([`take_away`]).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::process::DumpableBehavior;

use crate::container::listed::{Attached, Listed};
use crate::container::process::ProcessRef;
use crate::container::spec::Spec;
use crate::error::{Error, Result, Step};
use crate::sandbox::inroot::InRoot;
use crate::sandbox::namespaces::{self, Join};
use crate::sys::channel::Channel;
use crate::sys::ids::owning_user_namespace;
use crate::sys::mount::set_propagation;
use crate::sys::process::{Fork, die_with_parent, exit_now, fork, wait_for};

/// How long it may take to look for mounts in a namespace whose file systems may be served by others.
const PATIENCE: Duration = Duration::from_secs(5);

/// The place in the other namespace, from the copy of what is there to the move.
pub(super) struct Joined<'a> {
    namespace: &'a Join,
    place: OwnedFd,
    /// It is the root of all that is there.
    is_root: bool,
}

impl<'a> Joined<'a> {
    /// Looks up `root` in the namespace, and gives a copy of it, which is mounted on `shelf` in the caller's own namespace;
    /// or the root of the namespace itself, on which nothing can be mounted without hiding it from the others.
    ///
    /// # Errors
    /// It belongs to a user namespace that the caller has no power over; there is no such directory.
    pub(super) fn open(namespace: &'a Join, root: &Path, shelf: &Path) -> Result<(Self, InRoot)> {
        let own = namespaces::open("self", "mnt")?;
        let shelf = open_directory(shelf).step(|| format!("cannot open `{}`", shelf.display()))?;
        close_to_others()?;
        namespace.enter()?;
        let failed =
            || format!("cannot find the root file system in the mount namespace of {}", namespace.origin());
        let place = open_directory(root).map_err(|error| {
            Error::new(failed())
                .because(format!("`{}`: {}", root.display(), io::Error::from(error)))
                .hint("`root.path` is looked up in the mount namespace that is joined; it may be absolute")
        })?;
        let top = open_directory(Path::new("/")).step(failed)?;
        let is_root = same_place(&place, &top).step(failed)?;
        let tree = if is_root { None } else { Some(clone_of(&place).step(failed)?) };
        nix::sched::setns(&own, CloneFlags::CLONE_NEWNS)
            .step(|| "cannot come back to the container's own mount namespace")?;
        let directory = match tree {
            Some(tree) => {
                attach(&tree, &shelf).step(failed)?;
                set_propagation(tree.as_fd(), libc::MS_PRIVATE, true).step(failed)?;
                tree
            }
            None => place.try_clone().step(failed)?,
        };
        Ok((Self { namespace, place, is_root }, InRoot::of(directory)))
    }

    /// Whether the others' root is the container's, too; nothing is mounted then.
    ///
    /// # Errors
    /// Something is to be mounted.
    pub(super) fn shares_root(&self, spec: &Spec, listed: &Listed) -> Result<bool> {
        if !self.is_root {
            return Ok(false);
        }
        let asked = [
            ("mounts", !listed.mounts.is_empty()),
            ("linux.devices", !listed.devices.is_empty()),
            ("linux.maskedPaths", !spec.security.masked_paths.is_empty()),
            ("linux.readonlyPaths", !spec.security.read_only_paths.is_empty()),
            ("linux.rootfsPropagation", listed.root_propagation.is_some()),
            ("root.readonly", spec.read_only),
            ("process.terminal", spec.process.terminal),
        ];
        let asked: Vec<&str> = asked.iter().filter(|(_, asked)| *asked).map(|(name, _)| *name).collect();
        if asked.is_empty() {
            return Ok(true);
        }
        Err(Error::new(format!(
            "cannot mount anything on the root of the mount namespace of {}",
            self.namespace.origin()
        ))
        .because("it would be hidden from all others there")
        .because(format!("`root.path` leads to it, and the bundle has {}", asked.join(", ")))
        .hint("leave these out, or name a directory below as `root.path`"))
    }

    /// Brings the tree of `root` to its place and the process into it. `record` is told what will be there, before it is.
    ///
    /// # Errors
    /// Those of move_mount(2), and the record's.
    pub(super) fn enter(self, root: &InRoot, record: impl FnOnce(Attached) -> Result<()>) -> Result<()> {
        if self.is_root {
            return self.namespace.enter();
        }
        let failed = || format!("cannot mount in the mount namespace of {}", self.namespace.origin());
        let tree = clone_of(root.directory()).step(failed)?;
        self.namespace.enter()?;
        // What is mounted on a shared mount appears with all its peers. They get this one, which shows what is there anyway.
        let below = clone_of(&self.place).step(failed)?;
        let mounts = [mount_number(&tree).step(failed)?, mount_number(&below).step(failed)?];
        record(Attached { namespace: self.namespace.number()?, mounts })?;
        attach(&below, &self.place).step(failed)?;
        set_propagation(below.as_fd(), libc::MS_PRIVATE, true).step(failed)?;
        attach(&tree, &below).step(failed)?;
        namespaces::chroot_into(tree.as_fd())
    }
}

/// Takes the mounts of a container that has ended out of the namespace that was joined at `namespace`, if it is still there
/// and has them at `place`.
///
/// # Errors
/// The kernel refuses it, or a file system there does not answer.
pub fn take_away(namespace: &Path, place: &Path, attached: &Attached) -> Result<()> {
    let failed = || {
        format!("cannot take the container's mounts out of the mount namespace of `{}`", namespace.display())
    };
    let Some(file) = find(namespace, attached.namespace) else { return Ok(()) };
    let (ours, theirs) = Channel::pair().step(failed)?;
    let caller = std::process::id();
    let child = match fork().step(failed)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            drop(ours);
            let _ = die_with_parent(caller);
            if let Err(error) = unmount_all(&file, place, &attached.mounts) {
                let _ = theirs.send(&error);
            }
            exit_now(0)
        }
    };
    drop(theirs);
    if let Some(process) = ProcessRef::of(child)
        && !process.ends_within(PATIENCE)
    {
        process.kill(PATIENCE);
        if !process.is_alive() {
            let _ = wait_for(child);
        }
        return Err(Error::new(failed()).because("a file system there does not answer"));
    }
    let _ = wait_for(child);
    match ours.receive::<Error>() {
        Ok(Some((error, _))) => Err(error.while_doing(failed())),
        _ => Ok(()),
    }
}

/// The namespace by its number: at its path there may be another one by now, and others may still be in it.
fn find(path: &Path, wanted: (u64, u64)) -> Option<File> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.map(|entry| entry.path().join("ns/mnt"));
    std::iter::once(PathBuf::from(path)).chain(processes).find_map(|path| {
        use std::os::unix::fs::MetadataExt;
        let seen = std::fs::metadata(&path).ok()?;
        if (seen.dev(), seen.ino()) != wanted {
            return None;
        }
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).ok()?;
        (namespaces::number(&file).ok()? == wanted).then_some(file)
    })
}

/// In a process of its own, with no more power than the namespace's owner has.
fn unmount_all(namespace: &File, place: &Path, mounts: &[u64]) -> Result<()> {
    let owner = File::from(owning_user_namespace(namespace).step(|| "cannot find its user namespace")?);
    close_to_others()?;
    let own = namespaces::open("self", "user")?;
    if namespaces::number(&own).ok() != namespaces::number(&owner).ok() {
        nix::sched::setns(&owner, CloneFlags::CLONE_NEWUSER).step(|| "cannot join its user namespace")?;
    }
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWNS).step(|| "cannot join it")?;
    for mount in mounts {
        let Ok(top) = open_directory(place) else { return Ok(()) };
        if mount_number(&top).is_ok_and(|number| number == *mount) {
            rustix::process::fchdir(&top).step(|| "cannot enter a mount")?;
            unmount(".", UnmountFlags::DETACH).step(|| "cannot unmount the root file system")?;
        }
    }
    Ok(())
}

fn close_to_others() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .step(|| "cannot close the process to others")
}

/// By no link of /proc: whoever lives there may have made one to something of ours.
fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

fn clone_of(directory: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(directory, "", flags)
}

fn attach(tree: &OwnedFd, place: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags)
}

fn mount_number(directory: impl AsFd) -> rustix::io::Result<u64> {
    statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|seen| seen.stx_mnt_id)
}

fn same_place(one: &OwnedFd, other: &OwnedFd) -> rustix::io::Result<bool> {
    let of = |directory: BorrowedFd<'_>| {
        let flags = StatxFlags::MNT_ID | StatxFlags::INO;
        let seen = statx(directory, "", AtFlags::EMPTY_PATH, flags)?;
        Ok::<_, Errno>((seen.stx_mnt_id, seen.stx_ino))
    };
    Ok(of(one.as_fd())? == of(other.as_fd())?)
}
