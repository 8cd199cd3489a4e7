//! Recorded owners: read for every stat, written for every chown.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{Mode, XattrFlags};
use rustix::io::Errno;

use super::credentials::Credentials;
use super::sidecar::Sidecar;
use crate::layers::owners::{OWN_XATTR, Recorded, XATTR};

/// FUSE_SUPER_MAGIC of linux/magic.h.
const FUSE: i64 = 0x6573_5546;

pub struct Owners {
    sidecar: Sidecar,
    /// By device: what its file system takes.
    takes: RwLock<HashMap<u64, Takes>>,
    /// The only IDs that are mapped: whose files really are the container's.
    natural: (u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Attribute,
    /// The attribute of that name is the file system's own; another one it takes.
    OwnAttribute,
    Nothing,
}

/// A file, and what the kernel says of it.
pub struct Found {
    pub file: OwnedFd,
    pub status: libc::statx,
}

impl Found {
    pub fn new(file: OwnedFd) -> Result<Self, Errno> {
        Self::with(file, 0, libc::STATX_BASIC_STATS)
    }

    pub fn with(file: OwnedFd, flags: i32, mask: u32) -> Result<Self, Errno> {
        let status = crate::sys::remote::status(file.as_fd(), flags, mask)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Self { file, status })
    }

    fn mode(&self) -> u32 {
        self.status.stx_mode.into()
    }

    fn device(&self) -> u64 {
        u64::from(self.status.stx_dev_major) << 32 | u64::from(self.status.stx_dev_minor)
    }

    fn key(&self) -> (u64, u64) {
        (rustix::fs::makedev(self.status.stx_dev_major, self.status.stx_dev_minor), self.status.stx_ino)
    }

    /// The kernel gives `user.` attributes to no other kind of file (xattr(7)).
    fn may_carry(&self) -> bool {
        matches!(self.mode() & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR)
    }

    /// A path for the calls that take no O_PATH descriptor.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

impl Owners {
    pub fn new(sidecar: Sidecar, natural: (u32, u32)) -> Self {
        Self { sidecar, takes: RwLock::default(), natural }
    }

    pub fn save(&self) {
        self.sidecar.save();
    }

    /// What is recorded of a file.
    pub fn of(&self, found: &Found) -> Option<Recorded> {
        let takes = if found.may_carry() { self.takes(found) } else { Takes::Nothing };
        let carried = match takes {
            Takes::Nothing => return self.sidecar.get(&found.file, found.key()),
            Takes::Attribute => attribute(found, XATTR),
            Takes::OwnAttribute => attribute(found, OWN_XATTR).or_else(|| attribute(found, XATTR)),
        };
        carried.or_else(|| self.sidecar.instead_of_attribute(&found.file))
    }

    /// Changes the owner for a process with these credentials (chown(2)). `privileged`: it has CAP_CHOWN.
    pub fn change(
        &self,
        found: &Found,
        (uid, gid): (Option<u32>, Option<u32>),
        who: &Credentials,
        privileged: bool,
    ) -> Result<(), Errno> {
        let status = &found.status;
        let old = self.of(found);
        let (old_uid, old_gid) = old.map_or((status.stx_uid, status.stx_gid), |old| (old.uid, old.gid));
        let new = (uid.unwrap_or(old_uid), gid.unwrap_or(old_gid));
        if !privileged {
            let own = who.user.file_system == old_uid;
            let known = gid.is_none_or(|gid| who.is_in(gid));
            if !own || uid.is_some_and(|uid| uid != old_uid) || !known {
                return Err(Errno::PERM);
            }
        }
        // Files of others, from a bind mount or the host's /dev, are not the container's to give away.
        if status.stx_uid != self.natural.0 {
            return Err(Errno::PERM);
        }
        if old.is_some() || new != (status.stx_uid, status.stx_gid) {
            let (kind, device) =
                old.map_or((found.mode() & libc::S_IFMT, (0, 0)), |old| (old.kind(), old.device));
            let mode = found.mode() & 0o7777 | kind;
            self.put(found, Recorded { uid: new.0, gid: new.1, mode, device })?;
        }
        drop_privileged_bits(found);
        Ok(())
    }

    /// Writes a record to a file of the container's.
    pub fn put(&self, found: &Found, recorded: Recorded) -> Result<(), Errno> {
        if found.may_carry() {
            loop {
                let name = match self.takes(found) {
                    Takes::Attribute => XATTR,
                    Takes::OwnAttribute => OWN_XATTR,
                    Takes::Nothing => break,
                };
                match rustix::fs::setxattr(
                    found.path(),
                    name,
                    recorded.text().as_bytes(),
                    XattrFlags::empty(),
                ) {
                    Err(Errno::OPNOTSUPP) => self.learn(found, Takes::Nothing),
                    result => return result,
                }
            }
        }
        let mounted = rustix::fs::fstatvfs(&found.file)?;
        if mounted.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Err(Errno::ROFS);
        }
        self.sidecar
            .put(&found.file, found.key(), recorded)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    fn takes(&self, found: &Found) -> Takes {
        let known = self.takes.read().unwrap_or_else(PoisonError::into_inner).get(&found.device()).copied();
        known.unwrap_or_else(|| {
            let fuse = rustix::fs::fstatfs(&found.file).is_ok_and(|system| system.f_type == FUSE);
            let takes = if fuse { Takes::OwnAttribute } else { Takes::Attribute };
            self.learn(found, takes);
            takes
        })
    }

    fn learn(&self, found: &Found, takes: Takes) {
        self.takes.write().unwrap_or_else(PoisonError::into_inner).insert(found.device(), takes);
    }
}

fn attribute(found: &Found, name: &str) -> Option<Recorded> {
    let mut value = [0; 128];
    let length = rustix::fs::getxattr(found.path(), name, &mut value[..]).ok()?;
    let mut recorded = Recorded::parse(std::str::from_utf8(&value[..length]).ok()?)?;
    if recorded.kind() == 0 {
        recorded.mode |= found.mode() & libc::S_IFMT;
    }
    Some(recorded)
}

/// A change of owner takes the setuid bit, the setgid bit of programs and file capabilities (chown(2)).
fn drop_privileged_bits(found: &Found) {
    const CAPABILITY: &CStr = c"security.capability";
    let mode = found.mode();
    if mode & libc::S_IFMT != libc::S_IFREG {
        return;
    }
    let mut kept = mode & 0o7777 & !libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 {
        kept &= !libc::S_ISGID;
    }
    if kept != mode & 0o7777 {
        let _ = rustix::fs::chmod(found.path(), Mode::from_raw_mode(kept));
    }
    if mode & 0o111 != 0 {
        let _ = rustix::fs::removexattr(found.path(), CAPABILITY);
    }
}

/// Puts the record into what the kernel says of the file. Permissions are the inode's own: chmod(2) changes
/// them there.
pub fn apply(recorded: &Recorded, status: &mut libc::statx) {
    status.stx_uid = recorded.uid;
    status.stx_gid = recorded.gid;
    if matches!(recorded.kind(), libc::S_IFCHR | libc::S_IFBLK) {
        status.stx_mode = status.stx_mode & 0o7777 | recorded.kind() as u16;
        (status.stx_rdev_major, status.stx_rdev_minor) = recorded.device;
        status.stx_size = 0;
    }
}
