//! A container's directory in the store: what lies where in it.

use std::path::{Path, PathBuf};

/// `containers/<id>/`.
#[derive(Debug, Clone)]
pub struct ContainerDirectory(PathBuf);

impl ContainerDirectory {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The immutable [`crate::container::spec::Spec`].
    pub fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// [`crate::container::state::State`]: written by the monitor alone, when the container ends.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// What the container changed. In the container's mount namespace the root is mounted over it: a directory for that alone would have to be made and removed each time.
    pub fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Where the server of the image `host` stages it, in a mount namespace of its own.
    pub fn stage(&self) -> PathBuf {
        self.0.join("stage")
    }

    /// Uppers of `-v SOURCE:TARGET:O`.
    pub fn mount_scratch(&self) -> PathBuf {
        self.0.join("mounts")
    }

    pub fn root_server_log(&self) -> PathBuf {
        self.0.join("fuse-overlayfs.log")
    }

    /// Generated files and what they cover in the container.
    pub fn generated_files(&self) -> [(PathBuf, &'static str); 3] {
        [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts"), ("hostname", "/etc/hostname")]
            .map(|(name, target)| (self.0.join(name), target))
    }
}
