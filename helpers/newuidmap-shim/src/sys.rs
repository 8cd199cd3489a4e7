//! The system calls that std does not have: the only `unsafe` of the program.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use newuidmap_shim::Refusal;

/// Puts /dev/null where the caller closed standard input, output or error, so that no file opened
/// later takes its number, and an error message never lands in a map. std does so today, but promises nothing.
pub fn open_missing_streams() -> Result<(), Refusal> {
    for stream in 0..=2 {
        // SAFETY: F_GETFD takes no pointer; a closed number is what it is asked about.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
            // SAFETY: the path is a C string. The lowest free number is `stream`, for those below are open.
            let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            if opened != stream {
                return Err("cannot open /dev/null in the place of a closed stream".into());
            }
        }
    }
    Ok(())
}

/// One write(2) to standard error. Nothing can be done if it fails.
pub fn print_error(line: &str) {
    // SAFETY: pointer and length are those of a live string.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// The real user and group ID.
pub fn real_ids() -> (u32, u32) {
    // SAFETY: both calls have no arguments and cannot fail.
    unsafe { (libc::getuid(), libc::getgid()) }
}

pub fn effective_uid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// Sets real, effective and saved IDs at once; the group first, while there may be root's right to do so.
pub fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the arguments are numbers.
    result(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: the arguments are numbers.
    result(unsafe { libc::setresuid(uid, uid, uid) })
}

/// Permitted capabilities outlive the next change of user IDs (PR_SET_KEEPCAPS, prctl(2)).
pub fn keep_capabilities() -> io::Result<()> {
    // SAFETY: the arguments are numbers.
    result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })
}

pub fn forbid_dumps() -> io::Result<()> {
    // SAFETY: the arguments are numbers.
    result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

pub fn no_new_privileges() -> bool {
    // SAFETY: the arguments are numbers.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: 32 capabilities; version 3 has two of them.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// The lower 32 permitted capabilities of this process.
pub fn permitted_capabilities() -> io::Result<u32> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: header and data live through the call and have the layout of version 3.
    let returned = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(data[0].permitted) }
}

/// Sets permitted and effective capabilities among the lower 32; all others and the inheritable are dropped.
pub fn set_capabilities(permitted: u32, effective: u32) -> io::Result<()> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let data = [CapabilityData { effective, permitted, inheritable: 0 }, CapabilityData::default()];
    // SAFETY: header and data live through the call and have the layout of version 3.
    let returned = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens a directory for look-ups alone; the last component may not be a symbolic link.
pub fn open_directory(base: Option<BorrowedFd<'_>>, path: &str) -> io::Result<OwnedFd> {
    let base = base.map_or(libc::AT_FDCWD, |base| base.as_raw_fd());
    open(base, &CString::new(path)?, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
}

/// Opens a file relative to a directory.
pub fn open_at(directory: BorrowedFd<'_>, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    open(directory.as_raw_fd(), path, flags)
}

fn open(base: RawFd, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string; without O_CREAT there is no fourth argument.
    own(unsafe { libc::openat(base, path.as_ptr(), flags | libc::O_CLOEXEC) })
}

/// Makes a descriptor of our own from one that the caller may have left open.
pub fn duplicate(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the arguments are numbers; EBADF is the answer to one that is not open.
    own(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })
}

pub fn is_procfs(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: all zero bytes are a valid statfs.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the buffer lives through the call.
    result(unsafe { libc::fstatfs(descriptor.as_raw_fd(), &raw mut buffer) })?;
    Ok(buffer.f_type == libc::PROC_SUPER_MAGIC)
}

pub fn stat(descriptor: BorrowedFd<'_>) -> io::Result<libc::stat> {
    // SAFETY: all zero bytes are a valid stat.
    let mut buffer: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the buffer lives through the call.
    result(unsafe { libc::fstat(descriptor.as_raw_fd(), &raw mut buffer) })?;
    Ok(buffer)
}

/// stat(2) of what `path` leads to, links followed.
pub fn stat_at(directory: BorrowedFd<'_>, path: &CStr) -> io::Result<libc::stat> {
    // SAFETY: all zero bytes are a valid stat.
    let mut buffer: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path a C string, and the buffer lives through the call.
    result(unsafe { libc::fstatat(directory.as_raw_fd(), path.as_ptr(), &raw mut buffer, 0) })?;
    Ok(buffer)
}

/// Whether `path` is a symbolic link that leads somewhere, by reading its first byte.
pub fn is_link(directory: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    let mut byte = [0u8; 1];
    // SAFETY: the descriptor is open, the path a C string, and at most one byte goes into the buffer.
    let count =
        unsafe { libc::readlinkat(directory.as_raw_fd(), path.as_ptr(), byte.as_mut_ptr().cast(), 1) };
    if count == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The parent of a user namespace; EPERM if it is neither the caller's nor below it (ioctl_nsfs(2)).
pub fn parent_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: NS_GET_PARENT takes no argument and returns a new descriptor.
    own(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_PARENT) })
}

/// The user that made a user namespace (ioctl_nsfs(2)).
pub fn namespace_owner(namespace: BorrowedFd<'_>) -> io::Result<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: NS_GET_OWNER_UID stores one uid_t, which lives through the call.
    result(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_OWNER_UID, &raw mut uid) })?;
    Ok(uid)
}

fn result(returned: i32) -> io::Result<()> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn own(returned: i32) -> io::Result<OwnedFd> {
    result(returned)?;
    // SAFETY: a system call just returned this descriptor, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(returned) })
}

/// The words of an error without std's ` (os error N)`.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
