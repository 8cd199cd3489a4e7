//! Where the holder of a store is found in the user's runtime directory.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Result, Step};
use crate::host::paths;
use crate::sys::channel::Channel;

/// Names with the device and inode of the store's directory in them: a store is the same under any path, and two of one
/// user are two.
#[derive(Debug, Clone)]
pub struct Place {
    runtime: PathBuf,
    name: String,
}

impl Place {
    /// Makes the runtime directory where it is missing.
    ///
    /// # Errors
    /// The store or the runtime directory is not to be had.
    pub fn new(store: &Path, runtime: &Path) -> Result<Self> {
        let failed = || format!("cannot look at `{}`", store.display());
        let found = fs::metadata(store).step(failed)?;
        paths::create_runtime(runtime, rustix::process::geteuid().as_raw())?;
        let name = format!("networks-{:x}-{:x}", found.dev(), found.ino());
        Ok(Self { runtime: runtime.to_owned(), name })
    }

    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    fn socket(&self) -> String {
        format!("{}.control", self.name)
    }

    fn directory(&self) -> std::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, &self.runtime, flags, Mode::empty())?)
    }

    /// Connects to the holder; none: there is none.
    pub(super) fn connect(&self) -> Option<Channel> {
        let directory = self.directory().ok()?;
        Channel::connect(directory.as_fd(), &self.socket()).ok()
    }

    /// The socket of a holder that is being started.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn listen(&self) -> Result<OwnedFd> {
        let failed = || format!("cannot make the control socket of networks in `{}`", self.runtime.display());
        let directory = self.directory().step(failed)?;
        Channel::listen(directory.as_fd(), &self.socket()).step(failed)
    }

    pub(super) fn remove_socket(&self) {
        let _ = fs::remove_file(self.runtime.join(self.socket()));
    }

    /// The lock that is held alone by who starts a holder, and by a holder that ends.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn lock_file(&self) -> Result<File> {
        let path = self.runtime.join(format!("{}.lock", self.name));
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .step(|| format!("cannot open `{}`", path.display()))
    }
}
