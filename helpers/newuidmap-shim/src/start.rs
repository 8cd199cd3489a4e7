//! The program within std and the C library: a build that unwinds, a dynamic one, other processors than x86-64.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::sys::{self, Errno, Result};

pub fn main() {
    // std's own hook looks for RUST_BACKTRACE and reads debug information: not in here.
    std::panic::set_hook(Box::new(|_| {
        sys::print_error("newuidmap-shim: internal error\n");
        sys::exit_now(1)
    }));
    let words: Vec<Vec<u8>> = std::env::args_os().map(OsString::into_vec).collect();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    sys::exit_now(crate::serve(&words))
}

/// syscall(2).
///
/// # Safety
/// The arguments are what the kernel expects of this call.
pub unsafe fn call(name: libc::c_long, [one, two, three, four, five, six]: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller's.
    let returned = unsafe { libc::syscall(name, one, two, three, four, five, six) };
    // SAFETY: the location is this thread's own.
    usize::try_from(returned).map_err(|_| Errno(unsafe { *libc::__errno_location() }))
}
