//! The host's paths, opened while the container's process still is the caller.
//!
//! Under a map where the container's root is somebody else (`--userns auto`, `nomap`, a range of root's) that
//! root may not walk through the caller's directories. What the container gets of them is opened before the
//! change of IDs and then named by descriptor.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{MountKind, Root, Spec};
use crate::error::{Result, Step};
use crate::sandbox::inroot::descriptor_path;

/// A spec and a directory that name the same things by paths which any user of this process can follow.
pub struct Reach {
    pub spec: Spec,
    pub directory: ContainerDirectory,
    /// Held until the exec closes them.
    _opened: Vec<OwnedFd>,
}

impl Reach {
    /// Opens everything, in the mount namespace of the container and as the caller.
    ///
    /// # Errors
    /// What the caller itself may not reach.
    pub fn open(spec: &Spec, directory: &ContainerDirectory) -> Result<Self> {
        let mut opened = Vec::new();
        let mut name = |path: &Path, what: &str| -> Result<PathBuf> {
            let descriptor = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .step(|| format!("cannot open {what} `{}`", path.display()))?;
            let name = PathBuf::from(descriptor_path(&descriptor));
            opened.push(descriptor);
            Ok(name)
        };
        let uppers = name(directory.uppers(), "the container's directory")?;
        let directory =
            ContainerDirectory::new(name(directory.path(), "the container's directory")?).with_uppers(uppers);
        let mut spec = spec.clone();
        match &mut spec.root {
            Root::Host { .. } | Root::Layers { .. } => {}
            Root::Directories { lowers, .. } => {
                for lower in lowers {
                    *lower = name(lower, "the layer")?;
                }
            }
            Root::WritableDirectory { path } => *path = name(path, "the root file system")?,
        }
        for mount in &mut spec.mounts {
            let bind = match &mut mount.kind {
                MountKind::Bind(bind) => bind,
                MountKind::Volume(volume) => &mut volume.bind,
                _ => continue,
            };
            bind.source = name(&bind.source, "the source of a mount,")?;
        }
        for device in &mut spec.devices {
            device.host = name(&device.host, "the device")?;
        }
        Ok(Self { spec, directory, _opened: opened })
    }
}
