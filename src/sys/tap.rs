//! A tap device's packets on their way to the program that reads them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// An instruction of classic BPF: code, jump if true, jump if false, operand (linux/filter.h).
pub type Instruction = (u16, u8, u8, u32);

/// Lets only packets through for which the program does not return 0 (linux/if_tun.h, TUNATTACHFILTER). `tap` is a
/// descriptor of the attached device. It holds for every packet that the device is given, also from raw sockets.
///
/// # Errors
/// EINVAL where it is no tap device or the program is not valid.
pub fn filter(tap: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    const TUNATTACHFILTER: u32 = 0x4010_54d5;
    let mut instructions: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: instructions.as_mut_ptr() };
    // SAFETY: the program and its instructions outlive the call, which copies them.
    match unsafe { libc::ioctl(tap.as_raw_fd(), TUNATTACHFILTER as _, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
