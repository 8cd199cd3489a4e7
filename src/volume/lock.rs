//! The lock of a volume: an flock on its record, which a network file system takes, too, since it is a file that is
//! open for writing.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Between two attempts: who has the lock may rename the volume away, which no waiting flock(2) would notice.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Held until it is dropped, or the process and all that it forked meanwhile have ended.
#[derive(Debug)]
pub(super) struct Lock {
    held: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Shared,
    Exclusive,
}

impl Lock {
    /// Waits for the lock of the volume with this record; none: there is no such volume, or not any more.
    ///
    /// # Errors
    /// It cannot be opened or locked.
    pub(super) fn wait(record: &Path, kind: Kind) -> io::Result<Option<Self>> {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(file) = open(record, true)? else { return Ok(None) };
            match attempt(&file, kind) {
                Ok(()) if is_current(&file, record) => return Ok(Some(Self { held: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The lock alone and at once; none: somebody has it.
    ///
    /// # Errors
    /// As [`Self::wait`]; NotFound: there is no such volume.
    pub(super) fn try_exclusive(record: &Path) -> io::Result<Option<Self>> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        Self::at_once(open(record, true)?.ok_or_else(gone)?, record)
    }

    /// The same, but a directory without a record stays one.
    ///
    /// # Errors
    /// As [`Self::try_exclusive`].
    pub(super) fn try_existing(record: &Path) -> io::Result<Option<Self>> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        Self::at_once(open(record, false)?.ok_or_else(gone)?, record)
    }

    fn at_once(file: File, record: &Path) -> io::Result<Option<Self>> {
        match attempt(&file, Kind::Exclusive) {
            Ok(()) if is_current(&file, record) => Ok(Some(Self { held: file })),
            Ok(()) => Err(io::ErrorKind::NotFound.into()),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that was forked meanwhile, such as a container's guard, has the descriptor, too.
        let _ = self.held.unlock();
    }
}

fn attempt(file: &File, kind: Kind) -> Result<(), TryLockError> {
    match kind {
        Kind::Shared => file.try_lock_shared(),
        Kind::Exclusive => file.try_lock(),
    }
}

/// Opens the record, never through a symlink. With `mend` a volume that lost it (a crash, or somebody's hand) gets an
/// empty one.
fn open(record: &Path, mend: bool) -> io::Result<Option<File>> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let is_volume =
        || record.parent().is_some_and(|volume| volume.symlink_metadata().is_ok_and(|m| m.is_dir()));
    match options.open(record) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !mend || !is_volume() {
                return Ok(None);
            }
            match options.create(true).open(record) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                result => result.map(Some),
            }
        }
        // A file of that name is no volume.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        result => result.map(Some),
    }
}

/// Whether the file is still the one that others find under its name.
fn is_current(file: &File, record: &Path) -> bool {
    let (Ok(held), Ok(found)) = (file.metadata(), record.symlink_metadata()) else { return false };
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}
