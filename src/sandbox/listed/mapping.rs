//! ID-mapped mounts (mount_setattr(2), MOUNT_ATTR_IDMAP), and the user namespaces that nobody lives in with their maps.
//!
//! The kernel asks for power over the file system. Over one of the host's the caller has it at most, and not the container:
//! bind mounts are mapped before there is one, and their maps lead to the caller's IDs. What is mounted inside is the
//! container's, and its maps lead to the IDs of the container.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::thread::CapabilitySet;

use super::mounts::clone_tree;
use crate::container::listed::{ListedKind, MountMap};
use crate::container::spec::{Namespace, Spec};
use crate::error::{Error, Result, Step};
use crate::identity::{self, IdMap, Identity, NestedMaps};
use crate::sys::channel::Channel;
use crate::sys::mount::map_ids;
use crate::sys::process::{Clone, clone3, exit_now, send_signal, wait_for};

/// A bind mount with its map, and its number in the list.
pub type Mapped = (usize, OwnedFd);

/// The bind mounts of a bundle that have maps, by the process that makes the container.
///
/// # Errors
/// The caller has no power over a file system, or the kernel refuses a map.
pub fn binds(spec: &Spec) -> Result<Vec<Mapped>> {
    let mounts = spec.listed.iter().flat_map(|listed| &listed.mounts).enumerate();
    let mut mapped = Vec::new();
    for (number, mount) in mounts {
        if let (ListedKind::Bind { source, recursive, no_follow }, Some(map)) = (&mount.kind, &mount.map) {
            let tree = bind((source, *recursive, *no_follow), map, &spec.identity).map_err(|error| {
                error.while_doing(format!("cannot mount on `{}`", mount.destination.display()))
            })?;
            mapped.push((number, tree));
        }
    }
    Ok(mapped)
}

fn bind(
    (source, recursive, no_follow): (&Path, bool, bool),
    map: &MountMap,
    identity: &Identity,
) -> Result<OwnedFd> {
    let held = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    if !held.contains(CapabilitySet::SYS_ADMIN) {
        return Err(refused(&io::Error::from_raw_os_error(libc::EPERM)));
    }
    let tree = clone_tree(source, recursive, no_follow)?;
    let of_container = (&identity.uid_map, &identity.gid_map);
    let userns = match (&map.maps, &identity.join) {
        (Some((users, groups)), _) => user_namespace(users, groups)?,
        (None, None) => user_namespace(of_container.0, of_container.1)?,
        (None, Some(Namespace::Path(path))) => open(path)?,
        (None, Some(_)) => open(OWN)?,
    };
    apply(&tree, &userns, map.recursive)?;
    Ok(tree)
}

/// Maps the IDs of something that is mounted inside, by a process of the container.
///
/// # Errors
/// The kernel refuses the map, or knows none for this file system.
pub(super) fn inside(tree: &OwnedFd, map: &MountMap) -> Result<()> {
    let userns = match &map.maps {
        Some((users, groups)) => user_namespace(users, groups)?,
        None => open(OWN)?,
    };
    apply(tree, &userns, map.recursive)
}

const OWN: &str = "/proc/self/ns/user";

fn open(path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("cannot open the user namespace `{}`", path.display()))
}

fn apply(tree: &OwnedFd, userns: &OwnedFd, recursive: bool) -> Result<()> {
    map_ids(tree.as_fd(), userns.as_fd(), recursive).map_err(|error| refused(&error))
}

fn refused(error: &io::Error) -> Error {
    let hint = match error.raw_os_error() {
        Some(libc::EINVAL) => {
            "the file system has no such mounts (a tmpfs before Linux 6.3), or these IDs already (mount_setattr(2))"
        }
        _ => "the kernel asks for CAP_SYS_ADMIN in the user namespace that the file system was mounted in",
    };
    Error::new("cannot make it an ID-mapped mount").because(error).hint(hint)
}

/// A user namespace below that of the caller with these maps, whose outside IDs are the caller's.
///
/// # Errors
/// The kernel refuses the maps.
fn user_namespace(users: &IdMap, groups: &IdMap) -> Result<OwnedFd> {
    let failed = || "cannot make a user namespace for the IDs of a mount";
    let (ours, theirs) = Channel::pair().step(failed)?;
    match clone3(libc::CLONE_NEWUSER).step(failed)? {
        Clone::Child => {
            drop(ours);
            // By itself: a number would be one of another PID namespace than that of /proc.
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            if let Ok(own) = rustix::fs::open("/proc/self", flags, Mode::empty()) {
                let _ = theirs.send_with(&(), own.as_fd());
            }
            let _ = theirs.receive::<()>();
            exit_now(0)
        }
        Clone::Parent { pid, .. } => {
            drop(theirs);
            let made = (|| {
                let process = match ours.receive::<()>().step(failed)? {
                    Some(((), Some(process))) => process,
                    _ => return Err(Error::new(failed())),
                };
                let maps = NestedMaps { uid_map: users.clone(), gid_map: groups.clone() };
                identity::write_nested(&process, &maps)?;
                openat(&process, "ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step(failed)
            })();
            let _ = send_signal(pid, libc::SIGKILL);
            let _ = wait_for(pid);
            made
        }
    }
}
