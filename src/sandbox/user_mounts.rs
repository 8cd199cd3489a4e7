//! What the user asked to have mounted (`-v`, `--mount`, `--tmpfs`) and the generated files of /etc.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_bind, mount_bind_recursive,
    mount_change, move_mount, open_tree,
};

use crate::container::spec::{Bind, Mount, MountFlags as Flags, MountKind, Propagation};
use crate::error::{Error, Result, Step};
use crate::layers::{Upper, overlay};
use crate::sandbox::inroot::{InRoot, descriptor_path, is_directory};
use crate::sandbox::kernel_mounts::mount_at;
use crate::sandbox::trees;
use crate::sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, add_attributes, map_ids};

/// Binds a generated file over `target`. Where the root is read-only and has no such file, there is nothing
/// to bind it on, and the container goes without.
pub fn bind_generated(root: &InRoot, file: &Path, target: &Path, read_only_root: bool) -> Result<()> {
    let place = match root.ensure_file(target) {
        Ok(place) => place,
        Err(_) if read_only_root => return Ok(()),
        Err(error) => return Err(error),
    };
    if is_directory(&place) {
        return Ok(());
    }
    mount_bind(file, descriptor_path(&place)).step(|| format!("cannot bind `{}`", target.display()))
}

/// Mounts everything, parents before children. `scratch` is a directory of the container's own for the
/// uppers of `O`, and `userns` the container's user namespace for `idmap`.
pub fn mount_all(root: &InRoot, mounts: &[Mount], scratch: &Path) -> Result<()> {
    let mut ordered: Vec<(usize, &Mount)> = mounts.iter().enumerate().collect();
    ordered.sort_by_key(|(_, mount)| mount.target.components().count());
    for (number, mount) in ordered {
        mount_one(root, mount, &scratch.join(number.to_string()))
            .map_err(|error| error.while_doing(format!("cannot mount on `{}`", mount.target.display())))?;
    }
    Ok(())
}

fn mount_one(root: &InRoot, mount: &Mount, scratch: &Path) -> Result<()> {
    let target = mount.target.as_path();
    match &mount.kind {
        MountKind::Bind(bind) => bind_source(root, mount, bind, scratch),
        MountKind::Tmpfs { size, mode, copy_up } => tmpfs(root, mount, *size, *mode, *copy_up),
        MountKind::Devpts => kernel(root, mount, "devpts", c"newinstance,ptmxmode=0666,mode=0620"),
        MountKind::Mqueue => kernel(root, mount, "mqueue", c""),
        MountKind::Proc => kernel(root, mount, "proc", c""),
        MountKind::Sysfs => kernel(root, mount, "sysfs", c""),
        MountKind::Cgroup => kernel(root, mount, "cgroup2", c""),
    }
    .and_then(|()| flag(root, target, &mount.flags, matches!(mount.kind, MountKind::Bind(_))))
}

fn kernel(root: &InRoot, mount: &Mount, kind: &str, options: &std::ffi::CStr) -> Result<()> {
    let place = root.ensure_directory(&mount.target)?;
    mount_at(&place, kind, kind, MountFlags::empty(), options)
        .step(|| format!("the kernel refused a mount of {kind}"))
}

fn bind_source(root: &InRoot, mount: &Mount, bind: &Bind, scratch: &Path) -> Result<()> {
    let source = bind.source.as_path();
    let failed = || format!("cannot bind `{}`", source.display());
    let metadata = std::fs::metadata(source).step(failed)?;
    let place = if metadata.is_dir() {
        root.ensure_directory(&mount.target)?
    } else {
        let place = root.ensure_file(&mount.target)?;
        if is_directory(&place) {
            return Err(Error::new(failed())
                .because("the source is a file, and the target is a directory")
                .hint(format!("name the file in the container: `{}/NAME`", mount.target.display())));
        }
        place
    };
    if bind.overlay {
        let upper = Upper { upper: scratch.join("upper"), work: scratch.join("work"), throw_away: true };
        for directory in [&upper.upper, &upper.work] {
            std::fs::create_dir_all(directory).step(|| format!("cannot make `{}`", directory.display()))?;
        }
        overlay::mount(&[source.to_owned()], &upper, Path::new(&descriptor_path(&place)))?;
    } else if bind.idmap {
        mapped(source, &place)?;
    } else if bind.recursive {
        mount_bind_recursive(source, descriptor_path(&place)).step(failed)?;
    } else {
        mount_bind(source, descriptor_path(&place)).map_err(|error| {
            Error::new(failed()).because(error).hint(
                "the source has mounts below it that a user namespace may not uncover: leave out \
                 `bind-nonrecursive`",
            )
        })?;
    }
    propagate(root, mount, bind)
}

/// An ID-mapped bind; the kernel decides by file system who may have one.
fn mapped(source: &Path, place: &OwnedFd) -> Result<()> {
    let failed = || format!("cannot make an ID-mapped mount of `{}`", source.display());
    let userns = std::fs::File::open("/proc/self/ns/user").step(failed)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(rustix::fs::CWD, source, flags).step(failed)?;
    map_ids(tree.as_fd(), userns.as_fd()).map_err(|error| {
        Error::new(failed()).because(error).hint(
            "without root the kernel refuses this for most file systems: use `--userns keep-id`, or the \
             option `U` to change the owner of the files",
        )
    })?;
    move_mount(
        tree.as_fd(),
        "",
        place.as_fd(),
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .step(failed)
}

fn propagate(root: &InRoot, mount: &Mount, bind: &Bind) -> Result<()> {
    let kind = match bind.propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    let recursive =
        if bind.recursive_propagation { MountPropagationFlags::REC } else { MountPropagationFlags::empty() };
    let bound = reopened(root, &mount.target)?;
    mount_change(descriptor_path(&bound), kind | recursive).step(|| "cannot set the propagation")
}

fn tmpfs(root: &InRoot, mount: &Mount, size: Option<u64>, mode: Option<u32>, copy_up: bool) -> Result<()> {
    use std::fmt::Write;
    let place = root.ensure_directory(&mount.target)?;
    let mut options = format!("mode={:o}", mode.unwrap_or(0o1777));
    if let Some(size) = size {
        let _ = write!(options, ",size={size}");
    }
    let options = CString::new(options).step(|| "cannot mount a tmpfs")?;
    mount_at(&place, "tmpfs", "tmpfs", MountFlags::empty(), options.as_c_str())
        .step(|| "cannot mount a tmpfs")?;
    if copy_up {
        let fresh = reopened(root, &mount.target)?;
        trees::copy(&place, &fresh).step(|| "cannot copy what the image has there into the tmpfs")?;
    }
    Ok(())
}

fn flag(root: &InRoot, target: &Path, flags: &Flags, recursive: bool) -> Result<()> {
    let attributes = [
        (flags.read_only, ATTR_RDONLY),
        (flags.no_suid, ATTR_NOSUID),
        (flags.no_dev, ATTR_NODEV),
        (flags.no_exec, ATTR_NOEXEC),
    ]
    .iter()
    .filter(|(set, _)| *set)
    .fold(0, |all, (_, attribute)| all | attribute);
    if attributes == 0 {
        return Ok(());
    }
    let mounted = reopened(root, target)?;
    add_attributes(mounted.as_fd(), c"", attributes, recursive).step(|| "cannot set the mount options")
}

/// Opens what is mounted on `target` now; a descriptor from before the mount stays below it.
fn reopened(root: &InRoot, target: &Path) -> Result<OwnedFd> {
    root.find(target).step(|| format!("cannot open `{}`", target.display()))
}
