//! The root file system, mounted by the container's process in its own mount namespace.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive};

use crate::container::spec::{Driver, Root, Spec};
use crate::error::{Error, Result, Step};
use crate::host::userns;
use crate::image::host;
use crate::layers::{Upper, copy, fuse_overlayfs, overlay};
use crate::sandbox::inroot::InRoot;
use crate::sys;

/// What is mounted under a read-only image `host`, where programs expect to write.
const HOST_TMPFS: &[(&str, &std::ffi::CStr)] =
    &[("/tmp", c"mode=1777"), ("/run", c"mode=755"), ("/var/tmp", c"mode=1777"), ("/root", c"mode=700")];

/// Stands in the work directory once the layers are copied.
const COPIED: &str = "copied";

/// Cuts the mount namespace off from the host's: what is mounted here stays here, while mounts of the host
/// may still come in below sources of `-v ...:rslave`.
pub fn detach_from_host() -> Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(
        |error| {
            let failed = Error::new("cannot make the mounts of the host private to the container");
            userns::explain_mount_failure(failed, &error.into())
        },
    )
}

/// Mounts the root on `target`, an empty directory. With fuse-overlayfs the result is the descriptor that
/// a server has to answer on before anything in the root can be touched.
pub fn mount_root(spec: &Spec, upper: &Upper, target: &Path) -> Result<Option<OwnedFd>> {
    match &spec.root {
        Root::Host { driver: Driver::FuseOverlayfs }
        | Root::Directories { driver: Driver::FuseOverlayfs, .. } => fuse_overlayfs::mount(target).map(Some),
        Root::Host { .. } => {
            host::stage(target, false)?;
            let root = InRoot::open(target)?;
            // The tmpfs that holds the directories together takes mount points, until the container is set up.
            use std::os::fd::AsFd;
            sys::mount::remove_attributes(root.directory().as_fd(), sys::mount::ATTR_RDONLY)
                .step(|| "cannot prepare the image `host` for mounts")?;
            for (path, options) in HOST_TMPFS {
                let place = root.find(Path::new(path)).step(|| format!("cannot open `{path}`"))?;
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                mount("tmpfs", crate::sandbox::inroot::descriptor_path(&place), "tmpfs", flags, *options)
                    .step(|| format!("cannot mount a tmpfs on `{path}`"))?;
            }
            Ok(None)
        }
        Root::Layers { .. } => Err(Error::new("cannot mount layers before it is known where they are")),
        Root::Directories { lowers, driver: Driver::Overlay } => {
            overlay::mount(lowers, upper, target).map(|()| None)
        }
        Root::Directories { lowers, driver: Driver::Copy } => {
            let whole = upper.work.join(COPIED);
            if !whole.exists() {
                copy::merge(lowers, &upper.upper)?;
                std::fs::write(&whole, "").step(|| format!("cannot write `{}`", whole.display()))?;
            }
            bind(&upper.upper, target).map(|()| None)
        }
        Root::Directories { lowers, driver: Driver::Bind } => {
            let lower =
                lowers.first().ok_or_else(|| Error::new("cannot mount a root file system of no layers"))?;
            bind(lower, target)?;
            // Before anything is mounted below: what is missing there is not made.
            make_read_only(target, true)?;
            Ok(None)
        }
        Root::WritableDirectory { path } => bind(path, target).map(|()| None),
    }
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    let failed = || format!("cannot bind `{}` as the root file system", source.display());
    mount_bind_recursive(source, target).step(failed)?;
    rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(failed)
}

/// Makes the mount at `path` read-only, with `recursive` all below it, too. Attributes that a more
/// privileged namespace locked (nosuid, nodev, …) are kept.
pub fn make_read_only(path: &Path, recursive: bool) -> Result<()> {
    let failed = || format!("cannot make `{}` read-only", path.display());
    let directory = rustix::fs::open(
        path,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .step(failed)?;
    use std::os::fd::AsFd;
    sys::mount::add_attributes(directory.as_fd(), c"", sys::mount::ATTR_RDONLY, recursive).step(failed)
}

/// Makes `root` the root of the mount namespace.
///
/// pivot_root(".", ".") puts the old root on top of the new one, from where [`let_go`] detaches it: no
/// directory in the new root is needed for it (pivot_root(2), NOTES).
pub fn enter(root: &InRoot) -> Result<()> {
    let failed = || "cannot enter the root file system";
    rustix::process::fchdir(root.directory()).step(failed)?;
    rustix::process::pivot_root(".", ".").step(failed)
}

/// Lets go of everything that was there before [`enter`]. The kernel waits for a grace period here.
pub fn let_go() -> Result<()> {
    let failed = || "cannot leave the root file system of the host";
    rustix::mount::unmount(".", UnmountFlags::DETACH).step(failed)?;
    rustix::process::chdir("/").step(failed)
}
