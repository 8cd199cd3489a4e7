//! The cgroup of one container (cgroups(7), version 2), where whoever starts it has one to make others in.
//!
//! Nothing but the container's processes is in it: what serves them goes on while they are frozen.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, mkdirat};

use crate::delegation::{self, Delegated};
use crate::error::{Error, Result, Step};
use crate::host::cgroup;
use crate::limits::settings::Setting;
use crate::limits::write;

/// Attempts to remove one whose processes are just ending, one each millisecond: of many that were killed, and where there
/// is one processor, it takes a while.
const ATTEMPTS: u32 = 1000;
/// The kernel's own limit of the text of cgroup.events is a page.
const LONGEST_TEXT: usize = 4096;

/// A cgroup, removed when the value is dropped.
#[derive(Debug)]
pub struct ControlGroup {
    directory: OwnedFd,
    /// With the mount.
    path: PathBuf,
    /// The container may not do without it.
    pub needed: bool,
}

/// Where the cgroup of a container is going to be.
pub struct Place {
    unified: PathBuf,
    /// Below that.
    pub path: PathBuf,
}

/// Below the caller's own; none where that is not delegated.
pub fn place(id: &str) -> Option<Place> {
    let unified = cgroup::unified()?;
    let own = cgroup::own_delegated(&unified)?;
    Some(Place { unified, path: own.join(delegation::name(id)) })
}

impl From<&Delegated> for Place {
    fn from(delegated: &Delegated) -> Self {
        Self { unified: delegated.unified.clone(), path: delegated.parent.join(&delegated.name) }
    }
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
        Ok(ControlGroup { directory, path, needed: false })
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

    /// Sets limits.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn limit(&self, settings: &[Setting]) -> Result<()> {
        write::write_all(self.directory.as_fd(), settings)
    }

    /// Kills all that are in it, and in those below (Linux 5.14).
    pub fn kill(&self) {
        if let Err(error) = self.write("cgroup.kill", "1") {
            log::debug!("cannot kill a whole control group: {error}");
        }
    }

    /// The file that tells, with POLLPRI, that a limit of memory was hit; none: memory is not counted.
    pub fn memory_events(&self) -> Option<OwnedFd> {
        self.open("memory.events", OFlags::RDONLY).ok()
    }

    /// How many processes the kernel has killed for want of memory, in it and below.
    pub fn oom_kills(&self) -> u64 {
        write::read(self.directory.as_fd(), "memory.events").map_or(0, |text| oom_kills(&text))
    }

    /// Why nobody new may be put into it: somebody else is there, or would not run.
    pub fn in_the_way(&self) -> Option<&'static str> {
        let says = |file: &str, line: &str| {
            write::read(self.directory.as_fd(), file).is_some_and(|text| text.lines().any(|own| own == line))
        };
        if says("cgroup.events", "populated 1") {
            return Some("processes are in it already");
        }
        says("cgroup.freeze", "1").then_some("it is frozen")
    }

    /// Lets the cgroup stay when the value goes.
    pub fn leave(self) {
        std::mem::forget(self);
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

fn oom_kills(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// As [`ControlGroup::oom_kills`], of one that [`find`] has found.
pub fn oom_kills_in(group: &Path) -> u64 {
    fs::read_to_string(group.join("memory.events")).map_or(0, |text| oom_kills(&text))
}

/// Removes the cgroup that a killed monitor left; `path` is what it recorded.
pub fn remove(id: &str, path: &Path) {
    if !delegation::is_own(id, path) {
        return;
    }
    if let Some(path) = find(path) {
        remove_found(&path);
    }
}

/// Ends what is in one that [`find`] has found, and removes it.
pub fn remove_found(group: &Path) {
    let _ = fs::write(group.join("cgroup.freeze"), "0");
    let _ = fs::write(group.join("cgroup.kill"), "1");
    remove_tree(group);
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

/// Gives a container that runs other limits.
///
/// # Errors
/// It has no cgroup where they can be set, or the kernel refuses one.
pub fn change_limits(
    name: &str,
    recorded: Option<&Path>,
    before: &[Setting],
    after: &[Setting],
) -> Result<()> {
    let path = recorded.and_then(find).ok_or_else(|| none_error(name))?;
    let there = cgroup::controllers(&path);
    let lacking = crate::limits::settings::controllers(after).into_iter().find(|own| !there.contains(own));
    if let Some(controller) = lacking {
        return Err(Error::new(format!("cannot limit container {name} while it runs"))
            .because(format!("its control group has no controller {controller}"))
            .hint(
                "stop it, update it, and start it again: it starts where there is one, or says what lacks",
            ));
    }
    write::replace(open(&path)?.as_fd(), before, after)
}

/// Sets limits of one that [`find`] has found.
///
/// # Errors
/// The kernel refuses one.
pub fn limit(group: &Path, settings: &[Setting]) -> Result<()> {
    write::write_all(open(group)?.as_fd(), settings)
}

fn open(group: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, group, flags, Mode::empty())
        .map_err(io::Error::from)
        .step(|| format!("cannot open `{}`", group.display()))
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
