//! The kernel's overlay, mounted in a user namespace (Linux 5.11).

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags};

use crate::error::{Result, Step};
use crate::layers::Upper;
use crate::sandbox::inroot::descriptor_path;

/// The classic mount(2) takes one page of options.
const LONGEST_OPTIONS: usize = 4000;

/// Whether a user namespace may mount an overlay with its upper in `store`; otherwise why not.
pub fn supported(store: &Path) -> Result<(), String> {
    crate::host::overlay::overlay_supported(store)
}

/// Mounts the lowers (lowest first) and the upper on `target`, in the caller's user and mount namespace.
///
/// Layers are handed over as descriptors: names in the options stay short for any number and length of
/// paths, need no escaping, and show no path of the host in the container's /proc/mounts.
pub fn mount(lowers: &[PathBuf], upper: &Upper, target: &Path) -> Result<()> {
    let opened = lowers.iter().rev().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let upper_directory = open(&upper.upper)?;
    let work_directory = open(&upper.work)?;
    let names: Vec<String> = opened.iter().map(descriptor_path).collect();
    let mut options = format!(
        "upperdir={},workdir={},userxattr",
        descriptor_path(&upper_directory),
        descriptor_path(&work_directory)
    );
    if upper.throw_away {
        options.push_str(",volatile");
    }
    let failed = || format!("cannot mount an overlay of {} lowers on `{}`", lowers.len(), target.display());
    let classic = format!("lowerdir={},{options}", names.join(":"));
    if classic.len() < LONGEST_OPTIONS {
        let classic = CString::new(classic).step(failed)?;
        return rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), classic.as_c_str())
            .step(failed);
    }
    mount_layer_by_layer(&names, &upper_directory, &work_directory, upper.throw_away, target).step(failed)
}

/// fsconfig(2) takes each lower in a call of its own (`lowerdir+`, Linux 6.8).
fn mount_layer_by_layer(
    names: &[String],
    upper: &OwnedFd,
    work: &OwnedFd,
    volatile: bool,
    target: &Path,
) -> rustix::io::Result<()> {
    use rustix::mount::{
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for name in names {
        fsconfig_set_string(context.as_fd(), "lowerdir+", name.as_str())?;
    }
    fsconfig_set_string(context.as_fd(), "upperdir", descriptor_path(upper))?;
    fsconfig_set_string(context.as_fd(), "workdir", descriptor_path(work))?;
    fsconfig_set_flag(context.as_fd(), "userxattr")?;
    if volatile {
        fsconfig_set_flag(context.as_fd(), "volatile")?;
    }
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(mount.as_fd(), "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("cannot open the layer `{}`", path.display()))
}
