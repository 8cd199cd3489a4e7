//! What this machine offers, one module per fact: cheap, without side effects, shared by the automatic choices
//! of `sbx run` and by `sbx doctor` and `sbx info`. Each reads through paths that a test can replace.

pub mod apparmor;
pub mod cgroup;
pub mod filesystem;
pub mod fuse;
pub mod helpers;
pub mod overlay;
pub mod own_binary;
pub mod paths;
pub mod proc_mask;
pub mod programs;
pub mod security;
pub mod system;
pub mod tun;
pub mod userns;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whether a device node can be used, asked from the kernel by opening it for reading and writing, which for
/// /dev/fuse and /dev/net/tun has no effect until an ioctl(2) follows.
///
/// # Errors
/// Those of open(2): not there, no permission, or no driver behind it (ENODEV, ENXIO).
pub fn openable(device: &Path) -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(device)
        .map(drop)
}

/// Reads a file of /proc, whose size is not known before: into a buffer that mostly does, since the kernel makes
/// the text again for each piece that is read.
///
/// # Errors
/// Those of open(2) and read(2), and text that is not UTF-8.
pub fn read_proc(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::with_capacity(8 << 10);
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}
