//! seccomp_unotify(2): system calls of other processes that a supervisor answers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use crate::seccomp::Instruction;
use crate::sys::process::{Clone, clone3, die_with_parent, exit_now};

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Notification {
    pub id: u64,
    /// The calling thread, as the PID namespace of the supervisor numbers it; 0 where it has no number there.
    pub tid: i32,
    /// AUDIT_ARCH_*.
    pub arch: u32,
    pub number: u32,
    pub arguments: [u64; 6],
}

/// What a call is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Value(i64),
    Errno(i32),
    /// The kernel carries the call out as if nobody had looked (Linux 5.5).
    Continue,
}

/// Room for the kernel's structures, should they ever grow (seccomp_unotify(2), SECCOMP_GET_NOTIF_SIZES).
#[repr(C, align(8))]
struct Room([u8; 512]);

/// Puts the calling thread, and all that it starts, under the filter and gives the descriptor (close-on-exec)
/// on which the calls arrive (Linux 5.0). Signals that do not kill wait until a received call is answered,
/// where the kernel can have it so (Linux 5.19).
///
/// # Errors
/// EBUSY where an outer filter has a listener already, EINVAL where the kernel has none, else as
/// [`super::seccomp::install`].
pub fn install(program: &[Instruction]) -> io::Result<OwnedFd> {
    let patient = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match install_with(program, patient) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            install_with(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
        }
        result => result,
    }
}

/// The same with flags of the caller's choice, SECCOMP_FILTER_FLAG_NEW_LISTENER among them.
///
/// # Errors
/// As [`install`].
pub fn install_with(program: &[Instruction], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` points to `length` instructions laid out as the kernel's (asserted in `sys::seccomp`),
    // which it copies and does not change.
    let fd =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made the descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The filter is not there yet.
const NOT_YET: i32 = -1;
/// It could not be installed.
const REFUSED: i32 = -2;
/// Whoever takes the listener has it.
const SENT: i32 = -3;
/// Nobody takes it.
const LOST: i32 = -4;
/// Some seconds.
const TURNS: u32 = 1 << 30;

/// [`install_with`], after which `send` hands the listener over. Its calls may be among those that the filter hands over or
/// forbids; so they are made by a process that is not under the filter and shares the descriptors. The caller makes no call
/// up to the moment when that has happened: the two talk by memory. SIGCHLD is ignored afterwards, so that nobody has to
/// wait for that process.
///
/// # Errors
/// As [`install`]; EPIPE where `send` failed.
pub fn install_and_send(
    program: &[Instruction],
    flags: libc::c_ulong,
    send: impl FnOnce(BorrowedFd<'_>) -> bool,
) -> io::Result<()> {
    let word = shared(NOT_YET)?;
    let parent = std::process::id();
    // SAFETY: a disposition of this process's own, without a handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    match clone3(libc::CLONE_FILES)? {
        Clone::Child => {
            if die_with_parent(parent).is_err() {
                exit_now(0);
            }
            let listener = loop {
                match word.load(Ordering::Acquire) {
                    NOT_YET => std::thread::sleep(Duration::from_micros(50)),
                    REFUSED => exit_now(0),
                    // SAFETY: the other process has just given up this descriptor of the table that both have.
                    number => break unsafe { OwnedFd::from_raw_fd(number) },
                }
            };
            let sent = send(listener.as_fd());
            drop(listener);
            word.store(if sent { SENT } else { LOST }, Ordering::Release);
            exit_now(0)
        }
        Clone::Parent { pidfd, .. } => drop(pidfd),
    }
    let listener =
        install_with(program, flags).inspect_err(|_| word.store(REFUSED, Ordering::Release))?.into_raw_fd();
    word.store(listener, Ordering::Release);
    for _ in 0..TURNS {
        match word.load(Ordering::Acquire) {
            SENT => return Ok(()),
            LOST => return Err(io::ErrorKind::BrokenPipe.into()),
            _ => std::hint::spin_loop(),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// A number that a process started from here on sees, too. It goes with the program: nothing unmaps it.
fn shared(value: i32) -> io::Result<&'static AtomicI32> {
    // SAFETY: a mapping of no file, wherever the kernel puts it.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<AtomicI32>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a page that stays mapped and is used in this way alone.
    let word = unsafe { &*place.cast::<AtomicI32>() };
    word.store(value, Ordering::Release);
    Ok(word)
}

/// Waits for the next call.
///
/// # Errors
/// ENOENT where the caller was killed meanwhile or nobody is left to call, EINTR.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let mut room = Room([0; 512]);
    // SAFETY: the buffer is zeroed, as the kernel wants it, and longer than its structure.
    let done = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, room.0.as_mut_ptr())
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in the structure, the buffer is aligned for it, and all of it is integers.
    let found = unsafe { &*room.0.as_ptr().cast::<libc::seccomp_notif>() };
    Ok(Notification {
        id: found.id,
        tid: found.pid.cast_signed(),
        arch: found.data.arch,
        number: found.data.nr.cast_unsigned(),
        arguments: found.data.args,
    })
}

/// Whether the call still waits, and so its thread has not ended since it arrived.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the pointer is to a live local value, which the kernel reads.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) == 0 }
}

/// Answers a call.
///
/// # Errors
/// ENOENT where its thread was killed.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    let mut room = Room([0; 512]);
    let (val, error, flags) = match answer {
        Answer::Value(value) => (value, 0, 0),
        Answer::Errno(errno) => (0, -errno, 0),
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    // SAFETY: the buffer is aligned for the structure and longer; the kernel reads what is written here.
    let done = unsafe {
        let response = room.0.as_mut_ptr().cast::<libc::seccomp_notif_resp>();
        response.write(libc::seccomp_notif_resp { id, val, error, flags });
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, response)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the caller a copy of a descriptor, whose number is the answer to its call (Linux 5.14).
///
/// # Errors
/// EINVAL before, EMFILE where the caller has too many, ENOENT where it was killed.
pub fn answer_with(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<()> {
    let request = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: descriptor.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
    };
    // SAFETY: the pointer is to a live local value, which the kernel reads; the descriptor is borrowed.
    let done = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD as _, &raw const request)
    };
    if done >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the two sides wake each other on one processor, as they never run at the same time (Linux 6.6).
/// Where the kernel cannot, nothing changes.
pub fn wake_synchronously(listener: BorrowedFd<'_>) {
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: the argument is a value, no pointer.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, SYNC_WAKE_UP) };
}
