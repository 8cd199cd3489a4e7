//! The files of one log while they may be renamed at any time: `log`, then `log.1` and so on, the oldest last.
//!
//! Renaming begins with the oldest. So where a file still has its number after its neighbour was opened, that was
//! its neighbour.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use crate::logs::writer::numbered;

/// Attempts to see the files between two renames.
const ATTEMPTS: u32 = 1000;
/// A rename takes some microseconds.
const BREATH: Duration = Duration::from_micros(200);

/// Where the files of a log are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    path: PathBuf,
    /// How many there are at most.
    most: u32,
}

/// What tells a file from all others while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Files {
    pub fn new(path: PathBuf, most: u32) -> Self {
        Self { path, most: most.max(1) }
    }

    pub fn directory(&self) -> PathBuf {
        self.path.parent().map_or_else(|| PathBuf::from("/"), PathBuf::from)
    }

    /// The file that is written to; none where nothing was ever written.
    pub fn newest(&self) -> io::Result<Option<File>> {
        for _ in 0..ATTEMPTS {
            if let Some(file) = self.open(0)? {
                return Ok(Some(file));
            }
            // Between two renames, or where a monitor was killed there, the newest is the first of the old ones.
            if self.most == 1 || self.identity(1).is_none() {
                return Ok(None);
            }
            if let Some(file) = self.open(1)?
                && self.identity(0).is_none()
            {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    pub fn oldest(&self) -> io::Result<Option<File>> {
        for _ in 0..ATTEMPTS {
            let Some(last) = self.numbers().last() else { return Ok(None) };
            if let Some(file) = self.open(last)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// The file that was begun when this one was full; none where this one is the newest. Where this one was removed
    /// meanwhile, it is the oldest that is left.
    pub fn newer(&self, than: &File) -> io::Result<Option<File>> {
        let own = Identity::of(&than.metadata()?);
        for _ in 0..ATTEMPTS {
            let number = self.numbers().find(|number| self.identity(*number) == Some(own));
            match number {
                Some(0) => return Ok(None),
                Some(number) => {
                    let file = self.open(number - 1)?;
                    if self.identity(number) == Some(own) {
                        match file {
                            Some(file) => return Ok(Some(file)),
                            // The new one gets its name in a moment, unless its maker was killed.
                            None if number == 1 => {
                                std::thread::sleep(BREATH);
                                if self.identity(0).is_none() && self.identity(1) == Some(own) {
                                    return Ok(None);
                                }
                            }
                            None => {}
                        }
                    }
                }
                None => {
                    let Some(last) = self.numbers().last() else { return Ok(None) };
                    let wanted = self.identity(last);
                    let file = self.open(last)?;
                    let found = file.as_ref().and_then(|file| file.metadata().ok());
                    if let Some(found) = found.map(|found| Identity::of(&found))
                        && Some(found) == wanted
                        && found != own
                    {
                        return Ok(file);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The file that was full when this one was begun.
    pub fn older(&self, than: &File) -> io::Result<Option<File>> {
        let own = Identity::of(&than.metadata()?);
        for _ in 0..ATTEMPTS {
            let Some(number) = self.numbers().find(|number| self.identity(*number) == Some(own)) else {
                return Ok(None);
            };
            let file = self.open(number + 1)?;
            let unmoved = self.identity(number) == Some(own);
            let other = match &file {
                Some(file) => Identity::of(&file.metadata()?) != own,
                // Not just moved on to the next number.
                None => self.identity(number + 2).is_none(),
            };
            if unmoved && other {
                return Ok(file);
            }
        }
        Ok(None)
    }

    /// Those that exist, the newest first. One may be missing for as long as the others are renamed.
    fn numbers(&self) -> impl Iterator<Item = u32> {
        let mut missing = 0;
        (0..self.most)
            .map(|number| (number, self.identity(number).is_some()))
            .take_while(move |(_, exists)| {
                missing = if *exists { 0 } else { missing + 1 };
                missing < 3
            })
            .filter_map(|(number, exists)| exists.then_some(number))
    }

    fn path(&self, number: u32) -> PathBuf {
        if number == 0 { self.path.clone() } else { numbered(&self.path, number) }
    }

    fn identity(&self, number: u32) -> Option<Identity> {
        if number >= self.most {
            return None;
        }
        let metadata = fs::symlink_metadata(self.path(number)).ok()?;
        metadata.is_file().then(|| Identity::of(&metadata))
    }

    /// Never through a symlink, and never waiting for the other end of a FIFO; a device holds nothing.
    fn open(&self, number: u32) -> io::Result<Option<File>> {
        if number >= self.most {
            return Ok(None);
        }
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = match File::options().read(true).custom_flags(flags).open(self.path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        Ok(file.metadata()?.is_file().then_some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(file: Option<File>) -> String {
        file.map_or_else(|| "none".to_owned(), |file| io::read_to_string(file).unwrap())
    }

    fn some(directory: &tempfile::TempDir, names: &[&str]) -> Files {
        for name in names {
            fs::write(directory.path().join(name), name).unwrap();
        }
        Files::new(directory.path().join("log"), 5)
    }

    #[test]
    fn neighbours_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let files = some(&directory, &["log", "log.1", "log.2"]);
        assert_eq!(content(files.newest().unwrap()), "log");
        assert_eq!(content(files.oldest().unwrap()), "log.2");
        let middle = File::open(directory.path().join("log.1")).unwrap();
        assert_eq!(content(files.newer(&middle).unwrap()), "log");
        assert_eq!(content(files.older(&middle).unwrap()), "log.2");
        let newest = files.newest().unwrap().unwrap();
        assert_eq!(content(files.newer(&newest).unwrap()), "none");
        let oldest = files.oldest().unwrap().unwrap();
        assert_eq!(content(files.older(&oldest).unwrap()), "none");
    }

    #[test]
    fn after_a_removed_file_comes_the_oldest_that_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let files = some(&directory, &["log", "log.1", "log.2"]);
        let oldest = files.oldest().unwrap().unwrap();
        fs::rename(directory.path().join("log.1"), directory.path().join("log.2")).unwrap();
        assert_eq!(content(files.newer(&oldest).unwrap()), "log.1");
    }

    #[test]
    fn a_monitor_killed_between_two_renames_hides_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let files = some(&directory, &["log.1", "log.2"]);
        assert_eq!(content(files.newest().unwrap()), "log.1");
        assert_eq!(content(files.oldest().unwrap()), "log.2");
        let newest = files.newest().unwrap().unwrap();
        assert_eq!(content(files.newer(&newest).unwrap()), "none");
        assert_eq!(content(files.older(&newest).unwrap()), "log.2");
        let directory = tempfile::tempdir().unwrap();
        let files = some(&directory, &["log", "log.2"]);
        assert_eq!(content(files.oldest().unwrap()), "log.2");
    }

    #[test]
    fn only_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let files = some(&directory, &[]);
        assert_eq!(content(files.newest().unwrap()), "none");
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("log")).unwrap();
        assert!(files.newest().is_err());
        fs::remove_file(directory.path().join("log")).unwrap();
        fs::create_dir(directory.path().join("log")).unwrap();
        assert_eq!(content(files.newest().unwrap()), "none");
    }
}
