//! The files that grant: read only if nobody but root can have written them.

use alloc::format;
use alloc::vec::Vec;

use newuidmap_shim::Refusal;

use crate::sys;

/// Beyond this many bytes a file is a mistake; the largest sites have some hundred thousand short lines.
const MAX_SIZE: usize = 16 << 20;

/// Reads a regular file of root's that no other user can write.
pub fn read_trusted(path: &str) -> Result<Vec<u8>, Refusal> {
    // O_NONBLOCK: a FIFO in its place must not hang a privileged process.
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = sys::open_path(path, flags).map_err(|error| format!("cannot open {path}: {error}"))?;
    let stat = sys::stat(&file).map_err(|error| format!("cannot stat {path}: {error}"))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(format!("{path} is not a regular file").into());
    }
    if stat.st_uid != 0 {
        return Err(format!("{path} is not owned by root").into());
    }
    // An ACL that lets anybody else write shows in the group bits.
    if stat.st_mode & 0o022 != 0 {
        return Err(format!("{path} can be written by others than root").into());
    }
    let too_large = || Refusal::from(format!("{path} is larger than {MAX_SIZE} bytes"));
    let size = usize::try_from(stat.st_size).map_err(|_| too_large())?;
    if size > MAX_SIZE {
        return Err(too_large());
    }
    // It may have grown since.
    sys::read_to_end(&file, size, MAX_SIZE)
        .map_err(|error| format!("cannot read {path}: {error}"))?
        .ok_or_else(too_large)
}
