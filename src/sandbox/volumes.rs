//! Volumes inside: opening them, and filling a new one with what the image has at its target.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::container::spec::{FirstUse, Mount, MountKind, VolumeMount};
use crate::container::user::ResolvedUser;
use crate::error::{Error, Result, Step};
use crate::layers::copy;
use crate::layers::owners;
use crate::sandbox::inroot::{InRoot, descriptor_path, is_directory};

/// What of a volume is mounted. What lies in it may be hostile: a path in it is resolved in it.
///
/// # Errors
/// It cannot be reached, or has no such path.
pub fn open(volume: &VolumeMount) -> Result<OwnedFd> {
    let failed = || format!("cannot open the volume `{}`", volume.name);
    match &volume.subpath {
        Some(path) => InRoot::open(&volume.bind.source)?.find(path).map_err(|error| {
            let failed =
                Error::new(format!("cannot open `{}` in the volume `{}`", path.display(), volume.name));
            match error {
                Errno::NOENT => failed.because(error).hint("it has to be there before it can be mounted"),
                _ => failed.because(error),
            }
        }),
        None => {
            rustix::fs::open(&volume.bind.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(failed)
        }
    }
}

/// Fills the volumes that are used for the first time, before anything is mounted: the image's directories are not
/// covered yet. Gives those that nobody has claimed: the image has no directory there.
///
/// # Errors
/// What could not be copied.
pub fn fill(root: &InRoot, mounts: &[Mount]) -> Result<Vec<OwnedFd>> {
    let mut unclaimed = Vec::new();
    for mount in mounts {
        let MountKind::Volume(volume) = &mount.kind else { continue };
        let Some(first) = volume.first_use else { continue };
        let opened = open(volume)?;
        let claimed = fill_one(root, &mount.target, first, &opened)
            .map_err(|error| error.while_doing(format!("cannot fill the volume `{}`", volume.name)))?;
        if !claimed {
            unclaimed.push(opened);
        }
    }
    Ok(unclaimed)
}

fn fill_one(root: &InRoot, target: &Path, first: FirstUse, volume: &OwnedFd) -> Result<bool> {
    let image = root.find(target).ok().filter(|found| first.copy && is_directory(found));
    if let Some(image) = &image {
        copy::directory(image, volume).map_err(|failure| {
            let no_room = failure.is_no_room();
            let error =
                Error::new(format!("cannot copy `{}` of the image", target.display())).because(failure);
            if no_room {
                error.hint("free some space where the store is, or mount it with `nocopy`")
            } else {
                error
            }
        })?;
    }
    if first.uid.is_none() && first.gid.is_none() {
        return Ok(image.is_some());
    }
    let id = |id: Option<u32>| id.filter(|id| *id != u32::MAX);
    let (uid, gid) = (id(first.uid).map(Uid::from_raw), id(first.gid).map(Gid::from_raw));
    rustix::fs::chownat(volume, "", uid, gid, AtFlags::EMPTY_PATH).step(|| "cannot change its owner")?;
    Ok(true)
}

/// Gives a volume that is all new to who will use it, as podman does.
///
/// # Errors
/// Those of fchownat(2) and setxattr(2).
pub fn claim(volume: &OwnedFd, user: &ResolvedUser) -> Result<()> {
    let failed = || "cannot give a new volume to the container's user";
    let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    match rustix::fs::chownat(volume, "", uid, gid, AtFlags::EMPTY_PATH) {
        // One ID alone is mapped: the owner is recorded, for those who ask.
        Err(Errno::INVAL) => {
            let mode = rustix::fs::fstat(volume).step(failed)?.st_mode;
            let recorded = owners::Recorded { uid: user.uid, gid: user.gid, mode, device: (0, 0) };
            let place = descriptor_path(volume.as_fd());
            let value = recorded.text();
            let flags = rustix::fs::XattrFlags::empty();
            match rustix::fs::setxattr(place, owners::XATTR, value.as_bytes(), flags) {
                Err(Errno::OPNOTSUPP) => Ok(()),
                result => result.step(failed),
            }
        }
        // A file system that keeps no owners, which was told when the container was made.
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        result => result.step(failed),
    }
}
