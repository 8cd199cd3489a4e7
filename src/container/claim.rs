//! The lock of one container, and what stands in it: who has to end when nobody looks after the container.
//!
//! The monitor and its guard hold the flock. The record is first written before the monitor starts anything,
//! and completed before the command may run, so that a killed monitor leaves nothing that is not in it or
//! ends by itself: until then every process of the container ends when the monitor's channel closes.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::process::ProcessRef;
use crate::error::{Result, Step};
use crate::network::bridge::Endpoint;
use crate::sys::time::Utc;

/// Longer state files are not ours.
const LONGEST_FILE: u64 = 16 << 20;

/// Who has to end with a container, as its monitor last recorded it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub boot_id: String,
    pub monitor: Option<ProcessRef>,
    pub guard: Option<ProcessRef>,
    pub init: Option<ProcessRef>,
    /// fuse-overlayfs, slirp4netns, pasta, the relay of UDP ports, the server of emulated root.
    pub servers: Vec<ProcessRef>,
    /// A command works in the files of the stopped container: what became of its last life stays as it is.
    #[serde(default)]
    pub visit: bool,
    /// The inode number of the user namespace.
    pub userns: u64,
    /// None: still being set up.
    pub started_at: Option<Utc>,
    /// The container is down, and its restart policy will start it again.
    #[serde(default)]
    pub restarting: Option<Restarting>,
    /// How often the restart policy has started it again.
    #[serde(default)]
    pub restarts: u32,
    /// Frozen by `sbx pause`.
    #[serde(default)]
    pub paused: bool,
    /// The container's cgroup, below the mount of version 2.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// The container is on its way out: whoever finds it abandoned removes it.
    #[serde(default)]
    pub removing: bool,
    /// The same for the anonymous volumes that nobody else has.
    #[serde(default)]
    pub removing_volumes: bool,
    /// Its user namespace is below that of the bridges: networks can be connected and disconnected while it runs.
    #[serde(default)]
    pub bridged: bool,
    /// Where the container is in bridge networks, the first one first.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// The container's part of the runtime directory, which is of this boot as the record is.
    pub runtime: Option<PathBuf>,
}

impl Running {
    /// Its first process has ended, and its monitor sees to what follows.
    pub fn is_ending(&self) -> bool {
        let monitored = self.monitor.is_some_and(ProcessRef::is_alive);
        let ended = self.started_at.is_some() && self.init.is_some_and(|init| !init.is_alive());
        monitored && ended && self.restarting.is_none()
    }
}

/// Between two lives of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// The exit code of the last.
    pub code: i32,
    /// When that ended.
    pub since: Utc,
}

/// The lock of one container, held as long as the value and its copies in forked processes live.
#[derive(Debug)]
pub struct Claim {
    file: File,
    path: PathBuf,
}

impl Claim {
    pub(super) fn new(file: File, path: PathBuf) -> Self {
        Self { file, path }
    }

    /// Replaces what the lock file says. Readers see the old record or the new one: it is one short write.
    pub fn record(&self, running: &Running) -> Result<()> {
        let failed = || format!("cannot write `{}`", self.path.display());
        let mut text = serde_json::to_vec(running).step(failed)?;
        let old = self.file.metadata().map_or(0, |metadata| metadata.len());
        // Spaces over the rest of a longer record: never a moment without a whole one.
        text.resize(text.len().max(usize::try_from(old).unwrap_or(0)), b' ');
        self.file.write_all_at(&text, 0).map_err(|error| super::store::no_room(error, failed()))
    }

    /// What the lock file says; nothing where it is torn, or not ours.
    pub fn recorded(&self) -> Running {
        read_open(&self.file).and_then(|text| Ok(serde_json::from_slice(&text)?)).unwrap_or_default()
    }

    pub fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.file.as_fd()
    }

    /// Says that nothing of the container runs any more.
    pub fn release(&self) {
        let _ = fs::remove_file(&self.path);
    }

    pub(super) fn try_lock(&self) -> Result<(), TryLockError> {
        self.file.try_lock()
    }

    /// Whether the file is still the one that others find under its name.
    pub(super) fn is_current(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }
}

/// Reads a state file of the store, never through a symlink and never from a pipe or device.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    read_open(&File::options().read(true).custom_flags(flags).open(path)?)
}

fn read_open(file: &File) -> io::Result<Vec<u8>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::with_capacity(usize::try_from(metadata.len().min(LONGEST_FILE)).unwrap_or(0));
    let mut at = 0;
    let mut chunk = [0_u8; 8192];
    while at < LONGEST_FILE {
        match file.read_at(&mut chunk, at) {
            Ok(0) => break,
            Ok(read) => {
                text.extend_from_slice(&chunk[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(text)
}
