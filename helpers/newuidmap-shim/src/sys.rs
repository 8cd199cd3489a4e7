//! The system calls, as safe functions.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;
use core::mem::MaybeUninit;

use newuidmap_shim::Refusal;

use crate::start::call;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the system calls are those of a 64-bit kernel, with 32-bit user IDs in one register each");

/// An errno; shown in the words of strerror(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

pub type Result<T> = core::result::Result<T, Errno>;

/// A descriptor of our own, closed with the value.
#[derive(Debug)]
pub struct Descriptor(i32);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's own, and nothing uses it afterwards.
        let _ = unsafe { call(libc::SYS_close, [number(self.0), 0, 0, 0, 0, 0]) };
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            libc::EPERM => "Operation not permitted",
            libc::ENOENT => "No such file or directory",
            libc::ESRCH => "No such process",
            libc::EIO => "Input/output error",
            libc::EBADF => "Bad file descriptor",
            libc::EAGAIN => "Resource temporarily unavailable",
            libc::ENOMEM => "Cannot allocate memory",
            libc::EACCES => "Permission denied",
            libc::ENXIO => "No such device or address",
            libc::ENODEV => "No such device",
            libc::ENOTDIR => "Not a directory",
            libc::EISDIR => "Is a directory",
            libc::EINVAL => "Invalid argument",
            libc::ENFILE => "Too many open files in system",
            libc::EMFILE => "Too many open files",
            libc::ENOTTY => "Inappropriate ioctl for device",
            libc::ENAMETOOLONG => "File name too long",
            libc::ENOSYS => "Function not implemented",
            libc::ELOOP => "Too many levels of symbolic links",
            libc::EOVERFLOW => "Value too large for defined data type",
            libc::ESTALE => "Stale file handle",
            number => return write!(f, "error number {number}"),
        };
        f.write_str(words)
    }
}

/// The register of an argument that is an `int` or `unsigned int` of the kernel's.
pub fn number(value: i32) -> usize {
    value as isize as usize
}

/// Puts /dev/null where the caller closed standard input, output or error, so that no file opened
/// later takes its number, and an error message never lands in a map.
pub fn open_missing_streams() -> core::result::Result<(), Refusal> {
    for stream in 0..=2 {
        // SAFETY: F_GETFD takes no pointer; a closed number is what it is asked about.
        if unsafe { call(libc::SYS_fcntl, [stream, number(libc::F_GETFD), 0, 0, 0, 0]) }.is_err() {
            // The lowest free number is `stream`, for those below are open.
            let opened = open(libc::AT_FDCWD, c"/dev/null", libc::O_RDWR).map(core::mem::ManuallyDrop::new);
            if opened.is_ok_and(|opened| opened.0 as usize == stream) {
                continue;
            }
            return Err("cannot open /dev/null in the place of a closed stream".into());
        }
    }
    Ok(())
}

/// One write(2) to standard error. Nothing can be done if it fails.
pub fn print_error(line: &str) {
    // SAFETY: pointer and length are those of a live string.
    let _ = unsafe { call(libc::SYS_write, [2, line.as_ptr() as usize, line.len(), 0, 0, 0]) };
}

pub fn exit_now(code: i32) -> ! {
    loop {
        // SAFETY: takes a number and does not return.
        let _ = unsafe { call(libc::SYS_exit_group, [number(code), 0, 0, 0, 0, 0]) };
    }
}

fn own_number(name: libc::c_long) -> u32 {
    // SAFETY: the calls below have no arguments, and cannot fail.
    unsafe { call(name, [0; 6]) }.map_or(u32::MAX, |id| id as u32)
}

/// The real user and group ID.
pub fn real_ids() -> (u32, u32) {
    (own_number(libc::SYS_getuid), own_number(libc::SYS_getgid))
}

pub fn effective_uid() -> u32 {
    own_number(libc::SYS_geteuid)
}

/// Sets real, effective and saved IDs at once; the group first, while there may be root's right to do so.
pub fn set_ids(uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (uid as usize, gid as usize);
    // SAFETY: the arguments are numbers.
    unsafe { call(libc::SYS_setresgid, [gid, gid, gid, 0, 0, 0]) }?;
    // SAFETY: the arguments are numbers.
    unsafe { call(libc::SYS_setresuid, [uid, uid, uid, 0, 0, 0]) }.map(drop)
}

/// Permitted capabilities outlive the next change of user IDs (PR_SET_KEEPCAPS, prctl(2)).
pub fn keep_capabilities() -> Result<()> {
    // SAFETY: the arguments are numbers.
    unsafe { call(libc::SYS_prctl, [number(libc::PR_SET_KEEPCAPS), 1, 0, 0, 0, 0]) }.map(drop)
}

pub fn forbid_dumps() -> Result<()> {
    // SAFETY: the arguments are numbers.
    unsafe { call(libc::SYS_prctl, [number(libc::PR_SET_DUMPABLE), 0, 0, 0, 0, 0]) }.map(drop)
}

pub fn no_new_privileges() -> bool {
    // SAFETY: the arguments are numbers.
    unsafe { call(libc::SYS_prctl, [number(libc::PR_GET_NO_NEW_PRIVS), 0, 0, 0, 0, 0]) == Ok(1) }
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
pub fn permitted_capabilities() -> Result<u32> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapabilityData::default(); 2];
    let arguments = [&raw mut header as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: header and data live through the call and have the layout of version 3.
    unsafe { call(libc::SYS_capget, arguments) }?;
    Ok(data[0].permitted)
}

/// Sets permitted and effective capabilities among the lower 32; all others and the inheritable are dropped.
pub fn set_capabilities(permitted: u32, effective: u32) -> Result<()> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let data = [CapabilityData { effective, permitted, inheritable: 0 }, CapabilityData::default()];
    let arguments = [&raw mut header as usize, data.as_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: header and data live through the call and have the layout of version 3.
    unsafe { call(libc::SYS_capset, arguments) }.map(drop)
}

/// Opens a directory for look-ups alone; the last component may not be a symbolic link.
pub fn open_directory(base: Option<&Descriptor>, path: &str) -> Result<Descriptor> {
    let base = base.map_or(libc::AT_FDCWD, |base| base.0);
    open(base, &c_string(path)?, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
}

/// Opens a file by its absolute path.
pub fn open_path(path: &str, flags: i32) -> Result<Descriptor> {
    open(libc::AT_FDCWD, &c_string(path)?, flags)
}

/// Opens a file relative to a directory.
pub fn open_at(directory: &Descriptor, path: &CStr, flags: i32) -> Result<Descriptor> {
    open(directory.0, path, flags)
}

fn c_string(path: &str) -> Result<CString> {
    CString::new(path).map_err(|_| Errno(libc::EINVAL))
}

fn open(base: i32, path: &CStr, flags: i32) -> Result<Descriptor> {
    let arguments = [number(base), path.as_ptr() as usize, number(flags | libc::O_CLOEXEC), 0, 0, 0];
    // SAFETY: the path is a C string; without O_CREAT the mode is not looked at.
    unsafe { call(libc::SYS_openat, arguments) }.map(own)
}

/// Of what a system call has just returned.
fn own(number: usize) -> Descriptor {
    Descriptor(number as i32)
}

/// Makes a descriptor of our own from one that the caller may have left open.
pub fn duplicate(from: i32) -> Result<Descriptor> {
    // SAFETY: the arguments are numbers; EBADF is the answer to one that is not open.
    unsafe { call(libc::SYS_fcntl, [number(from), number(libc::F_DUPFD_CLOEXEC), 3, 0, 0, 0]) }.map(own)
}

/// One read(2), again where a signal came first; how many bytes came.
pub fn read(file: &Descriptor, buffer: &mut [u8]) -> Result<usize> {
    let arguments = [number(file.0), buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    loop {
        // SAFETY: the buffer is borrowed through the call, and no more than its length is written.
        match unsafe { call(libc::SYS_read, arguments) } {
            Err(Errno(libc::EINTR)) => {}
            result => return result,
        }
    }
}

/// Reads a file to its end, which is an error beyond `most` bytes: then the answer is none.
pub fn read_to_end(file: &Descriptor, expected: usize, most: usize) -> Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let mut length = 0;
    // One byte more: the last read then finds the end without another buffer.
    text.resize(expected.min(most) + 1, 0);
    loop {
        match read(file, &mut text[length..])? {
            0 => {
                text.truncate(length);
                return Ok(Some(text));
            }
            count => length += count,
        }
        if length > most {
            return Ok(None);
        }
        if length == text.len() {
            text.resize(length * 2, 0);
        }
    }
}

/// One write(2): the kernel takes a map as a whole or not at all.
pub fn write(file: &Descriptor, text: &[u8]) -> Result<usize> {
    // SAFETY: the text is borrowed through the call.
    unsafe { call(libc::SYS_write, [number(file.0), text.as_ptr() as usize, text.len(), 0, 0, 0]) }
}

pub fn is_procfs(descriptor: &Descriptor) -> Result<bool> {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    let arguments = [number(descriptor.0), found.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: the buffer lives through the call and has the kernel's layout.
    unsafe { call(libc::SYS_fstatfs, arguments) }?;
    // SAFETY: plain numbers, which all zero bytes are, too.
    Ok(unsafe { found.assume_init() }.f_type == libc::PROC_SUPER_MAGIC)
}

pub fn stat(descriptor: &Descriptor) -> Result<libc::stat> {
    stat_with(descriptor, c"", libc::AT_EMPTY_PATH)
}

/// stat(2) of what `path` leads to, links followed.
pub fn stat_at(directory: &Descriptor, path: &CStr) -> Result<libc::stat> {
    stat_with(directory, path, 0)
}

fn stat_with(directory: &Descriptor, path: &CStr, flags: i32) -> Result<libc::stat> {
    let mut found = MaybeUninit::<libc::stat>::zeroed();
    let (path, buffer) = (path.as_ptr() as usize, found.as_mut_ptr() as usize);
    // SAFETY: the path is a C string; the buffer lives through the call and has the kernel's layout.
    unsafe { call(libc::SYS_newfstatat, [number(directory.0), path, buffer, number(flags), 0, 0]) }?;
    // SAFETY: plain numbers, which all zero bytes are, too.
    Ok(unsafe { found.assume_init() })
}

/// Whether `path` is a symbolic link that leads somewhere, by reading its first byte.
pub fn is_link(directory: &Descriptor, path: &CStr) -> Result<()> {
    let mut byte = 0_u8;
    let arguments = [number(directory.0), path.as_ptr() as usize, &raw mut byte as usize, 1, 0, 0];
    // SAFETY: the path is a C string, and at most one byte goes into the buffer.
    unsafe { call(libc::SYS_readlinkat, arguments) }.map(drop)
}

/// The parent of a user namespace; EPERM if it is neither the caller's nor below it (ioctl_nsfs(2)).
pub fn parent_namespace(namespace: &Descriptor) -> Result<Descriptor> {
    // SAFETY: NS_GET_PARENT takes no argument; it returns a new descriptor, close-on-exec.
    unsafe { call(libc::SYS_ioctl, [number(namespace.0), libc::NS_GET_PARENT as usize, 0, 0, 0, 0]) }.map(own)
}

/// The user that made a user namespace (ioctl_nsfs(2)).
pub fn namespace_owner(namespace: &Descriptor) -> Result<u32> {
    let mut uid: libc::uid_t = 0;
    let arguments = [number(namespace.0), libc::NS_GET_OWNER_UID as usize, &raw mut uid as usize, 0, 0, 0];
    // SAFETY: NS_GET_OWNER_UID stores one uid_t, which lives through the call.
    unsafe { call(libc::SYS_ioctl, arguments) }?;
    Ok(uid)
}
