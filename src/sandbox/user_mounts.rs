//! What the user asked to have mounted (`-v`, `--mount`, `--tmpfs`) and the generated files of /etc.
//!
//! A mount is made whole, with its options, before it goes to its place: a neighbour that shares a volume could
//! put something else there meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_bind, move_mount, open_tree,
};

use crate::container::spec::{Bind, Mount, MountFlags as Flags, MountKind, Propagation};
use crate::error::{Error, Result, Step};
use crate::layers::{Upper, copy, overlay};
use crate::sandbox::inroot::{InRoot, descriptor_path, is_directory};
use crate::sandbox::{secret_mounts, volumes};
use crate::secret::copies::Values;
use crate::sys::mount::{
    ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, add_attributes, map_ids, set_propagation,
};

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
/// uppers of `O`.
pub fn mount_all(root: &InRoot, mounts: &[Mount], scratch: &Path, secrets: &Values) -> Result<()> {
    let mut to_protect = Vec::new();
    let mut ordered: Vec<(usize, &Mount)> = mounts.iter().enumerate().collect();
    ordered.sort_by_key(|(_, mount)| mount.target.components().count());
    for (number, mount) in ordered {
        let failed =
            |error: Error| error.while_doing(format!("cannot mount on `{}`", mount.target.display()));
        let tree = mount_one(root, mount, &scratch.join(number.to_string()), secrets).map_err(failed)?;
        if matches!(mount.kind, MountKind::Secrets(_)) {
            to_protect.push(tree);
        }
    }
    // What was mounted below them needed places.
    to_protect.iter().try_for_each(|tree| {
        add_attributes(tree.as_fd(), c"", ATTR_RDONLY, false).step(|| "cannot make the secrets read-only")
    })
}

fn mount_one(root: &InRoot, mount: &Mount, scratch: &Path, secrets: &Values) -> Result<OwnedFd> {
    let (place, tree) = match &mount.kind {
        MountKind::Bind(bind) => bind_source(root, mount, bind, scratch)?,
        MountKind::Volume(volume) => {
            let opened = volumes::open(volume)?;
            let bind = Bind { source: descriptor_path(&opened).into(), ..volume.bind.clone() };
            bind_source(root, mount, &bind, scratch)?
        }
        MountKind::Tmpfs { size, mode, copy_up } => tmpfs(root, mount, *size, *mode, *copy_up)?,
        MountKind::Secrets(files) => secret_mounts::prepare(root, &mount.target, files, secrets)?,
        MountKind::Devpts => kernel(root, mount, "devpts", DEVPTS)?,
        MountKind::Mqueue => kernel(root, mount, "mqueue", &[])?,
        MountKind::Proc => kernel(root, mount, "proc", &[])?,
        MountKind::Sysfs => kernel(root, mount, "sysfs", &[])?,
        MountKind::Cgroup => kernel(root, mount, "cgroup2", &[])?,
    };
    flag(&tree, &mount.flags, mount.kind.bind().is_some())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree.as_fd(), "", place.as_fd(), "", flags).step(|| "the kernel refused the mount there")?;
    Ok(tree)
}

/// Options of a file system; those without a value are flags.
pub(super) type Options<'a> = &'a [(&'a str, Option<&'a str>)];

const DEVPTS: Options<'_> = &[("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))];

/// A new file system that is mounted nowhere yet.
pub(super) fn detached(kind: &str, options: Options<'_>) -> rustix::io::Result<OwnedFd> {
    let source = [("source", Some(kind))];
    let options: Vec<_> = source.into_iter().chain(options.iter().copied()).collect();
    detached_from(kind, &options)
}

/// The same with its source among the options.
pub(super) fn detached_from(kind: &str, options: Options<'_>) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), *name, *value)?,
            None => fsconfig_set_flag(context.as_fd(), *name)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn kernel(root: &InRoot, mount: &Mount, kind: &str, options: Options<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let place = root.ensure_directory(&mount.target)?;
    let tree = detached(kind, options).step(|| format!("the kernel refused a mount of {kind}"))?;
    Ok((place, tree))
}

fn bind_source(root: &InRoot, mount: &Mount, bind: &Bind, scratch: &Path) -> Result<(OwnedFd, OwnedFd)> {
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
    let tree = if bind.overlay {
        over(source, scratch)?
    } else {
        let cloned = clone_tree(source, bind.recursive || bind.idmap).map_err(|error| {
            let failed = Error::new(failed()).because(error);
            if bind.recursive {
                return failed;
            }
            failed.hint(
                "the source has mounts below it that a user namespace may not uncover: leave out \
                 `bind-nonrecursive`",
            )
        })?;
        if bind.idmap {
            map(source, &cloned)?;
        }
        cloned
    };
    let propagation = match bind.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
        Propagation::Unbindable => libc::MS_UNBINDABLE,
    };
    set_propagation(tree.as_fd(), propagation, bind.recursive_propagation)
        .step(|| "cannot set the propagation")?;
    Ok((place, tree))
}

fn clone_tree(source: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(rustix::fs::CWD, source, flags)
}

/// `O`: the source below a throw-away upper, mounted in the container's own directory first.
fn over(source: &Path, scratch: &Path) -> Result<OwnedFd> {
    let upper = Upper {
        upper: scratch.join("upper"),
        work: scratch.join("work"),
        throw_away: true,
        tells_writers: false,
    };
    let merged = scratch.join("merged");
    for directory in [&upper.upper, &upper.work, &merged] {
        std::fs::create_dir_all(directory).step(|| format!("cannot make `{}`", directory.display()))?;
    }
    overlay::mount(&[source.to_owned()], &upper, &merged)?;
    // The mount itself, which then moves.
    open_tree(rustix::fs::CWD, &merged, OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .step(|| format!("cannot open `{}`", merged.display()))
}

/// Makes a bind an ID-mapped one; the kernel decides by file system who may have one.
fn map(source: &Path, tree: &OwnedFd) -> Result<()> {
    let failed = || format!("cannot make an ID-mapped mount of `{}`", source.display());
    let userns = std::fs::File::open("/proc/self/ns/user").step(failed)?;
    map_ids(tree.as_fd(), userns.as_fd(), false).map_err(|error| {
        Error::new(failed()).because(error).hint(
            "without root the kernel refuses this for most file systems: use `--userns keep-id`, or the \
             option `U` to change the owner of the files",
        )
    })
}

fn tmpfs(
    root: &InRoot,
    mount: &Mount,
    size: Option<u64>,
    mode: Option<u32>,
    copy_up: bool,
) -> Result<(OwnedFd, OwnedFd)> {
    let as_in_the_image = mode.is_none() && copy_up && root.find(&mount.target).is_ok();
    let place = root.ensure_directory(&mount.target)?;
    let mode = format!("{:o}", mode.unwrap_or(0o1777));
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", Some(mode.as_str()))];
    if let Some(size) = &size {
        options.push(("size", Some(size)));
    }
    let tree = detached("tmpfs", &options).step(|| "cannot mount a tmpfs")?;
    if copy_up {
        let failed = || "cannot copy what the image has there into the tmpfs";
        copy::tree(&place, &tree).step(failed)?;
        if as_in_the_image {
            // As docker's runtime does it.
            let found = rustix::fs::fstat(&place).step(failed)?;
            let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
            let root = rustix::fs::openat(&tree, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let root = root.step(failed)?;
            // Where the owner is not mapped it stays root's.
            let _ = rustix::fs::fchown(&root, Some(uid), Some(gid));
            rustix::fs::fchmod(&root, Mode::from_raw_mode(found.st_mode)).step(failed)?;
        }
    }
    Ok((place, tree))
}

fn flag(tree: &OwnedFd, flags: &Flags, recursive: bool) -> Result<()> {
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
    add_attributes(tree.as_fd(), c"", attributes, recursive).step(|| "cannot set the mount options")
}
