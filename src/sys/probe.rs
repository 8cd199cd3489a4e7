//! What the kernel allows, found by trying it in a process that is thrown away: nothing of a trial is left in
//! the caller, whose namespaces are untouched.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is tried inside a fresh user and mount namespace.
#[derive(Debug, Clone, Copy)]
pub enum Trial<'a> {
    /// The namespaces themselves: one ID mapped, one mount call (AppArmor's restriction lets a namespace be
    /// made and takes its capabilities away), a hostname (podman's seccomp profile lets them be made, and refuses that).
    Namespaces,
    /// An overlay over `lower`, `upper`, `work` below this directory, mounted on its `merged`; `lower/d` is
    /// removed and made again, which takes a whiteout and an opaque directory.
    Overlay(&'a Path),
    /// A new procfs of an own PID namespace over /proc.
    Proc,
}

/// Where a trial stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TrialStep {
    Unshare = 1,
    Map,
    Propagation,
    EnterDirectory,
    MountOverlay,
    Whiteout,
    OpaqueDirectory,
    Fork,
    MountProc,
    Hostname,
}

impl TrialStep {
    const ALL: [Self; 10] = [
        Self::Unshare,
        Self::Map,
        Self::Propagation,
        Self::EnterDirectory,
        Self::MountOverlay,
        Self::Whiteout,
        Self::OpaqueDirectory,
        Self::Fork,
        Self::MountProc,
        Self::Hostname,
    ];

    /// What was being tried, as the object of "cannot".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Unshare => "make a user namespace",
            Self::Map => "map the caller's IDs into a user namespace",
            Self::Propagation => "change mounts in a user namespace",
            Self::EnterDirectory => "enter the directory of the trial",
            Self::MountOverlay => "mount an overlay in a user namespace",
            Self::Whiteout => "make a whiteout in an overlay",
            Self::OpaqueDirectory => "make an opaque directory in an overlay",
            Self::Fork => "start a process in a PID namespace",
            Self::MountProc => "mount a new procfs in a user namespace",
            Self::Hostname => "set a hostname in a user namespace",
        }
    }
}

/// Why a trial failed.
#[derive(Debug)]
pub enum TrialError {
    /// The trial's process could not be started or told nothing.
    NotTried(io::Error),
    Refused(TrialStep, io::Error),
}

/// Tries it in a child process and waits for its end (about a millisecond).
///
/// # Errors
/// [`TrialError::Refused`] with the step and the system call's error, [`TrialError::NotTried`] where there was
/// no trial at all.
pub fn attempt(trial: Trial<'_>) -> Result<(), TrialError> {
    let prepared = Prepared::new(trial).map_err(TrialError::NotTried)?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| TrialError::NotTried(e.into()))?;
    // SAFETY: the child makes async-signal-safe system calls on memory prepared before the fork and leaves by
    // _exit, so it is sound in a threaded process, too (the tests).
    let child = match unsafe { libc::fork() } {
        -1 => return Err(TrialError::NotTried(io::Error::last_os_error())),
        // SAFETY: this is the child of the fork above.
        0 => unsafe { prepared.run(writer.as_raw_fd()) },
        child => child,
    };
    drop(writer);
    let verdict = read_verdict(reader);
    let mut status = 0;
    // SAFETY: `child` is our own child and `status` a valid place.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    verdict
}

fn read_verdict(reader: OwnedFd) -> Result<(), TrialError> {
    let mut verdict = Vec::with_capacity(5);
    File::from(reader).read_to_end(&mut verdict).map_err(TrialError::NotTried)?;
    let told_nothing = || TrialError::NotTried(io::Error::other("the process of the trial was killed"));
    let (step, errno) = verdict.split_first().ok_or_else(told_nothing)?;
    if *step == 0 {
        return Ok(());
    }
    let step = TrialStep::ALL.into_iter().find(|s| *s as u8 == *step).ok_or_else(told_nothing)?;
    let errno = i32::from_ne_bytes(errno.try_into().map_err(|_| told_nothing())?);
    Err(TrialError::Refused(step, io::Error::from_raw_os_error(errno)))
}

/// Everything the child needs, allocated before the fork.
struct Prepared {
    uid_map: CString,
    gid_map: CString,
    kind: Kind,
}

enum Kind {
    Namespaces,
    Overlay { directory: CString },
    Proc,
}

impl Prepared {
    fn new(trial: Trial<'_>) -> io::Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let kind = match trial {
            Trial::Namespaces => Kind::Namespaces,
            Trial::Overlay(path) => Kind::Overlay { directory: CString::new(path.as_os_str().as_bytes())? },
            Trial::Proc => Kind::Proc,
        };
        Ok(Self {
            uid_map: CString::new(format!("0 {uid} 1"))?,
            gid_map: CString::new(format!("0 {gid} 1"))?,
            kind,
        })
    }

    /// # Safety
    /// To be called in the child of a fork only: it never returns.
    unsafe fn run(&self, report: RawFd) -> ! {
        // SAFETY: see above; the functions called hold to the same rule.
        unsafe {
            let verdict = self.steps();
            let mut message = [0_u8; 5];
            let mut length = 1;
            if let Err((step, errno)) = verdict {
                message[0] = step as u8;
                message[1..].copy_from_slice(&errno.to_ne_bytes());
                length = 5;
            }
            libc::write(report, message.as_ptr().cast(), length);
            libc::_exit(0);
        }
    }

    /// # Safety
    /// Changes the namespaces of the calling process.
    unsafe fn steps(&self) -> Result<(), (TrialStep, i32)> {
        let mut flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
        if matches!(self.kind, Kind::Proc) {
            flags |= libc::CLONE_NEWPID;
        }
        let null = std::ptr::null();
        // SAFETY: every pointer is a NUL-terminated string that outlives the call, or null where mount(2) allows it.
        unsafe {
            check(TrialStep::Unshare, libc::unshare(flags))?;
            // Absent before Linux 3.19, where it isn't needed.
            let _ = write_file(c"/proc/self/setgroups", c"deny");
            check(TrialStep::Map, write_file(c"/proc/self/uid_map", &self.uid_map))?;
            check(TrialStep::Map, write_file(c"/proc/self/gid_map", &self.gid_map))?;
            let private = libc::MS_REC | libc::MS_PRIVATE;
            check(TrialStep::Propagation, libc::mount(null, c"/".as_ptr(), null, private, null.cast()))?;
            match &self.kind {
                Kind::Namespaces => hostname(),
                Kind::Overlay { directory } => overlay(directory),
                Kind::Proc => proc(),
            }
        }
    }
}

/// # Safety
/// Changes the UTS namespace of the calling process.
unsafe fn hostname() -> Result<(), (TrialStep, i32)> {
    // SAFETY: a constant string with its length.
    unsafe {
        // Where these namespaces are forbidden, that is a matter of their own.
        if libc::unshare(libc::CLONE_NEWUTS) != 0 {
            return Ok(());
        }
        check(TrialStep::Hostname, libc::sethostname(c"trial".as_ptr(), 5))
    }
}

/// # Safety
/// Changes the working directory and the mounts of the calling process.
unsafe fn overlay(directory: &CStr) -> Result<(), (TrialStep, i32)> {
    // SAFETY: constant strings and a borrowed one.
    unsafe {
        check(TrialStep::EnterDirectory, libc::chdir(directory.as_ptr()))?;
        let name = c"overlay".as_ptr();
        let data = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr".as_ptr();
        check(TrialStep::MountOverlay, libc::mount(name, c"merged".as_ptr(), name, 0, data.cast()))?;
        check(TrialStep::Whiteout, libc::rmdir(c"merged/d".as_ptr()))?;
        check(TrialStep::OpaqueDirectory, libc::mkdir(c"merged/d".as_ptr(), 0o700))
    }
}

/// # Safety
/// To be called in a process that has unshared its PID and mount namespaces.
unsafe fn proc() -> Result<(), (TrialStep, i32)> {
    // SAFETY: the grandchild makes one mount call on constant strings and leaves by _exit with its errno,
    // which fits: errno values a mount gives are below 256.
    unsafe {
        let init = libc::fork();
        check(TrialStep::Fork, if init < 0 { -1 } else { 0 })?;
        if init == 0 {
            let name = c"proc".as_ptr();
            let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            let failed = libc::mount(name, c"/proc".as_ptr(), name, flags, std::ptr::null()) != 0;
            libc::_exit(if failed { *libc::__errno_location() } else { 0 });
        }
        let mut status = 0;
        check(TrialStep::Fork, if libc::waitpid(init, &raw mut status, 0) < 0 { -1 } else { 0 })?;
        match libc::WEXITSTATUS(status) {
            0 if libc::WIFEXITED(status) => Ok(()),
            0 => Err((TrialStep::MountProc, libc::EINTR)),
            errno => Err((TrialStep::MountProc, errno)),
        }
    }
}

/// # Safety
/// Async-signal-safe; no demands.
unsafe fn write_file(path: &CStr, text: &CStr) -> libc::c_int {
    // SAFETY: both strings are valid for the calls.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return -1;
        }
        let wanted = text.count_bytes();
        let written = libc::write(fd, text.as_ptr().cast(), wanted);
        if written == wanted.cast_signed() { libc::close(fd) } else { -1 }
    }
}

fn check(step: TrialStep, result: libc::c_int) -> Result<(), (TrialStep, i32)> {
    if result == 0 {
        return Ok(());
    }
    // SAFETY: errno of the calling thread.
    Err((step, unsafe { *libc::__errno_location() }))
}

/// The C library in use and its version, such as `glibc 2.36`.
#[cfg(target_env = "gnu")]
pub fn libc_version() -> String {
    // SAFETY: gnu_get_libc_version(3) returns a static NUL-terminated string.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

/// The C library in use; others than glibc have no call that tells their version.
#[cfg(not(target_env = "gnu"))]
pub fn libc_version() -> String {
    if cfg!(target_env = "musl") { "musl".to_owned() } else { "unknown".to_owned() }
}
