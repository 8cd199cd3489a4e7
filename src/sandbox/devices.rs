//! /dev: a tmpfs with the host's own harmless nodes bound into it, since a user namespace may make none.

use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::container::spec::{Device, Namespace, Spec};
use crate::error::{Error, Result, Step};
use crate::sandbox::inroot::{InRoot, descriptor_path};
use crate::sandbox::kernel_mounts::mount_at;

const NODES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What of the host's /dev belongs to mounts of their own, or to the terminal of the container.
const NOT_COPIED: &[&str] = &["console", "ptmx", "pts", "shm", "mqueue", "hugepages", "tty", "fd", "core"];

/// Mounts /dev and fills it. Mode 0755: in a sticky directory an O_CREAT on a bound node is refused.
pub fn mount_dev(root: &InRoot, spec: &Spec) -> Result<()> {
    let place = root.plain_directory(Path::new("/dev"))?;
    mount_at(&place, "tmpfs", "tmpfs", MountFlags::NOSUID | MountFlags::STRICTATIME, c"mode=755,size=64m")
        .step(|| "cannot mount a tmpfs on /dev")?;
    let dev = root.find(Path::new("/dev")).step(|| "cannot open /dev")?;
    for name in NODES {
        bind_node(&dev, name, &Path::new("/dev").join(name))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(*target, &dev, *name).step(|| format!("cannot make /dev/{name}"))?;
    }
    pseudo_terminals(root, &dev, spec)?;
    shared_memory(root, &dev, spec)?;
    message_queues(&dev, spec)?;
    if spec.security.privileged {
        all_of_the_host(root)?;
    }
    spec.devices.iter().try_for_each(|device| add(root, device))
}

/// Group 5 is tty by custom. Where the map has no 5 the kernel refuses it, and says so on its console.
fn pseudo_terminals(root: &InRoot, dev: impl AsFd, spec: &Spec) -> Result<()> {
    let pts = make_directory(&dev, "pts")?;
    let options = if spec.identity.join.is_none() && spec.identity.inner_gid_map().to_host(5).is_some() {
        c"newinstance,ptmxmode=0666,mode=0620,gid=5"
    } else {
        c"newinstance,ptmxmode=0666,mode=0620"
    };
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_at(&pts, "devpts", "devpts", flags, options).step(|| "cannot mount devpts on /dev/pts")?;
    root.find(Path::new("/dev/pts/ptmx")).map(|_| ()).step(|| "cannot find /dev/pts/ptmx")
}

fn shared_memory(root: &InRoot, dev: impl AsFd, spec: &Spec) -> Result<()> {
    let shm = make_directory(dev, "shm")?;
    let failed = || "cannot mount /dev/shm";
    match &spec.namespaces.ipc {
        Namespace::Host => mount_bind("/dev/shm", descriptor_path(&shm)).step(failed),
        _ => {
            let options = std::ffi::CString::new(format!("mode=1777,size={}", spec.shm_size)).step(failed)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("shm", descriptor_path(&shm), "tmpfs", flags, options.as_c_str()).step(failed)
        }
    }?;
    root.find(Path::new("/dev/shm")).map(|_| ()).step(failed)
}

fn message_queues(dev: impl AsFd, spec: &Spec) -> Result<()> {
    let mqueue = make_directory(dev, "mqueue")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match &spec.namespaces.ipc {
        Namespace::Private => {
            mount_at(&mqueue, "mqueue", "mqueue", flags, None).step(|| "cannot mount mqueue on /dev/mqueue")
        }
        // Of somebody else's IPC namespace only what its owner has mounted can be shown.
        _ if Path::new("/dev/mqueue").is_dir() => {
            mount_bind("/dev/mqueue", descriptor_path(&mqueue)).step(|| "cannot bind /dev/mqueue of the host")
        }
        _ => Ok(()),
    }
}

/// `--device`.
fn add(root: &InRoot, device: &Device) -> Result<()> {
    let failed = || format!("cannot bring the device `{}` into the container", device.host.display());
    if device.host.is_dir() {
        let place = root.ensure_directory(&device.container)?;
        return rustix::mount::mount_bind_recursive(&device.host, descriptor_path(&place)).step(failed);
    }
    let place = root.ensure_file(&device.container)?;
    mount_bind(&device.host, descriptor_path(&place)).step(failed)
}

/// `--privileged`: every node of the host's /dev; what may be done with them is what the caller may do.
fn all_of_the_host(root: &InRoot) -> Result<()> {
    let mut pending = vec![PathBuf::from("/dev")];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            let known = path.parent() == Some(Path::new("/dev"))
                && entry.file_name().to_str().is_some_and(|name| {
                    NODES.contains(&name) || NOT_COPIED.contains(&name) || name.starts_with("tty")
                });
            if known {
                continue;
            }
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_char_device() || kind.is_block_device() {
                add(root, &Device { host: path.clone(), container: path })?;
            }
        }
    }
    Ok(())
}

fn bind_node(dev: impl AsFd, name: &str, source: &Path) -> Result<()> {
    let failed = || format!("cannot bring the device `{}` into the container", source.display());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o666)).step(failed)?;
    mount_bind(source, descriptor_path(&place)).map_err(|error| {
        Error::new(failed()).because(error).hint("the device is missing or hidden on this host")
    })
}

fn make_directory(dev: impl AsFd, name: &str) -> Result<std::os::fd::OwnedFd> {
    let failed = || format!("cannot make /dev/{name}");
    rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).step(failed)?;
    rustix::fs::openat(&dev, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(failed)
}
