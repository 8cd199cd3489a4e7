//! Interfaces, and descriptors that a started program keeps.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Brings the loopback interface up (netdevice(7), SIOCSIFFLAGS); the kernel then gives it 127.0.0.1 and ::1.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the network namespace.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq is plain data, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request outlives the call and its name ends in a zero byte.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets the program of `command` inherit descriptors under their own numbers, which must stay open until it is
/// started. Nothing changes in the calling process, so that no other child gets them.
pub fn inherit(command: &mut Command, fds: Vec<RawFd>) -> &mut Command {
    // SAFETY: the closure runs between fork and exec and makes async-signal-safe system calls only.
    unsafe {
        command.pre_exec(move || {
            for &fd in &fds {
                if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        })
    }
}

/// Runs `body` in a forked child that has joined the user and network namespaces of a process (setns(2) with a
/// pidfd, Linux 5.8); its return value is the exit code. For tests: a threaded process can't join a user
/// namespace itself.
#[cfg(test)]
pub fn forked_into(pid: i32, body: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the child allocates, which glibc allows after fork, and ends with _exit.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: plain system calls; the descriptor is used once and goes with the process.
            let joined = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as RawFd;
                libc::setns(pidfd, libc::CLONE_NEWUSER | libc::CLONE_NEWNET) == 0
            };
            let code = match joined {
                true => std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(98),
                false => 99,
            };
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        child => Ok(child),
    }
}
