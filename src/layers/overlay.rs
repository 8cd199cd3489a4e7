//! The kernel's overlay, mounted in a user namespace (Linux 5.11).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use crate::error::{Result, Step};
use crate::layers::Upper;
use crate::sandbox::inroot::descriptor_path;

/// The kernel stacks no more (OVL_MAX_STACK of fs/overlayfs).
pub const MOST_LOWERS: usize = 500;
/// mount(2) takes one page of options.
const LONGEST_OPTIONS: usize = 4000;
const DESCRIPTORS: &str = "/proc/self/fd/";

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
    let options = |before: &str| {
        let directories = format!(
            "{},upperdir={before}{},workdir={before}{},userxattr",
            lowerdir(&opened, before),
            upper_directory.as_raw_fd(),
            work_directory.as_raw_fd()
        );
        if upper.throw_away { directories + ",volatile" } else { directories }
    };
    mount_descriptors(target, MountFlags::empty(), options)
        .step(|| format!("cannot mount an overlay of {} lowers on `{}`", lowers.len(), target.display()))
}

/// The option that names the lowers, topmost first; `before` is what [`mount_descriptors`] tells.
pub fn lowerdir(lowers: &[OwnedFd], before: &str) -> String {
    let names: Vec<String> = lowers.iter().map(|lower| format!("{before}{}", lower.as_raw_fd())).collect();
    format!("lowerdir={}", names.join(":"))
}

/// Mounts an overlay of directories that are descriptors: `options` is told what to put before the number of each.
///
/// Where whole paths do not fit into the page, they are named from within /proc/self/fd, which is enough for as many as
/// the kernel stacks. (fsconfig(2) takes each lower in a call of its own, but `lowerdir+` is of Linux 6.8.)
///
/// # Errors
/// Those of mount(2).
pub fn mount_descriptors(
    target: &Path,
    flags: MountFlags,
    options: impl Fn(&str) -> String,
) -> rustix::io::Result<()> {
    let mount = |target: &Path, options: String| {
        let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
        rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())
    };
    let whole = options(DESCRIPTORS);
    if whole.len() < LONGEST_OPTIONS {
        return mount(target, whole);
    }
    let (path, directory) =
        (OFlags::PATH | OFlags::CLOEXEC, OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY);
    let target = rustix::fs::open(target, path, Mode::empty())?;
    let here = rustix::fs::open(".", directory, Mode::empty());
    rustix::process::chdir(DESCRIPTORS)?;
    let mounted = mount(Path::new(&descriptor_path(&target)), options(""));
    // Nobody needs a directory that may not be entered again.
    here.and_then(|here| rustix::process::fchdir(here.as_fd())).or_else(|_| rustix::process::chdir("/"))?;
    mounted
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("cannot open the layer `{}`", path.display()))
}
