//! Whether the kernel mounts an overlay in a user namespace (Linux 5.11 and later) with its upper layer on the
//! store's file system. Asked by trying: versions, file systems (NFS, another overlay, a tmpfs without user
//! xattrs before Linux 6.6) and security modules all have a say.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys::probe::{self, Trial, TrialError, TrialStep};

/// What a success was seen with. The kernel's release and the device stand for the kernel and the file
/// system; the user namespace tells a store that is reached from inside another container, whose rules may
/// be stricter. Nothing else changes while these stay, and where something does, the mount's own error says so.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    kernel: String,
    device: u64,
    user_namespace: u64,
}

/// Asks for the store at `store`, which exists: a success is remembered in `cache/overlay.json` and costs a
/// few system calls from then on. A failure is tried again each time, so that a mend shows at once.
///
/// # Errors
/// The reason why the kernel's overlay can't be used.
pub fn overlay_supported(store: &Path) -> Result<(), String> {
    let seen = seen(store).map_err(|error| plain(store, &error))?;
    let cache = store.join("cache/overlay.json");
    if is_cached(&cache, &seen) {
        return Ok(());
    }
    try_in(store)?;
    // A cache that can't be written costs the next command a millisecond, which is no reason to fail.
    if let Err(error) = remember(&cache, &seen) {
        log::debug!("cannot write `{}`: {error}", cache.display());
    }
    Ok(())
}

/// Tries it in a private directory below `directory`, which is removed again; nothing is remembered.
///
/// # Errors
/// The reason why the kernel's overlay can't be used.
pub fn try_in(directory: &Path) -> Result<(), String> {
    let ground = Ground::make(directory).map_err(|error| plain(directory, &error))?;
    probe::attempt(Trial::Overlay(&ground.path)).map_err(|error| explain(&error, directory))
}

fn explain(error: &TrialError, directory: &Path) -> String {
    let (step, error) = match error {
        TrialError::NotTried(error) => return format!("it could not be tried: {}", words(error)),
        TrialError::Refused(step, error) => (step, error),
    };
    let file_system =
        super::filesystem::of(directory).map_or_else(|_| "unknown".to_owned(), |found| found.name);
    let because = match (step, error.raw_os_error()) {
        (TrialStep::MountOverlay, Some(libc::ENODEV)) => "the kernel has no overlay file system".to_owned(),
        (TrialStep::MountOverlay, Some(libc::EPERM)) => {
            "the kernel or a security module refuses it in a user namespace (Linux 5.11 and later allow it)"
                .to_owned()
        }
        (TrialStep::MountOverlay | TrialStep::Whiteout | TrialStep::OpaqueDirectory, _) => {
            format!("{file_system} can't hold its upper layer")
        }
        _ => String::new(),
    };
    let reason = format!("cannot {}: {}", step.describe(), words(error));
    if because.is_empty() { reason } else { format!("{reason}: {because}") }
}

fn plain(path: &Path, error: &io::Error) -> String {
    format!("it can't be tried in `{}`: {}", path.display(), words(error))
}

/// The error without Rust's number at its end.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn seen(store: &Path) -> io::Result<Seen> {
    Ok(Seen {
        kernel: super::system::kernel_release(),
        device: super::filesystem::device(store)?,
        user_namespace: fs::metadata("/proc/self/ns/user")?.ino(),
    })
}

fn is_cached(cache: &Path, seen: &Seen) -> bool {
    let text = fs::read(cache).unwrap_or_default();
    serde_json::from_slice::<Seen>(&text).is_ok_and(|cached| cached == *seen)
}

fn remember(cache: &Path, seen: &Seen) -> io::Result<()> {
    let directory = cache.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let fresh = directory.join(format!("overlay.json.{}", std::process::id()));
    fs::write(&fresh, serde_json::to_vec(seen)?)?;
    fs::rename(&fresh, cache)
}

const TRIAL: &str = ".sbx-probe-";

/// How often the removal of a trial is tried, a millisecond more apart each time.
const ATTEMPTS: u64 = 20;

/// Removes the grounds of trials whose process was killed: those that nobody holds locked.
pub fn remove_abandoned_trials(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(TRIAL))
            && let Ok(lock) = open_directory(&entry.path())
            && lock.try_lock().is_ok()
        {
            drop(Ground { path: entry.path(), _lock: lock });
        }
    }
}

fn open_directory(path: &Path) -> io::Result<fs::File> {
    fs::File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// The directories of a trial, removed when dropped. Locked meanwhile: whoever finds them unlocked knows that
/// their maker was killed.
pub struct Ground {
    path: PathBuf,
    _lock: fs::File,
}

impl Ground {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// Nothing can be made in `directory`.
    pub fn make(directory: &Path) -> io::Result<Self> {
        let mut random = [0_u8; 8];
        crate::sys::random::fill(&mut random).map_err(io::Error::other)?;
        let path = directory.join(format!("{TRIAL}{:016x}", u64::from_ne_bytes(random)));
        let private = |path: PathBuf| fs::DirBuilder::new().mode(0o700).create(path);
        let lock = loop {
            private(path.clone())?;
            let Ok(lock) = open_directory(&path) else { continue };
            // Where the file system has no locks, a sweep gets none either.
            let _ = lock.lock();
            // Between the two a sweep may have taken it for a dead process's.
            if lock.metadata()?.nlink() > 0 {
                break lock;
            }
        };
        let ground = Self { path, _lock: lock };
        for name in ["lower", "lower/d", "upper", "work", "merged"] {
            private(ground.path.join(name))?;
        }
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // The kernel leaves work/work without any permission.
        let _ = fs::set_permissions(self.path.join("work/work"), fs::Permissions::from_mode(0o700));
        for attempt in 1.. {
            match fs::remove_dir_all(&self.path) {
                // FUSE lets go of the files of a process that has ended a moment later.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && attempt < ATTEMPTS => {
                    std::thread::sleep(Duration::from_millis(attempt));
                }
                // Whoever locks it just after its maker has removed it finds nothing more to do.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return log::warn!("cannot remove `{}`: {}", self.path.display(), words(&error));
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_on_an_overlay_or_in_proc_is_refused_with_a_reason() {
        let reason = try_in(Path::new("/proc")).unwrap_err();
        assert!(reason.starts_with("it can't be tried in `/proc`"), "{reason}");
        let refused =
            TrialError::Refused(TrialStep::MountOverlay, io::Error::from_raw_os_error(libc::EINVAL));
        let reason = explain(&refused, Path::new("/proc"));
        assert!(reason.contains("Invalid argument: unknown (0x9fa0) can't hold its upper layer"), "{reason}");
    }

    #[test]
    fn a_trial_leaves_nothing_whatever_its_outcome() {
        let dir = tempfile::tempdir().unwrap();
        try_in(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_a_success_of_this_kernel_and_file_system_is_taken_from_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        overlay_supported(dir.path()).unwrap();
        let cache = dir.path().join("cache/overlay.json");
        let mut seen = seen(dir.path()).unwrap();
        assert!(is_cached(&cache, &seen));
        seen.kernel.push_str("-other");
        assert!(!is_cached(&cache, &seen));
        fs::write(&cache, "{broken").unwrap();
        overlay_supported(dir.path()).unwrap();
        assert!(fs::read_to_string(&cache).unwrap().contains("kernel"));
        assert!(overlay_supported(&dir.path().join("none")).is_err());
    }
}
