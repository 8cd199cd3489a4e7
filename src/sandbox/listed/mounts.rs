//! The mounts of a bundle, in its order. Each is made whole, with its options, before it goes to its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::mapping::{self, Mapped};
use crate::container::listed::{Listed, ListedKind, ListedMount};
use crate::container::spec::{Namespace, Spec};
use crate::error::{Error, Result, Step};
use crate::layers::copy;
use crate::sandbox::inroot::{InRoot, is_directory};
use crate::sandbox::user_mounts::detached;
use crate::sys::mount::{
    ATTR_ATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW, ATTR_RDONLY,
    add_attributes, change_attributes, set_propagation,
};

/// Copies of the mounts and directories of the host that are bound, in the order of the list: taken as the caller, whom
/// the container's root may not be, and while they still belong to the host's own peer groups. Those with maps are there.
pub(super) fn open_sources(listed: &Listed, mapped: &[Mapped]) -> Result<Vec<Option<OwnedFd>>> {
    listed
        .mounts
        .iter()
        .enumerate()
        .map(|(number, mount)| match &mount.kind {
            ListedKind::Bind { .. } if mount.map.is_some() => {
                let found = mapped.iter().find(|(of, _)| *of == number);
                found.map(|(_, tree)| tree.try_clone().step(|| "cannot copy a descriptor")).transpose()
            }
            ListedKind::Bind { source, recursive, no_follow } => {
                clone_tree(source, *recursive, *no_follow).map(Some)
            }
            _ => Ok(None),
        })
        .collect()
}

pub(super) fn clone_tree(source: &Path, recursive: bool, no_follow: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if no_follow {
        flags |= OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    }
    open_tree(CWD, source, flags).map_err(|error| {
        let failed = Error::new(format!("cannot bind `{}`", source.display())).because(error);
        match error {
            Errno::INVAL if !recursive => failed.hint(
                "mounts below it that a user namespace may not uncover have to come along: `rbind` instead of `bind`",
            ),
            Errno::MFILE => failed.hint(
                "each bind mount takes an open file until it is in its place: raise the hard limit of open files (`ulimit -Hn`)",
            ),
            _ => failed,
        }
    })
}

/// Mounts everything. Gives what is to be made read-only once all is there.
pub(super) fn mount_all(
    root: &InRoot,
    spec: &Spec,
    listed: &Listed,
    sources: Vec<Option<OwnedFd>>,
) -> Result<Vec<OwnedFd>> {
    let mut protected = Vec::new();
    for (mount, source) in listed.mounts.iter().zip(sources) {
        let shared = listed.root_propagation.is_some_and(|flags| flags & libc::MS_SHARED != 0);
        let made = mount_one(root, spec, mount, source, shared).map_err(|error| {
            error.while_doing(format!("cannot mount on `{}`", mount.destination.display()))
        })?;
        protected.extend(made);
    }
    Ok(protected)
}

pub(super) fn make_read_only(tree: &OwnedFd) -> Result<()> {
    add_attributes(tree.as_fd(), c"", ATTR_RDONLY, false).step(|| "cannot make a mount read-only")
}

/// What is to go to a place.
struct Made {
    place: OwnedFd,
    tree: OwnedFd,
    /// It shows what the host has there: options are for all of it.
    whole: bool,
    is_bind: bool,
}

fn mount_one(
    root: &InRoot,
    spec: &Spec,
    mount: &ListedMount,
    source: Option<OwnedFd>,
    shared: bool,
) -> Result<Option<OwnedFd>> {
    let made = match (&mount.kind, source) {
        (ListedKind::Existing, _) => return remounted(root, mount),
        (ListedKind::Bind { .. }, Some(tree)) => bound(root, mount, tree)?,
        (ListedKind::Bind { source, .. }, None) => {
            return Err(Error::new(format!("cannot bind `{}`", source.display())));
        }
        (ListedKind::Cgroup, _) => control_groups(root, spec, mount, false)?,
        (ListedKind::Cgroup2, _) => control_groups(root, spec, mount, true)?,
        (ListedKind::FileSystem { kind, source, options }, _) => {
            file_system(root, spec, mount, (kind, source, options))?
        }
    };
    let tree = made.tree.as_fd();
    // Places for other mounts may have to be made in it.
    let late = mount.set & ATTR_RDONLY != 0
        && matches!(&mount.kind, ListedKind::FileSystem { kind, .. } if kind == "tmpfs");
    let set = if late { mount.set & !ATTR_RDONLY } else { mount.set };
    let failed = || "the kernel refuses its options";
    let times = times(mount.set | mount.clear);
    if set != 0 || times != 0 {
        change_attributes(tree, set, times, made.whole).step(failed)?;
    }
    let clear = mount.clear & !ATTR_ATIME;
    if made.is_bind && clear != 0 {
        // `rw` and its like say what a mount is without them; what somebody with more power locked stays.
        let _ = change_attributes(tree, 0, clear, false);
    }
    change_below(tree, mount).step(failed)?;
    match (&mount.map, &mount.kind) {
        // It came with its map.
        (None, _) | (_, ListedKind::Bind { .. }) => {}
        (Some(map), _) => mapping::inside(&made.tree, map)?,
    }
    if made.is_bind && mount.propagation.is_empty() && !shared {
        set_propagation(tree, libc::MS_SLAVE, true).step(|| "cannot set the propagation")?;
    }
    for (propagation, recursive) in &mount.propagation {
        set_propagation(tree, *propagation, *recursive).step(|| "cannot set the propagation")?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", made.place.as_fd(), "", flags).step(|| "the kernel refused the mount there")?;
    Ok(late.then_some(made.tree))
}

/// The bits of access times are one value: to set it, all are cleared.
fn times(bits: u64) -> u64 {
    if bits & ATTR_ATIME != 0 { ATTR_ATIME } else { 0 }
}

/// Options that are for all mounts below, too.
fn change_below(tree: BorrowedFd<'_>, mount: &ListedMount) -> std::io::Result<()> {
    let (set, clear) = (mount.set_below, mount.clear_below);
    match set | clear {
        0 => Ok(()),
        bits => change_attributes(tree, set, clear & !ATTR_ATIME | times(bits), true),
    }
}

fn bound(root: &InRoot, mount: &ListedMount, tree: OwnedFd) -> Result<Made> {
    let place = if is_directory(&tree) {
        root.ensure_directory(&mount.destination)?
    } else {
        let place = root.ensure_file(&mount.destination)?;
        if is_directory(&place) {
            return Err(Error::new("the source is a file, and the destination is a directory"));
        }
        place
    };
    Ok(Made { place, tree, whole: false, is_bind: true })
}

fn of_the_host(root: &InRoot, mount: &ListedMount, source: &str) -> Result<Made> {
    let tree = clone_tree(Path::new(source), true, false)?;
    let place = root.ensure_directory(&mount.destination)?;
    Ok(Made { place, tree, whole: true, is_bind: true })
}

/// Version 2 of a cgroup namespace of the container's own; else what the host has.
fn control_groups(root: &InRoot, spec: &Spec, mount: &ListedMount, unified: bool) -> Result<Made> {
    const GROUPS: &str = "/sys/fs/cgroup";
    let found = crate::host::cgroup::unified();
    if spec.namespaces.cgroup == Namespace::Private
        && found.as_deref().is_some_and(|found| unified || found == Path::new(GROUPS))
        && let Ok(tree) = detached("cgroup2", &[])
    {
        let place = root.ensure_directory(&mount.destination)?;
        return Ok(Made { place, tree, whole: false, is_bind: false });
    }
    let source = if unified { found.as_deref().and_then(Path::to_str) } else { Some(GROUPS) };
    let source = source.ok_or_else(|| Error::new("this host has no control groups of version 2 to show"))?;
    of_the_host(root, mount, source)
}

/// What is mounted at the place gets these attributes and no others, but keeps its way with access times unless another one
/// is named (mount(2), MS_REMOUNT).
fn remounted(root: &InRoot, mount: &ListedMount) -> Result<Option<OwnedFd>> {
    let failed = || "cannot change what is mounted there";
    let place = root.find(&mount.destination).step(failed)?;
    let late = mount.set & ATTR_RDONLY != 0;
    let asked = mount.set | mount.clear;
    let of_times = if asked & (ATTR_ATIME | ATTR_NODIRATIME) != 0 { ATTR_ATIME | ATTR_NODIRATIME } else { 0 };
    let others = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NOSYMFOLLOW;
    let set = mount.set & !ATTR_RDONLY;
    // All bits of access times are cleared at once.
    let clear = (others | of_times) & !(set & !ATTR_ATIME);
    change_attributes(place.as_fd(), set, clear, false).map_err(|error| {
        let failed = Error::new(failed()).because(&error);
        match error.raw_os_error() {
            Some(libc::EINVAL) => failed.hint("`remount` is for what an earlier entry has mounted"),
            _ => failed,
        }
    })?;
    change_below(place.as_fd(), mount).step(failed)?;
    for (propagation, recursive) in &mount.propagation {
        set_propagation(place.as_fd(), *propagation, *recursive).step(|| "cannot set the propagation")?;
    }
    Ok(late.then_some(place))
}

fn file_system(
    root: &InRoot,
    spec: &Spec,
    mount: &ListedMount,
    (kind, source, options): (&str, &str, &[(String, Option<String>)]),
) -> Result<Made> {
    let destination = mount.destination.as_path();
    let existing = root.find(destination).ok();
    let place = match kind {
        // Whatever a root has there, what decides about the rest of the set-up is where it is named.
        "proc" | "sysfs" => root.plain_directory(destination)?,
        _ => root.ensure_directory(destination)?,
    };
    let mut read: Vec<(&str, Option<&str>)> =
        options.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    if kind == "devpts" && spec.identity.join.is_none() {
        // A group that is not mapped would be refused; podman's and docker's configurations have tty's.
        read.retain(|(name, value)| {
            *name != "gid"
                || value
                    .and_then(|gid| gid.parse().ok())
                    .is_none_or(|gid| spec.identity.gid_map.to_host(gid).is_some())
        });
    }
    let mode;
    if kind == "tmpfs"
        && !read.iter().any(|(name, _)| *name == "mode")
        && let Some(existing) = &existing
    {
        let found = rustix::fs::fstat(existing).step(|| "cannot look at the destination")?;
        mode = format!("{:o}", found.st_mode & 0o7777);
        read.push(("mode", Some(mode.as_str())));
    }
    let made = made_of(kind, source, &read);
    let tree = match (made, kind) {
        (Ok(tree), _) => tree,
        // Of a namespace that is not the container's own, only what the host has mounted can be shown.
        (Err(Errno::PERM), "sysfs") => return of_the_host(root, mount, "/sys"),
        (Err(Errno::PERM), "proc") if spec.namespaces.pid == Namespace::Host => {
            return of_the_host(root, mount, "/proc");
        }
        (Err(Errno::PERM), "mqueue") if spec.namespaces.ipc == Namespace::Host => {
            return of_the_host(root, mount, "/dev/mqueue");
        }
        (Err(error), _) => {
            let failed = Error::new(format!("the kernel refused a mount of {kind}")).because(error);
            return Err(match error {
                Errno::NODEV => failed.hint("there is no such file system in this kernel"),
                Errno::INVAL => failed.hint("one of its options is not the file system's"),
                Errno::PERM if kind == "proc" => failed.hint(
                    "parts of /proc are hidden on this host (an outer container): leave out the PID namespace",
                ),
                _ => failed,
            });
        }
    };
    if mount.copy_up && existing.is_some() {
        copy::tree(&place, &tree).step(|| "cannot copy what the root has there into the tmpfs")?;
    }
    Ok(Made { place, tree, whole: false, is_bind: false })
}

fn made_of(kind: &str, source: &str, options: &[(&str, Option<&str>)]) -> rustix::io::Result<OwnedFd> {
    if source == kind {
        return detached(kind, options);
    }
    let with_source: Vec<_> =
        std::iter::once(("source", Some(source))).chain(options.iter().copied()).collect();
    crate::sandbox::user_mounts::detached_from(kind, &with_source)
}
