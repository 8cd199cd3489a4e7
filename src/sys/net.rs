//! Interfaces, and descriptors that a started program keeps.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Brings the loopback interface of the caller's network namespace up; the kernel then gives it 127.0.0.1 and ::1.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the network namespace.
pub fn loopback_up() -> io::Result<()> {
    loopback_up_by(interfaces()?.as_fd())
}

/// A socket by which the interfaces of the caller's network namespace are reached (netdevice(7)), by others too.
pub fn interfaces() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Brings the loopback interface of a socket's network namespace up (netdevice(7), SIOCSIFFLAGS).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over that network namespace; who made the user namespace that it belongs to has it
/// (user_namespaces(7)).
pub fn loopback_up_by(socket: BorrowedFd<'_>) -> io::Result<()> {
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

/// Calls `body` in another network namespace (setns(2)): on a thread of its own, which ends with it. The calling thread
/// never leaves its namespace, not for a moment, since others find the process's by `/proc/PID/ns/net`: slirp4netns that
/// is started meanwhile would connect the wrong one. Sockets that `body` opens stay in the other namespace, and
/// `/proc/sys/net` is that of the other.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over that namespace, EINVAL where the descriptor is of no network namespace, EAGAIN where no
/// thread is to be had; `body` is not called then.
pub fn within<T: Send>(namespace: BorrowedFd<'_>, body: impl FnOnce() -> T + Send) -> io::Result<T> {
    let enter = || {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(body())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, enter)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
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

/// Forks a process that serves a container's network from inside: in the user and network namespace of the process
/// `target` (setns(2) with a pidfd, Linux 5.8), with the standard streams, the descriptors `keep` and no other, in
/// a process group of its own. The return value of `body` is its exit code.
///
/// # Errors
/// That of fork(2). A process that can't enter the namespaces ends with 99.
pub fn fork_into(target: i32, keep: &[RawFd], body: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the caller is single-threaded, or a test; the child ends with _exit.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = match enter(target, keep) {
                Ok(()) => std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(98),
                Err(_) => 99,
            };
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        child => Ok(child),
    }
}

fn enter(target: i32, keep: &[RawFd]) -> io::Result<()> {
    let ok = |result: libc::c_long| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: plain system calls without pointers; the pidfd is used before it is closed with the rest.
    unsafe {
        ok(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into())?;
        ok(libc::setpgid(0, 0).into())?;
        ok(libc::prctl(libc::PR_SET_NAME, c"sbx-relay".as_ptr()).into())?;
        let pidfd = ok(libc::syscall(libc::SYS_pidfd_open, target, 0))?;
        ok(libc::setns(pidfd as RawFd, libc::CLONE_NEWUSER | libc::CLONE_NEWNET).into())?;
    }
    close_all_but(keep)
}

/// For a forked process that has entered where it serves: its standard streams become /dev/null, and it loses every
/// capability (capset(2)) and the way to new privileges, and cannot be traced from the user namespace that it is in:
/// it holds sockets of the host.
pub fn seclude() -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let header: [u32; 2] = [0x2008_0522, 0]; // _LINUX_CAPABILITY_VERSION_3, this process
    let none = [0_u32; 6];
    // SAFETY: no pointers but the two arrays, which have the layout and size that version 3 asks for.
    let done = unsafe {
        (0..3).all(|stream| libc::dup2(null.as_raw_fd(), stream) == stream)
            && libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor above standard error that is not in `keep` (close_range(2), Linux 5.9).
fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut first: u32 = 3;
    for fd in keep.into_iter().filter_map(|fd| u32::try_from(fd).ok()).filter(|fd| *fd >= 3).chain([u32::MAX])
    {
        if fd > first {
            // SAFETY: the process is a child that goes on with the kept descriptors alone.
            if unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}
