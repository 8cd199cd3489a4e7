//! The cgroup of one container (cgroups(7), version 2), where whoever starts it has one to make others in.
//!
//! Nothing but the container's processes is in it: what serves them goes on while they are frozen.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, mkdirat};

use crate::error::{Error, Result, Step};
use crate::host::cgroup;

/// Attempts to remove one whose processes are just ending, one each millisecond.
const ATTEMPTS: u32 = 50;
/// The kernel's own limit of the text of cgroup.events is a page.
const LONGEST_TEXT: usize = 4096;

/// A cgroup, removed when the value is dropped.
#[derive(Debug)]
pub struct ControlGroup {
    directory: OwnedFd,
    /// With the mount.
    path: PathBuf,
}

/// Where the cgroup of a container is going to be.
pub struct Place {
    unified: PathBuf,
    /// Below that.
    pub path: PathBuf,
}

fn name(id: &str) -> String {
    format!("sbx-{id}")
}

/// Below the caller's own; none where that is not delegated.
pub fn place(id: &str) -> Option<Place> {
    let unified = cgroup::unified()?;
    let own = cgroup::own_delegated(&unified)?;
    Some(Place { unified, path: own.join(name(id)) })
}

impl Place {
    /// # Errors
    /// Those of mkdir(2): also EAGAIN where the limit of descendants is reached.
    pub fn make(&self) -> io::Result<ControlGroup> {
        let path = self.unified.join(&self.path);
        match mkdirat(CWD, &path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, &path, flags, Mode::empty())?;
        Ok(ControlGroup { directory, path })
    }
}

impl ControlGroup {
    /// For clone3(2) with `CLONE_INTO_CGROUP`.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Moves a process in, with what it will start. The kernel may wait some milliseconds for others that fork.
    ///
    /// # Errors
    /// Those of write(2) to cgroup.procs.
    pub fn adopt(&self, pid: i32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Freezes all processes, or lets them go on; they are frozen when [`is_frozen`] says so.
    ///
    /// # Errors
    /// Those of write(2) to cgroup.freeze, which Linux 5.2 brought.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// The file that says whether all are frozen, for [`wait_until_frozen`].
    ///
    /// # Errors
    /// Those of open(2).
    pub fn events(&self) -> io::Result<OwnedFd> {
        Ok(self.open("cgroup.events", OFlags::RDONLY)?)
    }

    fn open(&self, file: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.directory, file, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let file = self.open(file, OFlags::WRONLY)?;
        rustix::io::write(file, text.as_bytes())?;
        Ok(())
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Who is on its way out cannot end while it is frozen.
        let _ = self.freeze(false);
        remove_tree(&self.path);
    }
}

/// Removes the cgroup that a killed monitor left; `path` is what it recorded.
pub fn remove(id: &str, path: &Path) {
    if path.file_name() != Some(name(id).as_ref()) {
        return;
    }
    if let Some(path) = find(path) {
        let _ = fs::write(path.join("cgroup.freeze"), "0");
        remove_tree(&path);
    }
}

/// A recorded cgroup as it can be reached now.
pub fn find(path: &Path) -> Option<PathBuf> {
    let found = cgroup::inside(&cgroup::unified()?, path)?;
    found.is_dir().then_some(found)
}

/// With those that the container has made in it; one in which somebody is cannot be removed.
fn remove_tree(path: &Path) {
    for attempt in 0..ATTEMPTS {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if attempt > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                remove_below(path);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return log::debug!("cannot remove `{}`: {error}", path.display());
            }
            _ => return,
        }
    }
    log::debug!("cannot remove `{}`: somebody is in it", path.display());
}

fn remove_below(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Waits until every process is frozen: those that the kernel is busy with become so only when it is done with them.
/// `events` is [`ControlGroup::events`]. False: the time was over.
///
/// # Errors
/// The cgroup is gone.
pub fn wait_until_frozen(events: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let failed = || "cannot learn whether the container is frozen";
    let until = std::time::Instant::now() + patience;
    loop {
        let mut buffer = [0_u8; LONGEST_TEXT];
        let read = rustix::io::pread(events, &mut buffer[..], 0).map_err(io::Error::from).step(failed)?;
        let text = String::from_utf8_lossy(&buffer[..read]);
        match text.lines().find_map(|line| line.strip_prefix("frozen ")) {
            Some("1") => return Ok(true),
            Some(_) => {}
            None => {
                return Err(Error::new(failed()).because("the kernel does not say (Linux 5.2 or later does)"));
            }
        }
        let left = until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let wait = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        // kernfs tells changes with POLLPRI.
        let mut polled = [PollFd::from_borrowed_fd(events, PollFlags::PRI)];
        match poll(&mut polled, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(io::Error::from(errno)).step(failed),
        }
    }
}

/// Of a command that needs a cgroup of a container that has none.
pub fn none_error(name: &str) -> Error {
    let (why, hint) = cgroup::why_none();
    Error::new(format!("container {name} has no control group of its own")).because(why).hint(hint)
}
