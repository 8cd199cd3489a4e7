//! The files that grant: read only if nobody but root can have written them.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use newuidmap_shim::Refusal;

use crate::sys;

/// Beyond this many bytes a file is a mistake; the largest sites have some hundred thousand short lines.
const MAX_SIZE: u64 = 16 << 20;

/// Reads a regular file of root's that no other user can write.
pub fn read_trusted(path: &str) -> Result<Vec<u8>, Refusal> {
    // O_NONBLOCK: a FIFO in its place must not hang a privileged process.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| format!("cannot open {path}: {}", sys::plain(&error)))?;
    let metadata = file.metadata().map_err(|error| format!("cannot stat {path}: {}", sys::plain(&error)))?;
    if !metadata.is_file() {
        return Err(format!("{path} is not a regular file").into());
    }
    if metadata.uid() != 0 {
        return Err(format!("{path} is not owned by root").into());
    }
    // An ACL that lets anybody else write shows in the group bits.
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("{path} can be written by others than root").into());
    }
    let too_large = || format!("{path} is larger than {MAX_SIZE} bytes");
    if metadata.len() > MAX_SIZE {
        return Err(too_large().into());
    }
    let mut text = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(MAX_SIZE + 1)
        .read_to_end(&mut text)
        .map_err(|error| format!("cannot read {path}: {}", sys::plain(&error)))?;
    // It may have grown since.
    if text.len() as u64 > MAX_SIZE {
        return Err(too_large().into());
    }
    Ok(text)
}
