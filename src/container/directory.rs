//! A container's directory in the store: what lies where in it.

use std::path::{Path, PathBuf};

/// `containers/<id>/`, and where the layers lie that the container changes: there, too, or on local scratch.
#[derive(Debug, Clone)]
pub struct ContainerDirectory {
    path: PathBuf,
    uppers: PathBuf,
}

impl ContainerDirectory {
    pub fn new(path: PathBuf) -> Self {
        Self { uppers: path.clone(), path }
    }

    #[must_use]
    pub fn with_uppers(self, uppers: PathBuf) -> Self {
        Self { uppers, ..self }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of [`Self::upper`], [`Self::work`] and [`Self::mount_scratch`].
    pub fn uppers(&self) -> &Path {
        &self.uppers
    }

    /// The immutable [`crate::container::spec::Spec`].
    pub fn spec(&self) -> PathBuf {
        self.path.join("spec.json")
    }

    /// [`crate::container::state::State`]: written by the monitor alone, when the container ends.
    pub fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// [`crate::container::health::Health`]: written by the monitor alone, after every check; there only where there is
    /// one to make.
    pub fn health(&self) -> PathBuf {
        self.path.join("health.json")
    }

    /// Copies of the container's secrets, mode 0600; there only where it has some.
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets.json")
    }

    /// [`crate::container::settings::Settings`]: what commands changed of it later.
    pub fn settings(&self) -> PathBuf {
        self.path.join("settings.json")
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// What the container has tried to reach; there only with `--net-allow`.
    pub fn network_log(&self) -> PathBuf {
        self.path.join("network.log")
    }

    /// What the container changed. In the container's mount namespace the root is mounted over it: a directory for that alone would have to be made and removed each time.
    pub fn upper(&self) -> PathBuf {
        self.uppers.join("upper")
    }

    pub fn work(&self) -> PathBuf {
        self.uppers.join("work")
    }

    /// Where the server of the image `host` stages it, in a mount namespace of its own.
    pub fn stage(&self) -> PathBuf {
        self.path.join("stage")
    }

    /// Uppers of `-v SOURCE:TARGET:O`.
    pub fn mount_scratch(&self) -> PathBuf {
        self.uppers.join("mounts")
    }

    pub fn root_server_log(&self) -> PathBuf {
        self.path.join("fuse-overlayfs.log")
    }

    /// A copy of the file of `--tz`, over /etc/localtime.
    pub fn localtime(&self) -> PathBuf {
        self.path.join("localtime")
    }

    /// Generated files and what they cover in the container.
    pub fn generated_files(&self) -> [(PathBuf, &'static str); 3] {
        [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts"), ("hostname", "/etc/hostname")]
            .map(|(name, target)| (self.path.join(name), target))
    }
}
