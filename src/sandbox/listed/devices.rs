//! /dev of a bundle: the nodes that every container has (config-linux.md, Default Devices), those that are listed, and
//! the links that POSIX programs expect (runtime-linux.md, Dev symbolic links).

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::mount_bind;

use crate::container::listed::{Listed, ListedKind, Node, NodeKind};
use crate::container::spec::{Namespace, Spec};
use crate::error::{Error, Result, Step};
use crate::sandbox::inroot::{InRoot, descriptor_path};

/// Names and minor numbers of the devices with the major number 1, and tty.
const DEFAULTS: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Makes all of it, unless the bundle binds a /dev that is complete.
pub(super) fn make_all(root: &InRoot, spec: &Spec, listed: &Listed) -> Result<()> {
    let dev = Path::new("/dev");
    let complete = listed
        .mounts
        .iter()
        .any(|mount| mount.destination == dev && matches!(mount.kind, ListedKind::Bind { .. }));
    if !complete {
        let defaults = DEFAULTS.iter().map(|(name, major, minor)| Node {
            path: dev.join(name),
            kind: NodeKind::Character,
            major: *major,
            minor: *minor,
            mode: Some(0o666),
            uid: None,
            gid: None,
        });
        for node in defaults.filter(|node| listed.devices.iter().all(|other| other.path != node.path)) {
            make(root, spec, &node)?;
        }
    }
    for node in &listed.devices {
        make(root, spec, node)?;
    }
    if complete {
        return Ok(());
    }
    let directory = root.ensure_directory(dev)?;
    for (name, target) in LINKS {
        link(&directory, name, target)?;
    }
    if Path::new("/proc/kcore").exists() {
        link(&directory, "core", "/proc/kcore")?;
    }
    // What an image has there may be another instance's.
    let _ = rustix::fs::unlinkat(&directory, "ptmx", AtFlags::empty());
    link(&directory, "ptmx", "pts/ptmx")
}

fn link(directory: &std::os::fd::OwnedFd, name: &str, target: &str) -> Result<()> {
    match rustix::fs::symlinkat(target, directory, name) {
        // The root has one of its own.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).step(|| format!("cannot make /dev/{name}")),
    }
}

fn make(root: &InRoot, spec: &Spec, node: &Node) -> Result<()> {
    let failed = || format!("cannot make the device `{}`", node.path.display());
    // mknod(2) of devices takes CAP_MKNOD in the first user namespace.
    let may_make = spec.identity.join == Some(Namespace::Host) || node.kind == NodeKind::Fifo;
    if may_make {
        match made(root, node) {
            Ok(()) => return Ok(()),
            Err(error) if error == Errno::PERM => {}
            Err(error) => return Err(error).step(failed),
        }
    }
    let metadata = rustix::fs::stat(&node.path).map_err(|error| {
        Error::new(failed())
            .because(error)
            .hint("without root a container has the nodes that the host has at the same path")
    })?;
    if metadata.st_rdev != number(node) || FileType::from_raw_mode(metadata.st_mode) != file_type(node) {
        return Err(Error::new(failed())
            .because("the host has another device at this path")
            .hint("without root a container has the nodes that the host has at the same path"));
    }
    let place = root.ensure_file(&node.path)?;
    mount_bind(&node.path, descriptor_path(&place)).step(failed)
}

fn made(root: &InRoot, node: &Node) -> Result<(), Errno> {
    let parent = node.path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let name = node.path.file_name().ok_or(Errno::INVAL)?;
    let directory = root.ensure_directory(&parent).map_err(|_| Errno::NOENT)?;
    let mode = Mode::from_raw_mode(node.mode.unwrap_or(0o666));
    match rustix::fs::mknodat(&directory, name, file_type(node), mode, number(node)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let found = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = FileType::from_raw_mode(found.st_mode) == file_type(node)
                && (node.kind == NodeKind::Fifo || found.st_rdev == number(node));
            if !same {
                return Err(Errno::EXIST);
            }
        }
        Err(error) => return Err(error),
    }
    rustix::fs::chmodat(&directory, name, mode, AtFlags::empty())?;
    let (uid, gid) = (node.uid.map(Uid::from_raw), node.gid.map(Gid::from_raw));
    rustix::fs::chownat(&directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

fn number(node: &Node) -> rustix::fs::Dev {
    rustix::fs::makedev(node.major, node.minor)
}

fn file_type(node: &Node) -> FileType {
    match node.kind {
        NodeKind::Character => FileType::CharacterDevice,
        NodeKind::Block => FileType::BlockDevice,
        NodeKind::Fifo => FileType::Fifo,
    }
}
