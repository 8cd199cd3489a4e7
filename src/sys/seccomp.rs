//! seccomp(2).

use std::io;

use crate::seccomp::Instruction;

const _: () = {
    assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
    assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());
    assert!(std::mem::offset_of!(Instruction, code) == std::mem::offset_of!(libc::sock_filter, code));
    assert!(std::mem::offset_of!(Instruction, jt) == std::mem::offset_of!(libc::sock_filter, jt));
    assert!(std::mem::offset_of!(Instruction, jf) == std::mem::offset_of!(libc::sock_filter, jf));
    assert!(std::mem::offset_of!(Instruction, k) == std::mem::offset_of!(libc::sock_filter, k));
};

/// Puts the calling thread, and all that it starts, under the filter, for good (seccomp(2),
/// SECCOMP_SET_MODE_FILTER, Linux 3.17). It needs no_new_privs or CAP_SYS_ADMIN in its user namespace, else
/// EACCES. Does not allocate.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    install_with(program, 0)
}

/// The same with flags, SECCOMP_FILTER_FLAG_*.
pub fn install_with(program: &[Instruction], flags: u64) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` points to `length` instructions laid out as the kernel's (asserted above), which it
    // copies and does not change.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
