//! Processes: making them, signalling them, and helpers that may not outlive their parent.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// One side of a fork.
pub enum Fork {
    Child,
    Parent(i32),
}

/// fork(2) of a single-threaded process.
///
/// # Errors
/// EAGAIN where RLIMIT_NPROC or the pids controller ends it, ENOMEM.
pub fn fork() -> io::Result<Fork> {
    debug_assert!(single_threaded(), "sbx forks only while it has one thread");
    // SAFETY: the process has one thread, so the child's memory is in a consistent state.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

fn single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.count() == 1)
}

/// linux/sched.h; it does not fit the C library's type of flags.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What clone3(2) made: in the parent the child's PID and a pidfd of it.
pub enum Clone {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// clone3(2) with `CLONE_PIDFD`, in the manner of fork: the child continues on a copy of this stack.
/// `flags` are CLONE_NEW* and CLONE_PARENT. Linux 5.3.
///
/// # Errors
/// Those of clone(2): EPERM and ENOSPC where user namespaces are restricted, EINVAL where a flag is unknown.
pub fn clone3(flags: i32) -> io::Result<Clone> {
    clone3_into(flags, None)
}

/// The same with the child in another cgroup from its first moment on, which spares the kernel the move (Linux 5.7).
///
/// # Errors
/// Those of [`clone3`], and of a write to that group's cgroup.procs.
pub fn clone3_into(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Clone> {
    let mut pidfd: i32 = -1;
    let parent = flags & libc::CLONE_PARENT != 0;
    let arguments = libc::clone_args {
        flags: u64::from(flags as u32 | libc::CLONE_PIDFD as u32) | cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // With CLONE_PARENT the exit signal is the caller's own and the field has to be 0.
        exit_signal: if parent { 0 } else { libc::SIGCHLD as u64 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |group| group.as_raw_fd() as u64),
    };
    // SAFETY: no stack and no CLONE_VM: the child works on its own copy of this memory, as after fork(2).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Clone::Child),
        pid => {
            // SAFETY: the kernel has just stored a descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Clone::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// _exit(2): no atexit handlers, no flushing of buffers that belong to the parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; no invariant can be broken afterwards.
    unsafe { libc::_exit(code) }
}

/// kill(2) with any signal number. The caller makes sure that `pid` is still the process it means: an
/// unreaped child of its own, or a process group that one leads (negative).
pub fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::kill(pid, signal) })
}

/// pidfd_send_signal(2) with any signal number. Linux 5.1.
pub fn send_signal_to(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and the siginfo pointer may be null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result as i32)
}

/// Marks every descriptor from `first` up as close-on-exec (close_range(2), Linux 5.11).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: no descriptor is closed, so none that is owned elsewhere becomes invalid.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) {
        return Err(error);
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if fd >= first {
            // SAFETY: sets a flag; a number that is closed meanwhile gives EBADF, which does not matter.
            unsafe { libc::fcntl(fd as i32, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Closes every descriptor but those in `keep`, which is sorted here. For processes that live on after a
/// fork and must not hold pipes of others open.
pub fn close_all_but(keep: &mut [i32]) {
    keep.sort_unstable();
    let mut first = 0_u32;
    for fd in keep.iter().map(|fd| *fd as u32).chain([u32::MAX]) {
        if fd > first {
            let last = if fd == u32::MAX { u32::MAX } else { fd - 1 };
            // SAFETY: called right after fork by a process that uses none of these descriptors any more
            // and ends with `exit_now`, so that no owner's drop runs on them.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if result != 0 {
                return close_one_by_one(keep);
            }
        }
        first = fd.saturating_add(1);
    }
}

/// Closes a descriptor that was inherited and is the parent's business alone, such as a lock: it is held as long as one copy
/// is open.
pub fn close_inherited(fd: BorrowedFd<'_>) {
    // SAFETY: called right after a fork by a process that ends with `exit_now` or an exec, so that no owner's drop runs on it,
    // and uses the number for nothing else.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// [`close_all_but`] before Linux 5.9, or below a filter that hides close_range(2).
fn close_one_by_one(keep: &[i32]) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| !keep.contains(fd)) {
        // SAFETY: as in `close_all_but`; the one of the directory itself is closed already, which gives EBADF.
        unsafe { libc::close(fd) };
    }
}

/// Leaks the descriptor into the programs that this process executes.
pub fn keep_over_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).map_err(io::Error::from)
}

/// Opens every signal again: default dispositions and an empty mask, as a fresh program expects them.
pub fn reset_signals() {
    // SAFETY: plain system calls on this process's own signal state with a zeroed, valid sigaction and set.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=libc::SIGRTMAX() {
            libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Overwrites the arguments that this process was executed with, as /proc/PID/cmdline shows them to everybody
/// who sees the process, with `title`. `std::env::args` gives nothing of use afterwards.
///
/// # Errors
/// Where /proc does not tell where they are.
pub fn forget_arguments(title: &CStr) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // proc_pid_stat(5), fields 48 and 49; the first after the name is the third.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(45);
    let mut address = || fields.next().and_then(|field| field.parse::<usize>().ok()).unwrap_or(0);
    let (start, end) = (address(), address());
    if start == 0 || end <= start {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let title = title.to_bytes();
    let shown = title.len().min(end - start - 1);
    // SAFETY: the kernel put the arguments into this range of the writable stack at the exec, nothing else is
    // in it, and no Rust reference into it exists: std copies from it when it is asked for the arguments.
    unsafe {
        std::ptr::write_bytes(start as *mut u8, 0, end - start);
        std::ptr::copy_nonoverlapping(title.as_ptr(), start as *mut u8, shown);
    }
    Ok(())
}

/// Gives up the caller's session keyring for an empty one of its own (keyctl(2),
/// KEYCTL_JOIN_SESSION_KEYRING).
///
/// # Errors
/// EDQUOT where the user's quota of keys is used up, ENOSYS and EPERM where keyrings are not to be had.
pub fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// setrlimit(2) with any RLIMIT_* number; `u64::MAX` is unlimited.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to a live local value.
    check(unsafe { libc::prlimit(0, resource, &raw const limit, std::ptr::null_mut()) })
}

/// Makes the command's process die with its parent (prctl(2), PR_SET_PDEATHSIG) in a process group of its
/// own, so that whatever it starts can be ended with it. The signal mask, which a monitor blocks, is reset.
///
/// The parent must be single-threaded: the kernel watches the parent *thread*.
pub fn bind_to_parent(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec and makes async-signal-safe system calls only.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() as u32 != parent {
                libc::_exit(125);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            Ok(())
        })
    }
}

/// The same for a process that this one forked itself.
///
/// # Errors
/// ESRCH when the parent is gone already.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // SAFETY: takes no arguments and cannot fail.
    if unsafe { libc::getppid() } as u32 != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Waits for a child to be reaped and gives its wait status decoded as a shell's exit code: the code itself,
/// or 128+N after signal N.
pub fn wait_for(pid: i32) -> io::Result<i32> {
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a live local value.
        let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if reaped == pid {
            return Ok(exit_code(status));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Reaps one ended child, if there is one: its PID and exit code.
pub fn reap_any() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: the pointer is to a live local value.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, exit_code(status)))
}

fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// The namespace in which a user namespace was made (ioctl_ns(2), NS_GET_PARENT; Linux 4.9).
///
/// # Errors
/// EPERM where that is not below the caller's own.
pub fn parent_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const NS_GET_PARENT: u32 = 0xb702;
    // SAFETY: the ioctl takes no argument.
    let parent = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT as _) };
    if parent < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made the descriptor, close-on-exec, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(parent) })
}

/// Takes what a caller may have set and a program that waits for its children and writes files cannot use:
/// with SIGCHLD ignored no child could be waited for, and a file that reaches RLIMIT_FSIZE is to be an error,
/// not the end. Programs that are started get the defaults back.
pub fn tame_signals() {
    // SAFETY: plain system calls on this process's own signal state with a zeroed, valid sigaction.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut());
        action.sa_sigaction = libc::SIG_IGN;
        libc::sigaction(libc::SIGXFSZ, &raw const action, std::ptr::null_mut());
    }
}

/// Whether the process behind a pidfd has ended.
pub fn has_ended(pidfd: impl AsFd) -> bool {
    let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1))
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
