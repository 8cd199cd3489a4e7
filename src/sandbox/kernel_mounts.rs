//! /proc, /sys, the control groups, and the paths of them that a container may not see or write.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

use crate::container::spec::{Namespace, Spec};
use crate::error::{Error, Result, Step};
use crate::sandbox::inroot::{InRoot, descriptor_path, is_directory};
use crate::sys::mount::{ATTR_RDONLY, add_attributes};

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// A fresh /proc of the container's PID namespace, or the host's where that is shared.
pub fn mount_proc(root: &InRoot, spec: &Spec) -> Result<()> {
    let place = root.plain_directory(Path::new("/proc"))?;
    if spec.namespaces.pid == Namespace::Host {
        return mount_bind_recursive("/proc", descriptor_path(&place))
            .step(|| "cannot bind /proc of the host");
    }
    mount_at(&place, "proc", "proc", SAFE, None).map_err(|error| {
        let failed = Error::new("cannot mount /proc").because(error);
        match error {
            Errno::PERM => failed.hint(
                "parts of /proc are hidden on this host (an outer container): share its processes with \
                 `--pid host`",
            ),
            _ => failed,
        }
    })
}

/// /sys shows the devices of the network namespace, of which a user namespace of ours has to be the owner; with
/// the host's network the host's /sys is bound. Read-only but with `--privileged`.
pub fn mount_sys(root: &InRoot, spec: &Spec) -> Result<()> {
    let place = root.plain_directory(Path::new("/sys"))?;
    let writable = spec.security.privileged;
    let flags = if writable { SAFE } else { SAFE | MountFlags::RDONLY };
    let fresh =
        spec.namespaces.net != Namespace::Host && mount_at(&place, "sysfs", "sysfs", flags, None).is_ok();
    if !fresh {
        mount_bind_recursive("/sys", descriptor_path(&place)).step(|| "cannot bind /sys of the host")?;
        let bound = root.find(Path::new("/sys")).step(|| "cannot open /sys")?;
        if !writable {
            add_attributes(bound.as_fd(), c"", ATTR_RDONLY, true).step(|| "cannot make /sys read-only")?;
        }
    }
    // Hosts without cgroup v2, or with it elsewhere, have no such directory or refuse the mount.
    if spec.namespaces.cgroup == Namespace::Private
        && let Ok(place) = root.plain_directory(Path::new("/sys/fs/cgroup"))
    {
        let _ = mount_at(&place, "cgroup2", "cgroup2", flags, None);
    }
    Ok(())
}

/// Hides `paths`: files below /dev/null, directories below an empty read-only tmpfs (OCI runtime
/// specification, config-linux.md, Masked Paths). What is not there need not be hidden.
pub fn mask<'a>(root: &InRoot, paths: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    for path in paths {
        let Ok(place) = root.find(path) else { continue };
        let masked = if is_directory(&place) {
            mount("tmpfs", descriptor_path(&place), "tmpfs", SAFE | MountFlags::RDONLY, c"size=0k,mode=555")
        } else {
            mount_bind("/dev/null", descriptor_path(&place))
        };
        masked.step(|| format!("cannot hide `{}`", path.display()))?;
    }
    Ok(())
}

/// Makes `paths` read-only (config-linux.md, Readonly Paths).
pub fn protect(root: &InRoot, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let Ok(place) = root.find(path) else { continue };
        let failed = || format!("cannot make `{}` read-only", path.display());
        mount_bind_recursive(descriptor_path(&place), descriptor_path(&place)).step(failed)?;
        let bound = root.find(path).step(failed)?;
        add_attributes(bound.as_fd(), c"", ATTR_RDONLY, true).step(failed)?;
    }
    Ok(())
}

/// mount(2) on a descriptor.
pub fn mount_at<'a>(
    place: &OwnedFd,
    source: &str,
    kind: &str,
    flags: MountFlags,
    options: impl Into<Option<&'a CStr>>,
) -> Result<(), Errno> {
    mount(source, descriptor_path(place), kind, flags, options)
}
