//! Files that get their names when they are whole.

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::copying::receive::{explain, made, open_directory};
use crate::error::{Result, Step};

/// How the names of files begin that are not whole yet, where the file system makes none without a name.
const TEMPORARY: &[u8] = b".sbx-cp-";

/// A file that nobody sees before it is whole.
pub(super) struct NewFile<'d> {
    pub(super) file: OwnedFd,
    directory: BorrowedFd<'d>,
    /// Where the file system makes none without a name.
    name: Option<Vec<u8>>,
}

impl<'d> NewFile<'d> {
    /// A file for `directory`; `cleared` is the one that was last cleared of what killed copies left.
    pub(super) fn create(directory: BorrowedFd<'d>, cleared: &Cell<Option<(u64, u64)>>) -> Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(directory, ".", flags | OFlags::TMPFILE, mode) {
            return Ok(Self { file, directory, name: None });
        }
        let own = rustix::fs::fstat(directory).ok().map(|stat| (stat.st_dev, stat.st_ino));
        if cleared.replace(own) != own {
            remove_abandoned(directory);
        }
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        loop {
            let name = temporary_name()?;
            let file = rustix::fs::openat(directory, &name, flags, mode)
                .map_err(|error| explain(error, "make it"))?;
            // Until it is locked another copy may take it for what a killed one has left.
            let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
            let lost = locked == Err(Errno::WOULDBLOCK);
            if !lost && rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_nlink > 0) {
                return Ok(Self { file, directory, name: Some(name) });
            }
        }
    }

    /// Gives the file its name, in the place of what has it.
    pub(super) fn publish(mut self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        if self.name.is_none() {
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let link =
                |name: &[u8]| rustix::fs::linkat(CWD, own.as_str(), directory, name, AtFlags::SYMLINK_FOLLOW);
            match link(name) {
                Err(Errno::EXIST) => {}
                done => return made(done),
            }
            let temporary = temporary_name()?;
            made(link(&temporary))?;
            self.name = Some(temporary);
        }
        let Some(temporary) = self.name.as_ref() else { return Ok(()) };
        made(rustix::fs::renameat(directory, temporary, directory, name))?;
        self.name = None;
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = rustix::fs::unlinkat(self.directory, name, AtFlags::empty());
        }
    }
}

/// Removes the unfinished files of copies that were killed.
fn remove_abandoned(directory: BorrowedFd<'_>) {
    let Ok(readable) = open_directory(directory, b".", OFlags::RDONLY) else { return };
    for entry in Dir::read_from(&readable).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_bytes().starts_with(TEMPORARY) {
            continue;
        }
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(directory, name, flags, Mode::empty());
        let abandoned =
            |file: &OwnedFd| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if opened.as_ref().is_ok_and(abandoned) {
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
}

/// A name that nothing has.
pub(super) fn temporary_name() -> Result<Vec<u8>> {
    let mut random = [0_u8; 8];
    crate::sys::random::fill(&mut random).step(|| "cannot make a random name")?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([TEMPORARY, digits.as_bytes()].concat())
}
