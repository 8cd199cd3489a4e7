//! What one process asks of another, or of a file, in the kernel's own form.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// statx(2) on what the descriptor stands for, with the caller's mask and AT_STATX_* flags.
pub fn status(fd: BorrowedFd<'_>, flags: i32, mask: u32) -> io::Result<libc::statx> {
    // SAFETY: statx is integers alone, for which all zeros are valid.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a valid empty string and `found` outlives the call.
    let done = unsafe {
        libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags | libc::AT_EMPTY_PATH, mask, &raw mut found)
    };
    if done == 0 { Ok(found) } else { Err(io::Error::last_os_error()) }
}

/// The bytes that statx(2) writes.
pub fn status_bytes(found: &libc::statx) -> &[u8] {
    // SAFETY: the structure is integers that fill it without a gap (its spare fields included), and it was
    // zeroed before it was filled.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(found).cast(), size_of::<libc::statx>()) }
}

/// The soft and the hard limit of a process (prlimit(2)); `u64::MAX` is unlimited.
pub fn limit(pid: i32, resource: u32) -> io::Result<(u64, u64)> {
    let mut found = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are null and to a live local value.
    match unsafe { libc::prlimit(pid, resource, std::ptr::null(), &raw mut found) } {
        0 => Ok((found.rlim_cur, found.rlim_max)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets both limits of a process.
pub fn set_limit(pid: i32, resource: u32, (soft, hard): (u64, u64)) -> io::Result<()> {
    let wanted = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointers are to a live local value and null.
    match unsafe { libc::prlimit(pid, resource, &raw const wanted, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
